"""The engine on the real llama.cpp; a scripted context only for what the real one cannot show."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from runtime_models import bare_greedy, token_ids

from komt_local.engine import Engine, Request
from komt_local.errors import Closed, ContextOverflow, EngineError, UsageError
from komt_local.llama import Context, NativeModel, Sampler
from komt_local.types import Sampling, TokenScore

GREEDY = Sampling(temperature=0)
TEXTS = [
    "The quick brown fox",
    "jumps over",
    "옛날 옛적에 어느 마을에 나무꾼이 살았습니다",
    "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19",
    "a",
]


@contextmanager
def engine_on(model: NativeModel, **options: Any) -> Iterator[Engine]:
    deterministic = options.pop("deterministic", False)
    context = Context(model, **{"n_ctx": 512, "exact": True, **options})
    engine = Engine(
        context,
        lambda sampling, prompt: Sampler(model, sampling, prompt),
        deterministic=deterministic,
    )
    try:
        yield engine
    finally:
        engine.close()


def ask(engine: Engine, tokens: Sequence[int], n: int = 24, **options: Any) -> Request:
    return engine.submit(tokens, options.pop("sampling", GREEDY), max_tokens=n, **options)


@pytest.fixture(scope="module")
def expected(random_gguf: Path, random_model: NativeModel) -> dict[str, list[int]]:
    return {text: bare_greedy(random_gguf, random_model.tokenize(text), 24) for text in TEXTS}


@pytest.mark.parametrize("n_batch", [5, 512])
def test_one_request_says_what_llama_cpp_says(
    random_model: NativeModel, expected: dict[str, list[int]], n_batch: int
) -> None:
    with engine_on(random_model, n_batch=n_batch) as engine:
        for text in TEXTS:
            assert list(ask(engine, random_model.tokenize(text))) == expected[text]


@pytest.mark.parametrize(("n_slots", "n_batch"), [(2, 512), (3, 7), (8, 512)])
def test_requests_at_once_say_what_each_says_alone(
    random_model: NativeModel, expected: dict[str, list[int]], n_slots: int, n_batch: int
) -> None:
    with engine_on(random_model, n_slots=n_slots, n_batch=n_batch) as engine:
        requests = [(text, ask(engine, random_model.tokenize(text))) for text in TEXTS * 3]
        for text, request in requests:
            assert list(request) == expected[text]


def test_a_shared_prefix_is_not_evaluated_again_and_changes_nothing(
    random_model: NativeModel, random_gguf: Path
) -> None:
    shared = random_model.tokenize("나무꾼과 선녀 이야기를 들려줄게. " * 8)
    prompts = [[*shared, *random_model.tokenize(text)] for text in TEXTS]
    with engine_on(random_model, n_slots=3) as engine:
        requests = [ask(engine, prompt) for prompt in prompts]
        answers = [list(request) for request in requests]
    assert answers == [bare_greedy(random_gguf, prompt, 24) for prompt in prompts]
    outcomes = [request.outcome for request in requests]
    cached = [outcome.n_cached for outcome in outcomes if outcome]
    assert cached[0] == 0
    assert all(n >= len(shared) for n in cached[1:])


def test_a_dialogue_goes_on_from_its_last_turn(random_model: NativeModel) -> None:
    first = random_model.tokenize("The quick brown fox")
    with engine_on(random_model) as engine:
        said = list(ask(engine, first))
        request = ask(engine, [*first, *said, *random_model.tokenize("and then?")])
        list(request)
    assert request.outcome and request.outcome.n_cached == len(first) + len(said) - 1


def test_deterministic_requests_do_not_depend_on_what_ran_before(
    random_model: NativeModel,
) -> None:
    prompt = random_model.tokenize("The quick brown fox jumps over the lazy dog")
    sampling = Sampling(temperature=2, top_k=0, seed=3)
    with engine_on(random_model, deterministic=True) as engine:
        first = ask(engine, prompt, sampling=sampling)
        tokens = list(first)
        list(ask(engine, prompt[:6], sampling=sampling))
        second = ask(engine, prompt, sampling=sampling)
        assert list(second) == tokens
    assert second.outcome and second.outcome.n_cached == 0


def test_why_answers_end(chain_model: NativeModel) -> None:
    hello, one = token_ids("▁Hello", "▁one")
    ends = chain_model.end_tokens
    with engine_on(chain_model, n_ctx=40) as engine:
        stopped = ask(engine, [1, hello], 20, stop_tokens=ends)
        limited = ask(engine, [1, hello], 3, stop_tokens=ends)
        full = engine.submit([1, one], GREEDY, stop_tokens=ends)
        at_the_brim = engine.submit([1] * 39 + [one], GREEDY)
        counts = [len(list(request)) for request in (stopped, limited, full, at_the_brim)]
    outcomes = [r.outcome for r in (stopped, limited, full, at_the_brim) if r.outcome]
    assert [outcome.reason for outcome in outcomes] == ["stop", "length", "context", "context"]
    assert counts == [7, 3, 39, 1]
    assert [outcome.n_generated for outcome in outcomes] == [8, 3, 39, 1]
    assert all(min(vars_of(outcome.timings)) >= 0 for outcome in outcomes)


def vars_of(timings: Any) -> list[float]:
    return [timings.queue_seconds, timings.prompt_seconds, timings.generation_seconds]


class Counting(Context):
    """Notes what each batch evaluates: for each sequence, so many tokens."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.batches: list[dict[int, int]] = []

    def decode(self, spans: Any) -> int:
        self.batches.append({span[0]: span[3] - span[2] for span in spans})
        return super().decode(spans)


def test_a_long_prompt_that_arrives_holds_nobody_up_for_more_than_a_part(
    random_model: NativeModel,
) -> None:
    context = Counting(random_model, n_ctx=3100, n_slots=4, n_batch=512)
    engine = Engine(context, lambda wanted, prompt: Sampler(random_model, wanted, prompt))
    try:
        running = [engine.submit([1, n], GREEDY, max_tokens=3000) for n in (500, 600, 700)]
        for request in running:
            next(iter(request))
        long = engine.submit([1, *range(1000, 3999)], GREEDY, max_tokens=1)
        assert len(list(long)) == 1
    finally:
        engine.close()
    assert long.task.slot is None
    (slot,) = {slot for batch in context.batches for slot, n in batch.items() if n > 2}
    parts = [batch for batch in context.batches if slot in batch]
    assert sum(batch[slot] for batch in parts) == 3000 and len(parts) >= 6
    for batch in parts:
        assert {n for other, n in batch.items() if other != slot} == {1}, "each got its token"
        assert len(batch) == 4 and sum(batch.values()) <= 512


def test_what_cannot_be_run_is_refused_at_once(random_model: NativeModel) -> None:
    with engine_on(random_model, n_ctx=16) as engine:
        with pytest.raises(ContextOverflow) as overflow:
            engine.submit([1] * 17)
        assert (overflow.value.prompt_tokens, overflow.value.n_ctx) == (17, 16)
        with pytest.raises(UsageError, match="empty"):
            engine.submit([])
        assert len(list(ask(engine, [1] * 16, 5))) == 1


def test_cancelling_makes_room_for_the_next(chain_model: NativeModel) -> None:
    (one,) = token_ids("▁one")
    with engine_on(chain_model, n_ctx=1 << 18) as engine:
        endless = engine.submit([1, one], GREEDY)
        tokens = iter(endless)
        next(tokens)
        waiting = ask(engine, [1, one], 2)
        never = ask(engine, [1, one], 2)
        never.cancel()
        endless.cancel()
        assert len(list(waiting)) == 2
        assert list(never) == []
        list(tokens)
        endless.cancel()
    for request in (endless, never):
        assert request.outcome and request.outcome.reason == "cancelled"


def test_closing_ends_what_runs_and_what_waits(chain_model: NativeModel) -> None:
    (one,) = token_ids("▁one")
    with engine_on(chain_model, n_ctx=1 << 18) as engine:
        requests = [engine.submit([1, one], GREEDY) for _ in range(3)]
        next(iter(requests[0]))
        engine.close()
        engine.close()
        for request in requests:
            list(request)
            assert request.outcome and request.outcome.reason == "cancelled"
        with pytest.raises(Closed):
            engine.submit([1])


def test_many_threads_at_once(random_model: NativeModel, expected: dict[str, list[int]]) -> None:
    with engine_on(random_model, n_slots=4) as engine:
        wrong: list[str] = []

        def work(text: str) -> None:
            for _ in range(3):
                if list(ask(engine, random_model.tokenize(text))) != expected[text]:
                    wrong.append(text)

        threads = [threading.Thread(target=work, args=(text,)) for text in TEXTS * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


class ScriptedContext:
    """Says 7 after everything; `on_decode` may do otherwise for the n-th batch."""

    def __init__(self, n_slots: int = 1, n_ctx: int = 64) -> None:
        self.n_slots, self.n_ctx, self.n_batch, self.n_outputs = n_slots, n_ctx, 32, 1
        self.batches: list[Any] = []
        self.kept: list[tuple[int, int]] = []
        self.is_closed = False
        self.aborted = threading.Event()
        self.can_cut = True
        self.on_decode: Callable[[int], int] = lambda n: 0

    def decode(self, spans: Any) -> int:
        self.batches.append([(span[0], span[2], span[3]) for span in spans])
        return self.on_decode(len(self.batches))

    def sample(self, sampler: Any, row: int) -> int:
        return 7

    def score(self, row: int, token: int) -> TokenScore:
        raise AssertionError("nothing to score here")

    def set_adapters(self, adapters: Any) -> None:
        raise AssertionError("no adapters here")

    def state_bytes(self, sequence: int) -> int:
        raise AssertionError("nothing to save here")

    def save(self, sequence: int, path: Any, tokens: array[int]) -> bool:
        raise AssertionError("nothing to save here")

    def load(self, sequence: int, path: Any) -> array[int] | None:
        raise AssertionError("nothing to load here")

    def keep(self, sequence: int, n_tokens: int) -> bool:
        self.kept.append((sequence, n_tokens))
        return self.can_cut or n_tokens == 0

    def copy(self, source: int, target: int) -> None:
        raise AssertionError("nothing to copy here")

    def abort(self) -> None:
        self.aborted.set()

    def resume(self) -> None:
        self.aborted.clear()

    def close(self) -> None:
        self.is_closed = True


class NoSampler:
    def close(self) -> None:
        pass


def scripted(context: ScriptedContext) -> Engine:
    return Engine(context, lambda sampling, prompt: NoSampler())


def failing(code: str) -> Callable[[int], int]:
    def decode(n: int) -> int:
        if n == 3:
            raise EngineError(code, code) if code else RuntimeError("boom")
        return 0

    return decode


@pytest.mark.parametrize("message", ["llama.cpp failed", ""])
def test_a_failure_reaches_everybody_who_waits(message: str) -> None:
    context = ScriptedContext()
    context.on_decode = failing(message)
    engine = scripted(context)
    requests = [ask(engine, [1, 2, 3], 50) for _ in range(3)]
    for request in requests:
        with pytest.raises(EngineError, match=message or "RuntimeError"):
            list(request)
    with pytest.raises(EngineError):
        engine.submit([1])
    engine.close()
    assert context.is_closed


def test_a_full_memory_ends_the_youngest_and_the_others_go_on() -> None:
    context = ScriptedContext(n_slots=2)
    both_there = threading.Event()

    def decode(n: int) -> int:
        both_there.wait(10)
        return 1 if n == 4 else 0

    context.on_decode = decode
    engine = scripted(context)
    old, young = ask(engine, [1, 2, 3], 10), ask(engine, [4, 5], 10)
    both_there.set()
    # The batch that found no room is to be cut off again, whatever of it is there.
    assert len(list(old)) == 10 and len(list(young)) < 10
    assert young.outcome and young.outcome.reason == "context"
    engine.close()
    assert [(slot, start) for slot, start, _ in context.batches[3]] == context.kept[-2:]


def test_cancelling_a_prompt_that_is_being_read_aborts_the_evaluation() -> None:
    context = ScriptedContext()
    reading = threading.Event()

    def decode(n: int) -> int:
        if n > 1:
            return 0
        reading.set()
        assert context.aborted.wait(10)
        return 2

    context.on_decode = decode
    engine = scripted(context)
    request = ask(engine, [1, 2, 3])
    assert reading.wait(10)
    request.cancel()
    assert list(request) == []
    assert len(list(ask(engine, [1, 2, 3], 4))) == 4
    assert not context.aborted.is_set()
    engine.close()


def test_closing_aborts_the_evaluation_too() -> None:
    context = ScriptedContext()
    reading = threading.Event()

    def decode(n: int) -> int:
        reading.set()
        return 2 if context.aborted.wait(10) else 0

    context.on_decode = decode
    engine = scripted(context)
    request = ask(engine, [1, 2, 3])
    assert reading.wait(10)
    engine.close()
    assert list(request) == [] and context.is_closed


def test_a_memory_that_cannot_be_cut_is_filled_anew() -> None:
    context = ScriptedContext()
    engine = scripted(context)
    list(ask(engine, [1, 2, 3, 4], 3))
    context.can_cut = False
    request = ask(engine, [1, 2, 3, 9], 1)
    list(request)
    assert context.batches[-1] == [(0, 0, 4)]
    assert request.outcome and request.outcome.n_cached == 0
    engine.close()


INTERRUPTED = """
import _thread, sys, threading
from pathlib import Path
from komt_local.model import Model
with Model.load(Path(sys.argv[1]), n_ctx=1 << 18) as model:
    events = model.stream_completion(" one", temperature=0)
    next(events)
    threading.Timer(0.3, _thread.interrupt_main).start()
    try:
        for _ in events:
            pass
    except KeyboardInterrupt:
        print("interrupted")
    print(model.complete(" Hello", temperature=0).text)
forgotten = Model.load(Path(sys.argv[1]), n_ctx=1 << 18).stream_completion(" one", temperature=0)
next(forgotten)
print("the end")
"""


def test_ctrl_c_stops_an_answer_and_the_end_of_the_program_stops_all(chain_gguf: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(chain_gguf)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["interrupted", "한글 world", "the end"]


@pytest.mark.slow
def test_opening_and_closing_leaks_nothing(random_gguf: Path) -> None:
    import psutil

    from komt_local.model import Model

    def once() -> None:
        with Model.load(random_gguf, template="komt") as model:
            model.chat("안녕", max_tokens=4, temperature=0)

    for _ in range(5):
        once()
    gc.collect()
    before = psutil.Process().memory_info().rss
    for _ in range(50):
        once()
    gc.collect()
    assert psutil.Process().memory_info().rss - before < 50 * 200_000
