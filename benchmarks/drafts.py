"""What guessing is worth: answers that quote their prompt, and answers that do not.

    python benchmarks/drafts.py MODEL.gguf

The model computes everything, but what it says is laid down beforehand: an answer copies its prompt
for `run` tokens, then says something new for as many, and so on; with a run of 0 all is new. So the
share of quotes is known, and any file will do. `ceiling` is the speed of a batch of the draft's
length over that of one token, both measured here, and `possible` the gain if every quoted token,
and no other, were guessed and came at that speed. Plain and guessing take turns, each in a process
of its own; a gain is the median over the repetitions of plain seconds / guessing seconds.
"""

from __future__ import annotations

import argparse
import random
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from elsewhere import Elsewhere

from komt_local import llama
from komt_local.engine import Engine
from komt_local.hardware import physical_cores
from komt_local.llama import Context, Span

N_PROMPT, N_ANSWER = 512, 256


class Script:
    """Stands for a sampler: what the answer is to be, token by token."""

    def __init__(self, tokens: list[int]) -> None:
        self._tokens = iter(tokens)

    def next(self) -> int:
        return next(self._tokens)

    def close(self) -> None:
        pass


class Scripted(Context):
    """Computes as ever, and says what the script says."""

    def sample(self, sampler: Any, row: int) -> int:
        self.logits(row)
        token: int = sampler.next()
        return token


def possible(run: int, ceiling: float) -> float:
    n_quoted = sum(n % (2 * run) < run for n in range(N_ANSWER)) if run else 0
    return N_ANSWER / (N_ANSWER - n_quoted + n_quoted / ceiling)


def answer(prompt: list[int], run: int, chance: random.Random) -> Iterator[int]:
    while True:
        start = chance.randrange(len(prompt) - run)
        yield from prompt[start : start + run]
        yield from (chance.randrange(300, 30_000) for _ in range(run or 64))


@contextmanager
def engine(path: Path, draft: int, n_outputs: int, threads: int) -> Iterator[Callable[..., float]]:
    """An engine that takes a prompt and a script, and gives the seconds from the first token on."""
    script: list[int] = []

    def seconds(prompt: list[int], answer: list[int]) -> float:
        script[:] = answer
        tokens = iter(made.submit(prompt, max_tokens=len(answer)))
        next(tokens)
        began = time.perf_counter()
        for _ in tokens:
            pass
        return time.perf_counter() - began

    with closing(llama.load(path)) as model:
        context = Scripted(model, n_ctx=1024, n_outputs=n_outputs, threads=threads)
        with closing(Engine(context, lambda *_: Script(script), draft=draft)) as made:
            yield seconds


@contextmanager
def ceiling(path: Path, draft: int, threads: int) -> Iterator[Callable[[], float]]:
    """Tokens per second of a batch of that many, over those of a batch of one."""
    tokens = array("i", range(1000, 1000 + draft))

    def typical(context: Context, n_tokens: int) -> float:
        return median(once(context, n_tokens) for _ in range(9))

    def once(context: Context, n_tokens: int) -> float:
        context.keep(0, 0)
        began = time.perf_counter()
        context.decode([Span(0, tokens, 0, n_tokens, n_tokens)])
        return time.perf_counter() - began

    with (
        closing(llama.load(path)) as model,
        Context(model, n_ctx=256, n_outputs=draft, threads=threads) as context,
    ):
        yield lambda: draft * typical(context, 1) / typical(context, draft)


def gains(ways: list[Elsewhere], run: int, repetitions: int) -> list[float]:
    chance = random.Random(run)
    found = []
    for repetition in range(repetitions + 1):
        prompt = [1, *(chance.randrange(300, 30_000) for _ in range(N_PROMPT - 1))]
        told = answer(prompt, run, chance)
        script = [next(told) for _ in range(N_ANSWER)]
        plain, guessing = (way(prompt, script) for way in ways)
        if repetition:  # the first one warms up
            found.append(plain / guessing)
    return sorted(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("-d", "--draft", type=int, default=16)
    parser.add_argument("-r", "--repetitions", type=int, default=7)
    parser.add_argument("-t", "--threads", type=int, default=physical_cores())
    options = parser.parse_args()
    path, draft, threads = options.model, options.draft, options.threads
    with closing(Elsewhere(ceiling, path, draft, threads)) as measured:
        best = measured()
    print(f"<!-- ceiling at {draft} tokens: {best:.2f} -->")
    print("| quotes of | gain, median | spread | of the ceiling | possible |")
    print("|---|---|---|---|---|")
    with ExitStack() as stack:
        ways = [
            stack.enter_context(closing(Elsewhere(engine, path, n, 1 + draft, threads)))
            for n in (0, draft)
        ]
        for run in (N_ANSWER, 200, 50, 20, 0):
            found = gains(ways, run, options.repetitions)
            spread = f"{found[0]:.3f} to {found[-1]:.3f}"
            of_best = f"{median(found) / best:.2f}" if run else ""
            cells = (f"{run} tokens", f"{median(found):.3f}", spread, of_best)
            print(f"| {' | '.join(cells)} | {possible(run, best):.2f} |", flush=True)


if __name__ == "__main__":
    main()
