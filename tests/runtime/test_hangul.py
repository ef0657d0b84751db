"""Exact Hangul, however an answer is cut: every syllable, Jamo, decomposed text, emoji.

Through the byte fallback of SentencePiece and byte-level BPE, token by token. The tokens are what
llama.cpp makes of the texts; the engine is a stand-in that says them, and where the real one is
asked, a grammar leaves it nothing else to say.
"""

from __future__ import annotations

import codecs
import unicodedata
from collections.abc import Iterator
from typing import Any

import pytest
import runtime_models
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime_models import vocabulary, write_random
from test_llama import load_vocabulary

from komt_local import Model
from komt_local.engine import Outcome
from komt_local.llama import NativeModel
from komt_local.model.answers import Ask, events, fold
from komt_local.scheduler import Task
from komt_local.schema.grammar import quoted
from komt_local.types import Event, Sampling, Timings

SYLLABLES = "".join(map(chr, range(0xAC00, 0xD7A4)))
JAMO = "".join(map(chr, [*range(0x1100, 0x1200), *range(0x3131, 0x318F), *range(0xFFA1, 0xFFDD)]))
EMOJI = "👍🏽👨‍👩‍👧‍👦🇰🇷❤️🫡"
ALL = {
    "syllables": SYLLABLES,
    "jamo": JAMO,
    "decomposed": unicodedata.normalize("NFD", SYLLABLES[::7]),
    "emoji": EMOJI * 3,
    "mixed": "안녕 Hello\n훈민정음 ㅋㅋ 각🫡한" + EMOJI,
}


@pytest.fixture(scope="module", params=["llama-spm", "gpt-2"])
def native(request: pytest.FixtureRequest) -> Iterator[NativeModel]:
    model = load_vocabulary(request.param)
    yield model
    model.close()


class Says:
    """An engine whose every answer is the tokens that it was made with."""

    def __init__(self, tokens: list[int]) -> None:
        self.tokens = tokens
        self.n_said = self.n_cancelled = 0

    def submit(self, prompt: list[int], sampling: Sampling, **options: Any) -> Says:
        self.task, self.likelihoods, self.n_said = Task.of(prompt), list[Any](), 0
        self.limit = options["max_tokens"] or len(self.tokens)
        return self

    def __iter__(self) -> Iterator[int]:
        for token in self.tokens[: self.limit]:
            self.n_said += 1
            yield token
        reason = "length" if self.limit < len(self.tokens) else "stop"
        self.outcome = Outcome(reason, 1, 0, self.n_said, Timings())  # type: ignore[arg-type]

    def cancel(self) -> None:
        self.n_cancelled += 1

    def timings(self) -> Timings:
        return Timings()


def streamed(native: NativeModel, engine: Says, **ask: Any) -> Iterator[Event]:
    request = Ask(
        **{
            "tokens": [1],
            "sampling": Sampling(),
            "max_tokens": None,
            "stops": (),
            "end_tokens": frozenset[int](),
            "drops_first_space": native.is_sentencepiece,
            **ask,
        }
    )
    return events(engine, request, native.piece, lambda _: None, lambda *_: None)  # type: ignore[arg-type]


def characters(raw: bytes) -> str:
    """The whole characters at the start, and one U+FFFD for what is left of the next."""
    return raw.decode("utf-8", "replace")


def spelled(native: NativeModel, tokens: list[int]) -> bytes:
    raw = b"".join(native.piece(token) for token in tokens)
    return raw.removeprefix(b" ") if native.is_sentencepiece else raw


@pytest.mark.parametrize("name", ALL)
def test_every_character_arrives_whole_and_in_order(native: NativeModel, name: str) -> None:
    text = ALL[name]
    tokens = native.tokenize(text)
    assert spelled(native, tokens).decode() == text
    told = list(streamed(native, Says(tokens)))
    assert "".join(event.text for event in told) == text
    assert not any("\ufffd" in event.text for event in told)
    assert told[-1].finish_reason == "stop"
    # Nothing waits longer than its character: an event has all that its token completes.
    decode = codecs.getincrementaldecoder("utf-8")().decode
    pieces = [native.piece(token) for token in tokens]
    pieces[0] = pieces[0].removeprefix(b" ") if native.is_sentencepiece else pieces[0]
    completed = [decode(piece) for piece in pieces]
    assert [event.text for event in told[:-1]] == [new for new in completed if new]


@pytest.mark.parametrize("name", ["mixed", "emoji"])
def test_a_limit_at_every_token_shows_what_came_and_no_more(native: NativeModel, name: str) -> None:
    tokens = native.tokenize(ALL[name])
    for limit in range(1, len(tokens)):
        answer = fold(streamed(native, Says(tokens), max_tokens=limit))
        assert answer.text == characters(spelled(native, tokens[:limit]))
        assert (answer.finish_reason, answer.usage.completion_tokens) == ("length", limit)


@pytest.mark.parametrize("name", ["mixed", "emoji"])
def test_cancelling_at_every_token_loses_no_whole_character(native: NativeModel, name: str) -> None:
    tokens = native.tokenize(ALL[name])
    for n_events in range(1, 20):
        engine = Says(tokens)
        stream = streamed(native, engine)
        shown = [event.text for _, event in zip(range(n_events), stream, strict=False)]
        stream.close()  # type: ignore[attr-defined]
        assert engine.n_cancelled == 1
        assert ALL[name].startswith("".join(shown)) and "\ufffd" not in "".join(shown)
        whole = spelled(native, tokens[: engine.n_said]).decode("utf-8", "ignore")
        assert "".join(shown) == whole


HANGUL = st.text(st.sampled_from(SYLLABLES + JAMO[:40] + "👍🏽\n 가나다a."), max_size=30)


@given(text=HANGUL, data=st.data())
@settings(max_examples=100, deadline=None)
def test_stops_of_hangul_cut_where_they_begin(
    native: NativeModel, text: str, data: st.DataObject
) -> None:
    cuts = data.draw(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 4)), max_size=3))
    stops = tuple(text[start : start + n] for start, n in cuts if text[start : start + n])
    tokens = native.tokenize(text)
    answer = fold(streamed(native, Says(tokens), stops=stops))
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops]
    assert answer.text == (text[: min(ends)[1]] if ends else text)


@pytest.fixture(scope="module", params=["llama-spm", "gpt-2"])
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Model]:
    path = tmp_path_factory.mktemp("hangul") / "model.gguf"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime_models, "vocabulary", lambda: vocabulary(request.param))
        write_random(path, n_layer=1)
    with Model.load(path, n_ctx=1024, threads=1) as model:
        yield model


@pytest.mark.parametrize("text", [SYLLABLES[::500], unicodedata.normalize("NFD", "각밟"), EMOJI])
def test_the_real_engine_under_a_grammar_that_has_it_say_this(model: Model, text: str) -> None:
    grammar = f"root ::= {quoted(text)}"
    whole = model.complete("안녕", grammar=grammar, temperature=0)
    assert (whole.text, whole.finish_reason) == (text, "stop")
    stopped = model.complete("안녕", grammar=grammar, temperature=0, stop=text[1:3])
    assert stopped.text == text[:1]
    for limit in range(1, 8):
        cut = model.complete("안녕", grammar=grammar, temperature=0, max_tokens=limit).text
        assert text.startswith(cut.rstrip("\ufffd")) and cut.count("\ufffd") <= 1
    stream = model.stream_completion("안녕", grammar=grammar, temperature=0)
    assert text.startswith(next(stream).text)
    stream.close()
