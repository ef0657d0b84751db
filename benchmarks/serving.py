"""Requests that come and go: the engine beside a bare batched loop that does the same work.

    python benchmarks/serving.py MODEL.gguf -c 4 8 16

So many requests run at a time, and whenever one ends the next one comes, each with a random prompt
and an answer of its own length. `bare` does the same with llama_decode and llama_sampler_sample and
nothing else: a new prompt goes into the next batch together with everybody's next token. Both take
turns; a ratio is the median over the repetitions of bare seconds / engine seconds. The last column
is the longest time that a running answer waited for its next token while prompts of 3,000 tokens
arrived, beside the time that one part of such a prompt takes alone.
"""

from __future__ import annotations

import argparse
import ctypes
import random
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from statistics import median
from threading import Thread
from typing import Any

import numpy as np

BATCH = 512


@dataclass(frozen=True)
class Job:
    """A prompt, and how many tokens its answer has."""

    prompt: tuple[int, ...]
    n_answer: int


def make_jobs(n_jobs: int, seed: int) -> list[Job]:
    chance = random.Random(seed)
    return [
        Job(
            tuple(chance.randrange(300, 30_000) for _ in range(chance.randint(16, 256))),
            chance.randint(16, 128),
        )
        for _ in range(n_jobs)
    ]


class Bare:
    """Slots, one batch per step, straight calls of the binding."""

    def __init__(self, path: Path, n_slots: int, n_ctx: int, threads: int) -> None:
        from llama_cpp import llama_cpp as library

        self.library, self.n_slots = library, n_slots
        params = library.llama_model_default_params()
        self.model = library.llama_model_load_from_file(bytes(path), params)
        params = library.llama_context_default_params()
        params.n_ctx, params.n_seq_max = n_ctx * n_slots, n_slots
        params.n_batch = params.n_ubatch = BATCH
        params.n_outputs_max = n_slots
        params.n_threads = params.n_threads_batch = threads
        self.context = library.llama_init_from_model(self.model, params)
        self.memory = library.llama_get_memory(self.context)
        self.batch = library.llama_batch_init(BATCH, 0, 1)

    def sampler(self) -> Any:
        library = self.library
        chain = library.llama_sampler_chain_init(library.llama_sampler_chain_default_params())
        for link in (
            library.llama_sampler_init_top_k(40),
            library.llama_sampler_init_temp(0.8),
            library.llama_sampler_init_dist(1),
        ):
            library.llama_sampler_chain_add(chain, link)
        return chain

    def __call__(self, jobs: Sequence[Job]) -> float:
        began = time.perf_counter()
        waiting = list(jobs)[::-1]
        slots: list[dict[str, Any] | None] = [None] * self.n_slots
        while waiting or any(slots):
            for n, slot in enumerate(slots):
                if slot is None and waiting:
                    slots[n] = self._begin(n, waiting.pop())
            for n, row in self._decode(slots).items():
                slot = slots[n]
                assert slot is not None
                token = self.library.llama_sampler_sample(slot["chain"], self.context, row)
                slot["pending"], slot["left"] = [token], slot["left"] - 1
                if not slot["left"]:
                    self.library.llama_sampler_free(slot["chain"])
                    slots[n] = None
        return time.perf_counter() - began

    def _begin(self, n: int, job: Job) -> dict[str, Any]:
        self.library.llama_memory_seq_rm(self.memory, n, -1, -1)
        chain = self.sampler()
        return {"pending": list(job.prompt), "done": 0, "left": job.n_answer, "chain": chain}

    def _decode(self, slots: Sequence[dict[str, Any] | None]) -> dict[int, int]:
        """Everybody's tokens in one batch; the row of the last token of those that are through."""
        rows, at, batch = {}, 0, self.batch
        left = BATCH - sum(slot is not None for slot in slots)
        for n, slot in enumerate(slots):
            if slot is None:
                continue
            taken = slot["pending"][: 1 + left]
            left -= len(taken) - 1
            for token in taken:
                batch.token[at], batch.pos[at], batch.n_seq_id[at] = token, slot["done"], 1
                batch.seq_id[at][0], batch.logits[at] = n, 0
                at, slot["done"] = at + 1, slot["done"] + 1
            del slot["pending"][: len(taken)]
            if not slot["pending"]:
                batch.logits[at - 1], rows[n] = 1, at - 1
        batch.n_tokens = at
        assert self.library.llama_decode(self.context, batch) == 0
        return rows

    def prompt_part(self, n_tokens: int) -> float:
        """The seconds that a part of a prompt takes alone."""
        self.library.llama_memory_seq_rm(self.memory, 0, -1, -1)
        tokens = (ctypes.c_int32 * n_tokens)(*range(1000, 1000 + n_tokens))
        began = time.perf_counter()
        self.library.llama_decode(self.context, self.library.llama_batch_get_one(tokens, n_tokens))
        self.library.llama_synchronize(self.context)
        return time.perf_counter() - began

    def close(self) -> None:
        self.library.llama_batch_free(self.batch)
        self.library.llama_free(self.context)
        self.library.llama_model_free(self.model)


def run_engine(engine: Any, jobs: Sequence[Job], n_slots: int) -> float:
    """As many listeners as slots, each with its next request as soon as one has ended."""
    from komt_local import Sampling

    sampling = Sampling(temperature=0.8, top_k=40, top_p=1.0, min_p=0.0, seed=1)
    left: SimpleQueue[Job | None] = SimpleQueue()
    for job in [*jobs, *[None] * n_slots]:
        left.put(job)

    def listen() -> None:
        while (job := left.get()) is not None:
            for _ in engine.submit(array("i", job.prompt), sampling, max_tokens=job.n_answer):
                pass

    began = time.perf_counter()
    listeners = [Thread(target=listen) for _ in range(n_slots)]
    for listener in listeners:
        listener.start()
    for listener in listeners:
        listener.join()
    return time.perf_counter() - began


def longest_wait(engine: Any) -> float:
    """Of an answer that is under way, while a prompt of 3,000 tokens is read."""
    running = engine.submit([1, *range(1000, 1050)], max_tokens=400)
    times: list[float] = []
    other = None
    for n, _ in enumerate(running):
        times.append(time.perf_counter())
        if n == 20:
            other = engine.submit([1, *range(2000, 5000)], max_tokens=1)
    for _ in other or ():
        pass
    return float(np.diff(times[20:]).max())


def measure(path: Path, n_slots: int, options: argparse.Namespace) -> str:
    from komt_local import Model
    from komt_local.hardware import physical_cores

    threads = options.threads or physical_cores()
    pairs = []
    with Model.load(path, n_ctx=4096, n_slots=n_slots, threads=threads) as model:
        bare = Bare(path, n_slots, 4096, threads)
        for repetition in range(options.repetitions + 1):
            jobs = make_jobs(options.jobs * n_slots, repetition)
            pair = (bare(jobs), run_engine(model._engine, jobs, n_slots))
            if repetition:  # the first one warms up
                pairs.append(pair)
        wait = longest_wait(model._engine)
    part = bare.prompt_part(BATCH)
    bare.close()
    ratios = sorted(bare_s / engine_s for bare_s, engine_s in pairs)
    bare_s, engine_s = (median(column) for column in zip(*pairs, strict=True))
    spread = f"{ratios[0]:.3f} to {ratios[-1]:.3f}"
    speeds = f"{bare_s:.2f} | {engine_s:.2f} | {median(ratios):.3f} | {spread}"
    return f"| {n_slots} | {speeds} | {wait * 1000:.0f} ({part * 1000:.0f}) |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("-c", "--concurrent", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("-j", "--jobs", type=int, default=3, help="for each slot")
    parser.add_argument("-r", "--repetitions", type=int, default=7)
    parser.add_argument("-t", "--threads", type=int)
    options = parser.parse_args()
    print("| at once | bare s | engine s | bare / engine | spread | longest wait, ms (a part) |")
    print("|---|---|---|---|---|---|")
    for n_slots in options.concurrent:
        print(measure(options.model, n_slots, options), flush=True)


if __name__ == "__main__":
    main()
