"""Many threads at once on one model, for as long as one likes; what they saw is held to account.

One model says `two three one …` after `one`, whatever stands before: so every token of an answer is
known, and one of another request would be seen. Another has random weights: what it says greedily
beside others must be what it says alone, or first differ where its two best logits were near each
other. Run for longer:

    python tests/runtime/soak.py MINUTES
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from komt_local import Model, Sampling
from komt_local.errors import ContextOverflow

THREADS = 8
CYCLES = {
    text: [f" {word}" for word in text.split()]
    for text in ("one two three", "red green blue", "north south west")
}
"""What the model repeats for ever once it has said the first word, a token each."""


@dataclass
class Tally:
    """What happened, and what should not have."""

    ended: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, reason: str, wrong: str = "") -> None:
        with self.lock:
            self.ended[reason] += 1
            if wrong:
                self.wrong.append(wrong)

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.ended + other.ended, self.wrong + other.wrong)


def write_model(path: Path) -> Path:
    """Three circles of words that never meet."""
    from runtime_models import token_ids, write_chain

    circles = [token_ids(*(f"▁{word}" for word in text.split())) for text in CYCLES]
    return write_chain(path, [[*circle, circle[0]] for circle in circles])


def until(deadline: float) -> Iterator[None]:
    while time.monotonic() < deadline:
        yield


def work(model: Model, seed: int, rounds: Iterable[Any], tally: Tally) -> None:
    chance = random.Random(seed)
    for _ in rounds:
        words = chance.choice(list(CYCLES.values()))
        start = chance.randrange(3)
        length = chance.choice([1, 5, 40, 120])
        filler = " ".join(chance.choice(["red", "north", "one"]) for _ in range(length))
        match chance.randrange(10):
            case 0:
                overflow(model, tally)
            case 1:
                score(model, words, tally)
            case _:
                answer(model, f"{filler}{words[start]}", words, start, chance, tally)


def answer(
    model: Model, prompt: str, words: list[str], start: int, chance: random.Random, tally: Tally
) -> None:
    """Ask, listen to all of it or leave in the middle, and compare every piece."""
    limit = chance.choice([1, 2, 7, 30, None])
    leaves = chance.choice(["before", "in the middle", "never", "never"])
    stop = chance.choice([(), (), (words[(start + 2) % 3] + words[start],)])
    stream = model.stream_completion(
        prompt, temperature=0, max_tokens=limit, stop=stop, stop_loops=False
    )
    if leaves == "before":
        stream.cancel()
    said, reason, n_tokens = "", "left", 0
    for event in stream:
        said += event.text
        n_tokens = event.usage.completion_tokens
        reason = event.finish_reason or reason
        if leaves == "in the middle" and said:
            stream.close()
    expected = islice(cycle([words[(start + n) % 3] for n in (1, 2, 3)]), n_tokens + 1)
    is_right = "".join(expected).startswith(said)
    is_whole = reason != "length" or n_tokens == limit
    tally.note(reason, "" if is_right and is_whole else f"{prompt[-20:]!r} {reason}: {said[:80]!r}")


def overflow(model: Model, tally: Tally) -> None:
    try:
        model.complete("one " * 2000, temperature=0)
        tally.note("overflow", "a prompt beyond the context was taken")
    except ContextOverflow:
        tally.note("overflow")


def score(model: Model, words: list[str], tally: Tally) -> None:
    found = model.score_completion(words[0], words[1] + words[2] + words[0])
    tally.note("score", "" if found.is_likeliest else f"{words} scored {found}")


Act = Callable[[Model, int, Iterable[Any], Tally], None]
NEAR = 0.1
"""Logits that lie as close may change places in a batch of another size."""


@dataclass(frozen=True)
class Alone:
    """What the model says alone: the tokens, and how far behind the second best logit was."""

    prompt: list[int]
    tokens: list[int]
    margins: list[float]


def answers_alone(path: Path, n_prompts: int = 24, n_tokens: int = 40) -> list[Alone]:
    found = []
    with Model.load(path, n_ctx=256, threads=1, deterministic=True) as model:
        for n in range(n_prompts):
            text = f"{n} 옛날 옛적에 어느 마을에 {n * 7} 나무꾼이" * (1 + n % 3)
            prompt = [1, *model.tokenize(text)]
            settings: dict[str, Any] = {"max_tokens": n_tokens, "n_likeliest": 2}
            request = model._engine.submit(prompt, Sampling(temperature=0), **settings)
            tokens = list(request)
            pairs = [likelihood.others for likelihood in request.likelihoods]
            found.append(Alone(prompt, tokens, [best[1] - second[1] for best, second in pairs]))
    return found


def beside_others(alone: list[Alone], near: float = NEAR) -> Act:
    """Ask what was asked alone, all or the beginning of it, and compare token by token."""

    def work(model: Model, seed: int, rounds: Iterable[Any], tally: Tally) -> None:
        chance = random.Random(seed)
        for _ in rounds:
            expected = chance.choice(alone)
            n_tokens = chance.choice([3, 20, len(expected.tokens)])
            request = model._engine.submit(
                expected.prompt, Sampling(temperature=0), max_tokens=n_tokens
            )
            said = []
            for token in request:
                said.append(token)
                if chance.random() < 0.01:
                    request.cancel()
            tally.note(*_compared(said, expected, near))

    return work


def _compared(said: list[int], expected: Alone, near: float) -> tuple[str, str]:
    pairs = zip(said, expected.tokens, expected.margins, strict=False)
    for at, (one, other, margin) in enumerate(pairs):
        if one != other:
            wrong = f"token {at} is {one}, alone {other} by {margin}"
            return "near", "" if margin < near else wrong
    return "same", ""


def soak(
    path: Path, *, rounds: int = 0, seconds: float = 0, act: Act = work, **options: Any
) -> Tally:
    """Let the threads loose on the model, for so many rounds each or for so long.

    Raises what one of them raised.
    """
    tally, errors, deadline = Tally(), [], time.monotonic() + seconds

    def guarded(model: Model, seed: int) -> None:
        try:
            act(model, seed, range(rounds) if rounds else until(deadline), tally)
        except BaseException as error:
            errors.append(error)

    with Model.load(path, n_ctx=256, threads=1, **options) as model:
        threads = [threading.Thread(target=guarded, args=(model, n)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        act(model, THREADS, range(1), Tally())  # it still answers
    if errors:
        raise errors[0]
    return tally


def main() -> None:
    import psutil
    from runtime_models import write_random

    minutes = float(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        path = write_model(Path(folder) / "model.gguf")
        weights = write_random(Path(folder) / "random.gguf", seed=3)
        compare = beside_others(answers_alone(weights))
        for part in range(10):
            options = {"n_slots": 3, "draft": 4 * (part % 2)}
            tally = soak(path, seconds=minutes * 4, **options)
            tally += soak(weights, seconds=minutes * 2, act=compare, **options)
            rss = psutil.Process().memory_info().rss / 2**20
            sys.stdout.write(f"{rss:8.1f} MiB  {dict(tally.ended)}  wrong: {tally.wrong[:3]}\n")


if __name__ == "__main__":
    main()
