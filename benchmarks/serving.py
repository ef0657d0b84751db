"""Requests that come and go: the engine beside a bare batched loop that does the same work.

    python benchmarks/serving.py MODEL.gguf -c 4 8 16

So many requests run at a time, and whenever one ends the next one comes, each with a random prompt
and an answer of its own length. `bare` does the same with llama_decode and llama_sampler_sample and
nothing else: a new prompt goes into the next batch together with everybody's next token. With
LLAMA_CPP_BIN, the folder of llama.cpp's own tools, `llama-server` does it too, asked over HTTP and
with as many slots. Each lives in a process of its own, and all take turns; `of bare` is the median
over the repetitions of bare seconds / its own seconds, with the least and the most; `of
llama-server` likewise.

The longest wait is that of a running answer for its next token while a prompt of 3,000 tokens
arrives; what a part of such a prompt takes alone is said above the table.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from statistics import median
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import numpy as np
from elsewhere import Elsewhere, Make
from llama_server import Server

BATCH, N_CTX = 512, 4096


@dataclass(frozen=True)
class Job:
    """A prompt, and how many tokens its answer has."""

    prompt: tuple[int, ...]
    n_answer: int


def make_jobs(n_jobs: int, n_vocab: int, seed: int) -> list[Job]:
    chance = random.Random(seed)
    return [
        Job(
            tuple(chance.randrange(300, n_vocab) for _ in range(chance.randint(16, 256))),
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
        vocabulary = library.llama_model_get_vocab(self.model)
        self.n_vocab: int = library.llama_vocab_n_tokens(vocabulary)
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

    def vocabulary_size(self) -> int:
        return self.n_vocab

    def prompt_part(self, n_tokens: int) -> float:
        """The seconds that a part of a prompt takes alone."""
        self.library.llama_memory_seq_rm(self.memory, 0, -1, -1)
        tokens = (ctypes.c_int32 * n_tokens)(*range(300, 300 + n_tokens))
        began = time.perf_counter()
        self.library.llama_decode(self.context, self.library.llama_batch_get_one(tokens, n_tokens))
        self.library.llama_synchronize(self.context)
        return time.perf_counter() - began

    def close(self) -> None:
        self.library.llama_batch_free(self.batch)
        self.library.llama_free(self.context)
        self.library.llama_model_free(self.model)


def bare(path: Path, n_slots: int, n_ctx: int, threads: int) -> closing[Bare]:
    return closing(Bare(path, n_slots, n_ctx, threads))


Stream = Callable[[Sequence[int], int], Iterable[Any]]


class AtOnce:
    """As many listeners as slots, each with its next request as soon as one has ended."""

    def __init__(self, stream: Stream, n_slots: int) -> None:
        self.stream, self.n_slots = stream, n_slots

    def __call__(self, jobs: Sequence[Job]) -> float:
        left: SimpleQueue[Job | None] = SimpleQueue()
        for job in [*jobs, *[None] * self.n_slots]:
            left.put(job)

        def listen() -> None:
            while (job := left.get()) is not None:
                for _ in self.stream(job.prompt, job.n_answer):
                    pass

        began = time.perf_counter()
        listeners = [Thread(target=listen) for _ in range(self.n_slots)]
        for listener in listeners:
            listener.start()
        for listener in listeners:
            listener.join()
        return time.perf_counter() - began

    def longest_wait(self, n_vocab: int) -> float:
        """Seconds between two tokens of an answer under way, while 3,000 of a prompt arrive."""
        times: list[float] = []
        tokens = [1, *(300 + n % (n_vocab - 300) for n in range(2999))]
        with ThreadPoolExecutor(1) as pool:
            for n, _ in enumerate(self.stream(tokens[:0:-60], 400)):
                times.append(time.perf_counter())
                if n == 20:
                    other = pool.submit(lambda: list(self.stream(tokens, 1)))
            other.result()
        return float(np.diff(times[20:]).max())


@contextmanager
def engine(path: Path, n_slots: int, n_ctx: int, threads: int) -> Iterator[AtOnce]:
    from komt_local import Model, Sampling

    sampling = Sampling(temperature=0.8, top_k=40, top_p=1.0, min_p=0.0, seed=1)
    with Model.load(path, n_slots=n_slots, n_ctx=n_ctx, threads=threads) as model:
        submit = model._engine.submit
        yield AtOnce(lambda prompt, n: submit(array("i", prompt), sampling, max_tokens=n), n_slots)


@contextmanager
def llama_server(path: Path, n_slots: int, n_ctx: int, threads: int) -> Iterator[AtOnce]:
    program = Path(os.environ["LLAMA_CPP_BIN"], "llama-server")
    sizes = {"n_slots": n_slots, "n_ctx": n_ctx, "threads": threads}
    with (
        TemporaryDirectory() as folder,
        closing(Server(program, path, Path(folder, "log"), **sizes)) as server,
    ):
        yield AtOnce(server.stream, n_slots)


WAYS: dict[str, Make] = {"bare": bare, "engine": engine, "llama-server": llama_server}


def spread(ratios: Sequence[float]) -> str:
    return f"{median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


def measure(path: Path, n_slots: int, options: argparse.Namespace) -> list[str]:
    """The rows of the table for so many requests at once."""
    from komt_local.hardware import physical_cores

    sizes = (n_slots, N_CTX, options.threads or physical_cores())
    names = [name for name in WAYS if name != "llama-server" or "LLAMA_CPP_BIN" in os.environ]
    with ExitStack() as stack:
        ways = {
            name: stack.enter_context(closing(Elsewhere(WAYS[name], path, *sizes)))
            for name in names
        }
        n_vocab = ways["bare"].call("vocabulary_size")
        seconds = take_turns(ways, options.jobs * n_slots, n_vocab, options.repetitions)
        waits = {name: ways[name].call("longest_wait", n_vocab) for name in names[1:]}
        part = ways["bare"].call("prompt_part", BATCH)
    print(f"<!-- a part of {BATCH} tokens: {part * 1000:.0f} ms, {n_slots} slots -->", flush=True)
    return [row(n_slots, name, seconds, waits.get(name)) for name in ways]


def take_turns(
    ways: Mapping[str, Elsewhere], n_jobs: int, n_vocab: int, repetitions: int
) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repetition in range(repetitions + 1):
        jobs = make_jobs(n_jobs, n_vocab, repetition)
        for name, way in ways.items():
            taken = way(jobs)
            if repetition:  # the first one warms up
                seconds[name].append(taken)
    return seconds


def row(n_slots: int, name: str, seconds: Mapping[str, list[float]], wait: float | None) -> str:
    def beside(other: str) -> str:
        if name == other or other not in seconds:
            return ""
        return spread([a / b for a, b in zip(seconds[other], seconds[name], strict=True)])

    waited = "" if wait is None else f"{wait * 1000:.0f}"
    cells = [n_slots, name, f"{median(seconds[name]):.2f}", beside("bare"), beside("llama-server")]
    return f"| {' | '.join(map(str, cells))} | {waited} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("-c", "--concurrent", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("-j", "--jobs", type=int, default=2, help="for each slot")
    parser.add_argument("-r", "--repetitions", type=int, default=7)
    parser.add_argument("-t", "--threads", type=int)
    options = parser.parse_args()
    rows = [
        row for n_slots in options.concurrent for row in measure(options.model, n_slots, options)
    ]
    print("| at once | way | seconds | of bare | of llama-server | longest wait, ms |")
    print("|---|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
