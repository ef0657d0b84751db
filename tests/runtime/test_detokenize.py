"""Bytes to text: whole syllables, nothing dropped, no stop string let through."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from komt_local.detokenize import TextStream

TEXTS = st.text(alphabet="ab한글👍🏽\n ", max_size=30)
STOPS = st.lists(st.text(alphabet="ab한글👍\n", min_size=1, max_size=4), max_size=3)


def deltas(chunks: list[bytes], stops: list[str]) -> list[str]:
    stream = TextStream(stops)
    return [*(stream.feed(chunk) for chunk in chunks), stream.finish()]


def cut_at_first_stop(text: str, stops: list[str]) -> str:
    """What is left, read one character at a time: the plainest definition there is."""
    for end in range(1, len(text) + 1):
        ended = [stop for stop in stops if text[:end].endswith(stop)]
        if ended:
            return text[: end - max(map(len, ended))]
    return text


@st.composite
def chunked(draw: st.DrawFn, raw: st.SearchStrategy[bytes]) -> list[bytes]:
    data = draw(raw)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@given(chunked(TEXTS.map(str.encode)), STOPS)
@example([b"\xed", b"\x95", b"\x9c"], ["한"])
@example([b"abab", b"a"], ["aba", "b한"])
@example([b"aabb"], ["aabb", "ab"])
def test_deltas_are_the_text_cut_at_the_first_stop(chunks: list[bytes], stops: list[str]) -> None:
    text = b"".join(chunks).decode()
    assert "".join(deltas(chunks, stops)) == cut_at_first_stop(text, stops)


@given(chunked(st.binary(max_size=24)))
def test_any_bytes_come_out_as_if_decoded_at_once(chunks: list[bytes]) -> None:
    assert "".join(deltas(chunks, [])) == b"".join(chunks).decode("utf-8", "replace")


@given(chunked(TEXTS.map(str.encode)))
def test_no_syllable_is_ever_shown_broken(chunks: list[bytes]) -> None:
    assert not any("\ufffd" in delta for delta in deltas(chunks, []))


def test_text_is_shown_as_soon_as_it_cannot_become_a_stop() -> None:
    stream = TextStream(["###"])
    assert [stream.feed(piece) for piece in (b"a#", b"#b", b"##", b"#")] == ["a", "##b", "", ""]
    assert stream.stopped
    assert stream.feed(b"more") == stream.finish() == ""


def test_what_was_held_for_a_stop_is_shown_at_the_end() -> None:
    assert deltas([b"a##"], ["###"]) == ["a", "##"]


def test_an_incomplete_syllable_at_the_end_is_one_replacement() -> None:
    assert deltas(["한".encode()[:2]], []) == ["", "\ufffd"]


@pytest.mark.parametrize(
    ("pieces", "text"), [([b" ", b" a"], " a"), ([b"", b" a"], "a"), ([b"a", b" b"], "a b")]
)
def test_one_space_in_front_can_be_left_out(pieces: list[bytes], text: str) -> None:
    stream = TextStream(drops_first_space=True)
    assert "".join(map(stream.feed, pieces)) + stream.finish() == text
