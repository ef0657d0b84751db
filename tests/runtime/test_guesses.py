"""Guessed tokens change how fast an answer comes, and nothing else."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime_models import token_ids

from komt_local.engine import Engine
from komt_local.engine.guesses import Lookup, Pace
from komt_local.llama import Context, NativeModel, Sampler
from komt_local.types import Sampling

GREEDY = Sampling(temperature=0)
TOKENS = st.lists(st.integers(0, 2), max_size=60)


@given(TOKENS, st.integers(1, 8))
def test_a_guess_is_what_followed_the_last_tokens_before(text: list[int], n_tokens: int) -> None:
    tokens = array("i", text[:3])
    lookup = Lookup(tokens)
    for token in text[3:]:
        tokens.append(token)
        lookup.follow()
        guess = list(lookup.guess(n_tokens))
        places = [at for at in range(3, len(tokens)) if tokens[at - 3 : at] == tokens[-3:]]
        assert bool(guess) == bool(places)
        assert not guess or any(_go_on(tokens, at, n_tokens) == guess for at in places)


def _go_on(tokens: array[int], at: int, n_tokens: int) -> list[int]:
    """What stands there, and over again if that is too short."""
    text = tokens[at:].tolist()
    return (text * n_tokens)[:n_tokens]


def test_confidence_follows_what_comes_true() -> None:
    tokens = array("i", [1, 2, 3, 4, 5, 6] * 2)
    lookup = Lookup(tokens)
    lookup.follow()
    for token in [1, 2, 3, 4, 5, 6] * 3:
        tokens.append(token)
        lookup.follow()
    sure = lookup.confidence
    assert sure > 0.95
    for token in (9, 1, 2, 3, 9, 1, 2, 3, 8):
        tokens.append(token)
        lookup.follow()
    assert lookup.confidence < sure - 0.2


def paced(cost: float, *sizes: int) -> Pace:
    """Batches of these sizes were measured; a further token costs so much of the first."""
    pace = Pace()
    for _ in range(30):
        for size in sizes:
            pace.note(size, 0.010 * (1 + cost * (size - 1)))
    return pace


def test_a_long_guess_wants_confidence_and_a_cheap_batch() -> None:
    pace = paced(0.3, 1, 8)
    assert pace.best_length(0.2, 16, 1, 1) == 0
    assert 0 < pace.best_length(0.7, 16, 1, 1) < pace.best_length(0.97, 16, 1, 1) <= 16
    assert paced(0.9, 8, 24).best_length(0.97, 16, 8, 8) == 0, "of eight answers, one gets on"
    assert pace.best_length(0.97, 0, 1, 1) == 0


@given(st.integers(1, 9), st.integers(1, 32))
def test_a_guess_fills_the_batch_up(n_tokens: int, limit: int) -> None:
    pace = paced(0.001, n_tokens, n_tokens + limit)
    length = pace.best_length(1.0, limit, 1, n_tokens)
    assert 0 < length <= limit
    assert (n_tokens + length) % 4 == 0 or n_tokens // 4 == (n_tokens + limit) // 4


def test_each_size_has_a_time_of_its_own() -> None:
    """As on two cores with Q4_K_M, where sixteen tokens take less time than thirteen."""
    pace = Pace()
    for size, seconds in ((1, 25.6), (4, 70.6), (8, 146.8), (12, 196.6), (16, 197.7)):
        pace.note(size, seconds)
    assert pace.best_length(0.97, 16, 1, 1) == 15
    assert pace.best_length(0.97, 14, 1, 1) != 15
    assert pace.seconds(10) == pytest.approx((146.8 + 196.6) / 2)


def test_what_was_not_measured_yet_is_estimated() -> None:
    pace = Pace()
    assert pace.best_length(0.97, 16, 1, 1) == 0, "nothing is known"
    pace.note(2, 0.010)
    assert pace.best_length(0.97, 16, 1, 1) == 0, "nor is anything that small"
    assert pace.best_length(0.97, 16, 2, 9) > 0
    pace.note(1, 0.010)
    assert pace.best_length(0.97, 16, 1, 1) > 0


def test_a_step_that_was_held_up_is_not_the_last_with_guesses() -> None:
    pace = Pace()
    pace.note(1, 0.010)
    for size in range(2, 18):
        pace.note(size, 0.500)
    assert pace.best_length(0.97, 16, 1, 1) == 0
    for _ in range(300):
        pace.note(1, 0.010)
    assert pace.best_length(0.97, 16, 1, 1) > 0


class Counting(Context):
    """Notes the tokens of each batch."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.batches: list[int] = []

    def decode(self, spans: Any) -> int:
        self.batches.append(sum(span[3] - span[2] for span in spans))
        return super().decode(spans)


@contextmanager
def engine_on(model: NativeModel, draft: int, **options: Any) -> Iterator[tuple[Engine, Counting]]:
    settings = {"n_ctx": 512, "exact": True, "n_outputs": 1 + draft, **options}
    context = Counting(model, **settings)
    engine = Engine(context, lambda wanted, prompt: Sampler(model, wanted, prompt), draft=draft)
    try:
        yield engine, context
    finally:
        engine.close()


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guesses are worth it whatever the clock says."""

    def know(pace: Pace) -> None:
        pace._seconds = {size: 1 + 0.05 * size for size in range(1, 100)}

    monkeypatch.setattr(Pace, "__init__", know)
    monkeypatch.setattr(Pace, "note", lambda pace, n_tokens, seconds: None)


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("n_slots", [1, 3])
@pytest.mark.parametrize("settings", [{"temperature": 0}, {"temperature": 3.0, "seed": 5}])
def test_answers_are_those_without_guesses(
    random_model: NativeModel, n_slots: int, settings: dict[str, Any]
) -> None:
    quoting = random_model.tokenize("나무꾼과 선녀 이야기를 들려줄게. " * 6)
    prompts = [quoting, quoting[:50] + quoting[:20], random_model.tokenize("The quick brown fox")]
    sampling = Sampling(**settings, repeat_penalty=1.1)

    def answers(draft: int) -> list[list[int]]:
        with engine_on(random_model, draft, n_slots=n_slots) as (engine, _):
            requests = [engine.submit(prompt, sampling, max_tokens=60) for prompt in prompts]
            return [list(request) for request in requests]

    assert answers(8) == answers(0)


@pytest.mark.usefixtures("cheap")
def test_an_answer_that_quotes_takes_few_batches(chain_model: NativeModel) -> None:
    (one,) = token_ids("▁one")
    taken = []
    for draft in (0, 8):
        with engine_on(chain_model, draft) as (engine, context):
            request = engine.submit([1, one], GREEDY, max_tokens=200)
            tokens = list(request)
            assert request.outcome and request.outcome.n_generated == len(tokens) == 200
            assert tokens == (token_ids("▁two", "▁three", "▁one") * 67)[:200]
            taken.append(len(context.batches))
    assert taken[0] == 200
    assert taken[1] < 40
    assert max(context.batches) == 8


@pytest.mark.usefixtures("cheap")
def test_the_memory_holds_no_wrong_guess_afterwards(random_model: NativeModel) -> None:
    quoting = random_model.tokenize("나무꾼과 선녀 이야기를 들려줄게. " * 6)
    with engine_on(random_model, 8) as (engine, _):
        said = list(engine.submit(quoting, GREEDY, max_tokens=40))
        whole = [*quoting, *said]
        again = engine.submit([*whole, 77], GREEDY, max_tokens=20)
        continued = list(again)
        assert again.outcome and again.outcome.n_cached >= len(whole) - 1
    with engine_on(random_model, 0) as (engine, _):
        assert list(engine.submit([*whole, 77], GREEDY, max_tokens=20)) == continued


@pytest.mark.usefixtures("cheap")
def test_guesses_end_where_the_answer_does(chain_model: NativeModel) -> None:
    (one,) = token_ids("▁one")
    with engine_on(chain_model, 8, n_ctx=64) as (engine, _):
        for n_tokens in (1, 2, 17, 18, 19, 20, 21):
            assert len(list(engine.submit([1, one], GREEDY, max_tokens=n_tokens))) == n_tokens
        full = engine.submit([1, one], GREEDY)
        assert len(list(full)) == 63
        assert full.outcome and full.outcome.reason == "context"
        ends = frozenset(token_ids("▁three"))
        stopped = engine.submit([1, *token_ids("▁two", "▁three", "▁one") * 5], GREEDY)
        assert len(list(stopped)) > 1
        stopped = engine.submit([1, one], GREEDY, stop_tokens=ends)
        assert len(list(stopped)) == 1


class Scripted(Counting):
    """Computes as ever, and says what the script says."""

    script: Iterator[int]

    def sample(self, sampler: Any, row: int) -> int:
        return next(self.script)


def batches_of(model: NativeModel, prompt: list[int], answer: list[int]) -> list[int]:
    """The tokens in each batch of an answer that is laid down beforehand, the prompt's first."""
    context = Scripted(model, n_ctx=1024, exact=True, n_outputs=9)
    context.script = iter(answer)
    engine = Engine(context, lambda wanted, prompt: Sampler(model, wanted, prompt), draft=8)
    try:
        assert list(engine.submit(prompt, GREEDY, max_tokens=len(answer))) == answer
    finally:
        engine.close()
    return context.batches


PHRASE = [400, 401, 402]


def test_an_answer_that_never_does_as_expected_costs_no_token_more(
    random_model: NativeModel,
) -> None:
    """The same words again and again, and each time another one after them."""
    said = [token for n in range(60) for token in (*PHRASE, 1000 + n)]
    assert batches_of(random_model, [1, *PHRASE, 999], said)[1:] == [1] * (len(said) - 1)


@pytest.mark.usefixtures("cheap")
def test_guessing_ends_where_quoting_does(random_model: NativeModel) -> None:
    quoted = list(range(2000, 2100))
    new = [token for n in range(40) for token in (*PHRASE, 1000 + n)]
    plain = len(quoted) + len(new)
    batches = batches_of(random_model, [1, *quoted, *PHRASE, 999], [*quoted, *new])
    assert max(batches[1:]) == 8 and len(batches) < plain - 70, "quotes come many at a time"
    assert batches[-100:] == [1] * 100
    assert sum(batches[1:]) < plain + 60, "few guesses were evaluated for nothing"


def test_nothing_is_guessed_unless_asked_for(chain_model: NativeModel) -> None:
    (one,) = token_ids("▁one")
    with engine_on(chain_model, 0) as (engine, context):
        list(engine.submit([1, one], GREEDY, max_tokens=50))
    assert context.batches[1:] == [1] * 49
