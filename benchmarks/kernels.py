"""The kernels of komt_convert side by side with ggml's, one thread, the same bytes.

Both quantize the same rows, by turns; printed are medians over the rounds, in millions of values
per second of processor time, their ratio, and how far the rounds are apart.

    python benchmarks/kernels.py [Q4_K Q6_K ...] [--rounds 9] [--values 1048576]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from komt_convert import ggml, kernels
from komt_convert.tensor_types import BY_NAME

ROW = 4096


def seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def compare(name: str, rows: np.ndarray, rounds: int) -> str:
    type_ = BY_NAME[name]
    if not kernels.agrees(type_):
        return f"{name:<6} without Numba, or bytes differ: ggml does the work"
    chosen = kernels.choose({type_: rows.size}, worthwhile=0)
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(seconds(lambda: chosen.quantize(type_, rows)))
        theirs.append(seconds(lambda: ggml.quantize(type_, rows)))
    same = np.array_equal(chosen.quantize(type_, rows), ggml.quantize(type_, rows))
    mine, other = statistics.median(ours), statistics.median(theirs)
    spread = max(max(times) / min(times) - 1 for times in (ours, theirs))
    return (
        f"{name:<6} {rows.size / mine / 1e6:>8.1f} {rows.size / other / 1e6:>8.1f} "
        f"{other / mine:>7.2f} {spread:>7.0%}   {'same bytes' if same else 'BYTES DIFFER'}"
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("types", nargs="*", default=sorted(kernels.TYPES))
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--values", type=int, default=1 << 20)
    given = options.parse_args()
    shape = max(1, given.values // ROW), ROW
    rows = np.random.default_rng(0).standard_normal(shape, np.float32) * np.float32(0.02)
    print("type    komt/s   ggml/s   ratio  spread")
    for name in given.types:
        print(compare(name.upper(), rows, given.rounds))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
