"""How fast a model runs on this machine: prompt and generation speed, as llama-bench defines them.

pp: a prompt of random tokens, evaluated in full batches on an empty context.
tg: random tokens evaluated one at a time on an empty context, BOS first; nothing is sampled.
One warm-up run of each, then the mean over the repetitions.
https://github.com/ggml-org/llama.cpp/blob/master/tools/llama-bench/llama-bench.cpp
"""

from __future__ import annotations

import random
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from .hardware import physical_cores
from .llama import Context, NativeModel, Span, gpus, load

_BATCH = 512


@dataclass(frozen=True, slots=True)
class BenchResult:
    """Speeds in tokens per second: the mean, and the standard deviation over the repetitions."""

    model: str
    size_bytes: int
    n_parameters: int
    threads: int
    n_prompt: int
    n_gen: int
    repetitions: int
    prompt_tokens_per_second: float
    prompt_deviation: float
    generated_tokens_per_second: float
    generated_deviation: float


def measure(
    path: Path,
    n_prompt: int = 512,
    n_gen: int = 128,
    threads: int | None = None,
    repetitions: int = 5,
) -> BenchResult:
    """Load the model at `path` and measure it. Raises InvalidModel and OutOfMemory."""
    threads = threads or physical_cores()
    model = load(path, n_gpu_layers=-1 if gpus() else 0)
    try:
        n_ctx = max(n_prompt, n_gen)
        with Context(model, n_ctx=n_ctx, n_batch=_BATCH, threads=threads) as context:
            prompt = _speeds(lambda: _read_prompt(context, model, n_prompt), n_prompt, repetitions)
            generated = _speeds(lambda: _generate(context, model, n_gen), n_gen, repetitions)
        about = (model.description, model.size, model.n_params, threads)
    finally:
        model.close()
    return BenchResult(*about, n_prompt, n_gen, repetitions, *prompt, *generated)


def _speeds(run: Callable[[], None], n_tokens: int, repetitions: int) -> tuple[float, float]:
    run()
    speeds = []
    for _ in range(repetitions):
        began = time.perf_counter()
        run()
        speeds.append(n_tokens / (time.perf_counter() - began))
    return mean(speeds), stdev(speeds) if repetitions > 1 else 0.0


def _tokens(model: NativeModel, n_tokens: int) -> array[int]:
    tokens = array("i", random.choices(range(model.n_vocab), k=n_tokens))
    if model.bos is not None:
        tokens[0] = model.bos
    return tokens


def _read_prompt(context: Context, model: NativeModel, n_prompt: int) -> None:
    context.keep(0, 0)
    tokens = _tokens(model, n_prompt)
    for start in range(0, n_prompt, context.n_batch):
        _evaluate(context, tokens, start, min(start + context.n_batch, n_prompt))


def _generate(context: Context, model: NativeModel, n_gen: int) -> None:
    context.keep(0, 0)
    tokens = _tokens(model, n_gen)
    for position in range(n_gen):
        _evaluate(context, tokens, position, position + 1)


def _evaluate(context: Context, tokens: array[int], start: int, stop: int) -> None:
    context.decode([Span(0, tokens, start, stop)])
