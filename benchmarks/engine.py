"""What the engine costs: its speed beside a bare loop over llama.cpp, on the same file.

    python benchmarks/engine.py MODEL.gguf              an existing file
    python benchmarks/engine.py --make /tmp/made.gguf   a Llama of random weights, made first;
                                                        --shape 150M, 1B or tiny

The ways to the same tokens take turns, each repetition another random prompt: `bare` is
llama_decode and llama_sampler_sample and nothing else, `engine` what `komt_local.engine` hands out
as token ids, `model` what `Model.stream_completion` hands out as text, `Llama` the ids of
llama-cpp-python's high-level class. With LLAMA_CPP_BIN, the folder of llama.cpp's own tools,
`llama-bench` takes its turn too, generating at the depth of the prompt. Each way lives in a process
of its own, and all take the likeliest token, as llama-bench samples nothing. The prompt's speed
counts up to the first token, the generation's from there on. A ratio is the median over the
repetitions of way / other within the same repetition, with the least and the most. The phase
`both` counts the answer's tokens over all of its time, prompt included. Its last column is what a
token takes longer than in `bare`: with `--shape tiny -p 16 -n 512`, where computing is next to
nothing (and the two phases run into each other in the queue), that is the cost of Python.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from elsewhere import Elsewhere, Make

ROOT = Path(__file__).parent.parent
SAMPLING = {"temperature": 0.0}

Speeds = tuple[float, float]
Way = Callable[[list[int]], Speeds]


def timed(tokens: Iterable[Any], n_prompt: int) -> Speeds:
    """Prompt and generation speed of anything that yields once per token."""
    began = time.perf_counter()
    times = [time.perf_counter() for _ in tokens]
    return n_prompt / (times[0] - began), (len(times) - 1) / (times[-1] - times[0])


class Bare:
    """Straight calls of the binding."""

    def __init__(self, path: Path, n_ctx: int, n_gen: int, threads: int) -> None:
        from llama_cpp import llama_cpp as library

        self.library, self.n_gen = library, n_gen
        self.quiet = library.llama_log_callback(lambda *message: None)
        library.llama_log_set(self.quiet, ctypes.c_void_p(0))
        self.model = library.llama_model_load_from_file(
            bytes(path), library.llama_model_default_params()
        )
        params = library.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = n_ctx, 512, 512
        params.n_outputs_max = 1
        params.n_threads = params.n_threads_batch = threads
        self.context = library.llama_init_from_model(self.model, params)
        self.memory = library.llama_get_memory(self.context)

    def sampler(self) -> Any:
        library = self.library
        chain = library.llama_sampler_chain_init(library.llama_sampler_chain_default_params())
        library.llama_sampler_chain_add(chain, library.llama_sampler_init_greedy())
        return chain

    def tokens(self, prompt: list[int]) -> Iterator[int]:
        library, context, chain = self.library, self.context, self.sampler()
        library.llama_memory_clear(self.memory, False)
        for start in range(0, len(prompt), 512):
            part = (ctypes.c_int32 * len(prompt[start : start + 512]))(*prompt[start : start + 512])
            library.llama_decode(context, library.llama_batch_get_one(part, len(part)))
        one = (ctypes.c_int32 * 1)()
        batch = library.llama_batch_get_one(one, 1)
        for _ in range(self.n_gen):
            one[0] = library.llama_sampler_sample(chain, context, -1)
            yield one[0]
            library.llama_decode(context, batch)
        library.llama_sampler_free(chain)

    def __call__(self, prompt: list[int]) -> Speeds:
        return timed(self.tokens(prompt), len(prompt))

    def close(self) -> None:
        self.library.llama_free(self.context)
        self.library.llama_model_free(self.model)


def bare(path: Path, n_ctx: int, n_gen: int, threads: int) -> closing[Bare]:
    return closing(Bare(path, n_ctx, n_gen, threads))


@contextmanager
def engine(path: Path, n_ctx: int, n_gen: int, threads: int) -> Iterator[Way]:
    from komt_local import Model, Sampling

    with Model.load(path, n_ctx=n_ctx, threads=threads) as loaded:
        submit, sampling = loaded._engine.submit, Sampling(**SAMPLING)
        yield lambda prompt: timed(submit(prompt, sampling, max_tokens=n_gen), len(prompt))


@contextmanager
def model(path: Path, n_ctx: int, n_gen: int, threads: int) -> Iterator[Way]:
    from komt_local import Model

    with Model.load(path, n_ctx=n_ctx, threads=threads) as loaded:

        def way(prompt: list[int]) -> Speeds:
            text = loaded.detokenize(prompt)
            events = list(timestamps(loaded.stream_completion(text, max_tokens=n_gen, **SAMPLING)))
            (began, _), (first, one), *_, (last, all_) = events
            n_prompt = all_.prompt_tokens
            n_more = all_.completion_tokens - one.completion_tokens
            return n_prompt / (first - began), n_more / (last - first)

        yield way


@contextmanager
def high_level(path: Path, n_ctx: int, n_gen: int, threads: int) -> Iterator[Way]:
    """`llama_cpp.Llama`, without making text of the tokens, which costs it more the longer."""
    from llama_cpp import Llama

    llama = Llama(
        str(path), n_ctx=n_ctx, n_threads=threads, n_threads_batch=threads, flash_attn=True,
        verbose=False,
    )  # fmt: skip

    def way(prompt: list[int]) -> Speeds:
        llama.reset()
        return timed(islice(llama.generate(prompt, temp=0.0), n_gen), len(prompt))

    with closing(llama):
        yield way


WAYS: dict[str, Make] = {"bare": bare, "engine": engine, "model": model, "Llama": high_level}


def llama_bench(program: Path, path: Path, n_gen: int, threads: int) -> Way:
    def speed(*sizes: int | str) -> float:
        settings = ["-t", str(threads), "-fa", "auto", "-r", "1", "-o", "json"]
        command = [str(program), "-m", str(path), *map(str, sizes), *settings]
        done = subprocess.run(command, capture_output=True, check=True, text=True)
        return float(json.loads(done.stdout)[0]["avg_ts"])

    def way(prompt: list[int]) -> Speeds:
        n_prompt = len(prompt)
        return speed("-p", n_prompt, "-n", 0), speed("-p", 0, "-n", n_gen, "-d", n_prompt)

    return way


def timestamps(events: Iterable[Any]) -> Iterator[tuple[float, Any]]:
    yield time.perf_counter(), None
    for event in events:
        yield time.perf_counter(), event.usage


def vocabulary_size(path: Path) -> int:
    from komt_local import llama

    with closing(llama.load(path)) as model:
        return model.n_vocab


def measure(options: argparse.Namespace, path: Path) -> dict[str, list[Speeds]]:
    from komt_local.hardware import physical_cores

    threads = options.threads or physical_cores()
    n_ctx = 2 * options.prompt + options.generate
    n_vocab = min(30_000, vocabulary_size(path))
    results: dict[str, list[Speeds]] = {}
    with ExitStack() as stack:
        contenders: dict[str, Way] = {
            name: stack.enter_context(
                closing(Elsewhere(way, path, n_ctx, options.generate, threads))
            )
            for name, way in WAYS.items()
        }
        if folder := os.environ.get("LLAMA_CPP_BIN"):
            program = Path(folder) / "llama-bench"
            contenders["llama-bench"] = llama_bench(program, path, options.generate, threads)
        for repetition in range(options.repetitions + 1):
            prompt = [random.randrange(300, n_vocab) for _ in range(options.prompt)]
            for name, way in contenders.items():
                speeds = way(prompt)
                if repetition:  # the first one warms up
                    results.setdefault(name, []).append(speeds)
    return results


def report(results: dict[str, list[Speeds]], n_prompt: int, n_gen: int) -> None:
    others = [name for name in ("bare", "llama-bench") if name in results]
    headings = ["way", "phase", "tokens/s", *(f"of {name}" for name in others), "µs per token"]
    print(f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}")
    phases: dict[str, Callable[[Speeds], float]] = {
        "prompt": lambda pair: pair[0],
        "generation": lambda pair: pair[1],
        "both": lambda pair: n_gen / (n_prompt / pair[0] + n_gen / pair[1]),
    }
    for label, of in phases.items():
        speeds = {name: list(map(of, pairs)) for name, pairs in results.items()}
        for name, mine in speeds.items():
            ratios = [beside(mine, speeds[other]) if other != name else "" for other in others]
            cost = cost_of(mine, speeds["bare"]) if label == "both" else ""
            print(f"| {' | '.join([name, label, f'{median(mine):.1f}', *ratios, cost])} |")


def cost_of(mine: Sequence[float], bare: Sequence[float]) -> str:
    return f"{median((1 / a - 1 / b) * 1e6 for a, b in zip(mine, bare, strict=True)):.1f}"


def beside(mine: Sequence[float], other: Sequence[float]) -> str:
    ratios = [a / b for a, b in zip(mine, other, strict=True)]
    return f"{median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


SHAPES: dict[str, dict[str, Any]] = {
    "150M": {"n_layers": 12, "hidden_size": 768, "intermediate_size": 2048, "n_heads": 12},
    "1B": {
        "n_layers": 22,
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "n_heads": 32,
        "n_kv_heads": 4,
    },
    "tiny": {"n_layers": 1, "hidden_size": 64, "intermediate_size": 128, "n_heads": 2},
}
"""Under the whole vocabulary of Llama 2, but for the last; 1B is TinyLlama's."""


def make(path: Path, quant: str, shape: str) -> None:
    """A Llama of random weights, by our own converter."""
    sys.path.insert(0, str(ROOT / "tests"))
    from checkpoints import write_llama_checkpoint
    from komt_convert import convert

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_llama_checkpoint(
            Path(folder) / "checkpoint", full_vocab=shape != "tiny", **SHAPES[shape]
        )
        config = json.loads((checkpoint / "config.json").read_text())
        config["max_position_embeddings"] = 8192  # llama-server takes no longer prompts
        (checkpoint / "config.json").write_text(json.dumps(config))
        convert(checkpoint, path, quant=quant, verify=False, force=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--make", type=Path, metavar="PATH")
    parser.add_argument("--shape", default="150M", choices=SHAPES)
    parser.add_argument("--quant", default="Q8_0")
    parser.add_argument("-p", "--prompt", type=int, default=512)
    parser.add_argument("-n", "--generate", type=int, default=128)
    parser.add_argument("-r", "--repetitions", type=int, default=7)
    parser.add_argument("-t", "--threads", type=int)
    options = parser.parse_args()
    if options.make:
        make(options.make, options.quant, options.shape)
    path = options.make or options.model
    if path is None:
        parser.error("give a model, or --make PATH")
    report(measure(options, path), options.prompt, options.generate)


if __name__ == "__main__":
    main()
