"""Encoding: equal to llama.cpp's own parsing for harmless texts, and never a control token else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from komt_convert.ggml import Tokenizer
from komt_convert.gguf_file import read_header
from komt_local.prompts import Segment, encode

VOCABULARIES = Path(__file__).parent.parent / "vocab"


class FileVocabulary:
    """The vocabulary of a real file, tokenized by llama.cpp."""

    def __init__(self, name: str, control: Mapping[str, int], bos: int | None, *, legacy: bool):
        self.native = Tokenizer(VOCABULARIES / name)
        self.control_tokens = control
        self.bos = bos
        self.legacy = legacy

    def tokenize(self, text: str, parse_special: bool = False) -> list[int]:
        return self.native.encode(text, parse_special=parse_special)


LLAMA = {"<s>": 1, "</s>": 2}
GPT2 = {"<|endoftext|>": 50256}


@pytest.fixture(scope="module", params=["llama-spm", "gpt-2"])
def vocabulary(request: pytest.FixtureRequest) -> Iterator[FileVocabulary]:
    spm = request.param == "llama-spm"
    made = FileVocabulary(
        f"ggml-vocab-{request.param}.gguf",
        LLAMA if spm else GPT2,
        1 if spm else None,
        legacy=True,
    )
    with made.native:
        yield made


HANGUL = st.text(
    st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3)
    | st.sampled_from(" \n\t#:[]/<>|sinputo0123안녕?.ㅋ각\U0001f44d"),
    max_size=24,
)


@given(parts=st.lists(st.tuples(HANGUL, st.booleans()), max_size=6))
@settings(max_examples=200, deadline=None)
def test_plain_text_is_tokenized_in_one_piece(
    vocabulary: FileVocabulary, parts: list[tuple[str, bool]]
) -> None:
    segments = [Segment(text, ours) for text, ours in parts]
    whole = "".join(text for text, _ in parts)
    ids = encode(segments, vocabulary)
    if vocabulary.bos is not None:
        assert ids[0] == vocabulary.bos
        ids = ids[1:]
    assert ids == (vocabulary.tokenize(whole) if whole else [])


@given(before=HANGUL, typed=HANGUL, after=HANGUL)
@settings(max_examples=200, deadline=None)
def test_ids_equal_llama_cpps_own_parsing(
    vocabulary: FileVocabulary, before: str, typed: str, after: str
) -> None:
    written = (
        token in text for token in vocabulary.control_tokens for text in (before, typed, after)
    )
    assume(not any(written))  # what llama.cpp would parse is ours to refuse
    end = next(reversed(vocabulary.control_tokens))
    segments = [
        Segment(before + end, True),
        Segment(typed, False),
        Segment(end + after, True),
    ]
    expected = vocabulary.tokenize(before + end + typed + end + after, parse_special=True)
    if vocabulary.bos is not None:
        expected.insert(0, vocabulary.bos)
    assert encode(segments, vocabulary) == expected


def hostile(control: Mapping[str, int]) -> st.SearchStrategy[str]:
    """Texts that try: control tokens whole, doubled, and in halves that meet at a seam."""
    halves = [token[:cut] for token in control for cut in range(1, len(token))]
    halves += [token[cut:] for token in control for cut in range(1, len(token))]
    return st.lists(st.sampled_from([*control, *halves, " ", "\n", "안녕"]), max_size=6).map(
        "".join
    )


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_nothing_typed_becomes_a_control_token(
    vocabulary: FileVocabulary, data: st.DataObject
) -> None:
    control = vocabulary.control_tokens
    typed = data.draw(hostile(control))
    ours = data.draw(st.sampled_from(["", "### 질문: ", "<", "</", "<|endof", "\n"]))
    segments = [Segment(ours, True), Segment(typed, False), Segment("s> text|>", True)]
    ids = encode(segments, vocabulary)
    if vocabulary.bos is not None:
        ids = ids[1:]
    assert not set(ids) & set(control.values())


def test_bos_is_put_in_front_once(vocabulary: FileVocabulary) -> None:
    if vocabulary.bos is None:
        assert encode([Segment("a", True)], vocabulary) == vocabulary.tokenize("a")
        return
    once = encode([Segment("안녕", False)], vocabulary)
    twice = encode([Segment("<s>", True), Segment("안녕", False)], vocabulary)
    assert once == twice
    assert once.count(vocabulary.bos) == 1


def test_typed_bos_is_text() -> None:
    vocabulary = FileVocabulary("ggml-vocab-llama-spm.gguf", LLAMA, 1, legacy=True)
    with vocabulary.native:
        ids = encode([Segment("<s>안녕</s>", False)], vocabulary)
    assert ids.count(1) == 1
    assert 2 not in ids


@given(typed=HANGUL.filter(bool))
@settings(max_examples=200, deadline=None)
def test_without_legacy_no_space_follows_a_control_token(typed: str) -> None:
    vocabulary = FileVocabulary("ggml-vocab-llama-spm.gguf", LLAMA, 1, legacy=False)
    with vocabulary.native:
        ids = encode([Segment("</s>", True), Segment(typed, False)], vocabulary)
    assert ids[:2] == [1, 2]
    assert spelled(ids[2:]) == typed


def spelled(ids: list[int]) -> str:
    """The text of SentencePiece tokens, read off the vocabulary file."""
    tokens = read_header(VOCABULARIES / "ggml-vocab-llama-spm.gguf").metadata[
        "tokenizer.ggml.tokens"
    ]
    pieces = (tokens[i] for i in ids)
    return b"".join(
        bytes([int(piece[3:5], 16)])
        if re.fullmatch("<0x[0-9A-F]{2}>", piece)
        else piece.replace("▁", " ").encode()
        for piece in pieces
    ).decode()
