"""What guessing is worth: answers that quote their prompt, and answers that do not.

    python benchmarks/drafts.py MODEL.gguf

The model computes everything, but what it says is laid down beforehand: an answer copies its prompt
for `run` tokens, then says something new for as many, and so on; with a run of 0 all is new. So the
share of quotes is known, and any file will do. `ceiling` is the speed of a batch of the draft's
length over that of one token, both measured here. Plain and guessing take turns; a gain is the
median over the repetitions of plain seconds / guessing seconds.
"""

from __future__ import annotations

import argparse
import random
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

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


def answer(prompt: list[int], run: int, chance: random.Random) -> Iterator[int]:
    while True:
        start = chance.randrange(len(prompt) - run)
        yield from prompt[start : start + run]
        yield from (chance.randrange(300, 30_000) for _ in range(run or 64))


def seconds(engine: Engine, prompt: list[int]) -> float:
    tokens = iter(engine.submit(prompt, max_tokens=N_ANSWER))
    next(tokens)
    began = time.perf_counter()
    for _ in tokens:
        pass
    return time.perf_counter() - began


def ceiling(context: Context, draft: int) -> float:
    """Tokens per second of a batch of that many, over those of a batch of one."""
    tokens = array("i", range(1000, 1000 + draft))

    def once(n_tokens: int) -> float:
        context.keep(0, 0)
        began = time.perf_counter()
        context.decode([Span(0, tokens, 0, n_tokens, n_tokens)])
        context.synchronize()
        return time.perf_counter() - began

    def typical(n_tokens: int) -> float:
        return median(once(n_tokens) for _ in range(9))

    return draft * typical(1) / typical(draft)


def gain(model: Any, run: int, options: argparse.Namespace) -> list[float]:
    chance = random.Random(run)
    settings = {"n_ctx": 1024, "n_outputs": 1 + options.draft, "threads": options.threads}
    script: list[int] = []
    engines = [
        Engine(Scripted(model, **settings), lambda *_: Script(script), draft=draft)
        for draft in (0, options.draft)
    ]
    found = []
    for repetition in range(options.repetitions + 1):
        prompt = [1, *(chance.randrange(300, 30_000) for _ in range(N_PROMPT - 1))]
        told = answer(prompt, run, chance)
        script[:] = [next(told) for _ in range(N_ANSWER)]
        plain, guessing = (seconds(engine, prompt) for engine in engines)
        if repetition:  # the first one warms up
            found.append(plain / guessing)
    for engine in engines:
        engine.close()
    return sorted(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("-d", "--draft", type=int, default=16)
    parser.add_argument("-r", "--repetitions", type=int, default=7)
    parser.add_argument("-t", "--threads", type=int, default=physical_cores())
    options = parser.parse_args()
    model = llama.load(options.model)
    with Context(model, n_ctx=256, n_outputs=options.draft, threads=options.threads) as context:
        best = ceiling(context, options.draft)
    print(f"<!-- ceiling at {options.draft} tokens: {best:.2f} -->")
    print("| quotes of | gain, median | spread | of the ceiling |")
    print("|---|---|---|---|")
    for run in (200, 50, 20, 0):
        found = gain(model, run, options)
        spread = f"{found[0]:.3f} to {found[-1]:.3f}"
        of_best = f"{median(found) / best:.2f}" if run else ""
        print(f"| {run} tokens | {median(found):.3f} | {spread} | {of_best} |", flush=True)
    model.close()


if __name__ == "__main__":
    main()
