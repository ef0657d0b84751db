"""Conversion side by side: komt_convert in one pass, and llama.cpp's converter plus quantizer.

Makes a Llama checkpoint of about 1.1 billion parameters (noise as bf16, in shards), converts it
both ways in the same run, one after the other, and prints a table with the ratios. Each command is
a process of its own, of which the wall time and the most resident memory are taken.

    python benchmarks/convert.py --llama-cpp llama_cpp_python-0.3.36/vendor/llama.cpp

`--llama-cpp` is where the source archive of llama-cpp-python was unpacked; without it, only
komt_convert is measured. Needs about 7 GB in --folder, and a system with os.wait4 (not Windows).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
NUMBERS = {"Q8_0": 7, "Q4_0": 2, "Q4_K_M": 15, "Q5_K_M": 17, "Q6_K": 18}
CHUNK_VALUES = 1 << 22
SHARD_BYTES = 1 << 30

# The memory of the process that starts another counts as the other's, so a small one does it.
MEASURE = """
import json, os, sys, time
started = time.perf_counter()
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
seconds = time.perf_counter() - started
memory = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps([os.waitstatus_to_exitcode(status), seconds, memory]))
"""

QUANTIZE = """
import ctypes, sys, llama_cpp as l
quiet = l.llama_log_callback(lambda *a: None)
l.llama_log_set(quiet, ctypes.c_void_p(0))
source, target, number, threads = sys.argv[1:]
p = l.llama_model_quantize_default_params()
p.ftype, p.nthread = int(number), int(threads)
sys.exit(l.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(p)))
"""


@dataclass(frozen=True)
class Cost:
    """Wall time in seconds and the most resident memory in bytes of one process, or of several."""

    seconds: float
    memory: int

    def then(self, other: Cost) -> Cost:
        return Cost(self.seconds + other.seconds, max(self.memory, other.memory))


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="komt-benchmark-") as name:
        folder = Path(name)
        source = make_checkpoint(folder / "checkpoint", options)
        costs: dict[tuple[str, str], list[Cost]] = {}
        for _ in range(options.runs):
            for kind in options.types:
                for way, cost in measure(kind, source, folder, options):
                    costs.setdefault((kind, way), []).append(cost)
        print(table(costs, options))


def measure(
    kind: str, source: Path, folder: Path, options: argparse.Namespace
) -> Iterator[tuple[str, Cost]]:
    """What each way to a file of type `kind` costs."""
    out, between = folder / "out.gguf", folder / "between.gguf"
    threads = str(options.threads)
    ours = ["-m", "komt_convert", source, "-o", out, "-q", kind, "-t", threads, "--json"]
    yield "komt_convert", run(ours)
    out.unlink()
    yield "komt_convert --no-verify", run([*ours, "--no-verify"])
    if options.llama_cpp:
        out.unlink()
        converter = Path(options.llama_cpp) / "convert_hf_to_gguf.py"
        to_bf16 = run([converter, source, "--outfile", between, "--outtype", "bf16"])
        to_kind = run(["-c", QUANTIZE, between, out, str(NUMBERS[kind]), threads])
        yield "llama.cpp, convert", to_bf16
        yield "llama.cpp, quantize", to_kind
        yield "llama.cpp, both", to_bf16.then(to_kind)
        between.unlink()
    out.unlink()


def run(arguments: list[Any]) -> Cost:
    """Run this Python with `arguments`, and stop everything if that fails."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'convert'}"}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(
        [sys.executable, "-S", "-c", MEASURE, *command],
        capture_output=True,
        text=True,
        env=environment,
    )
    status, seconds, memory = json.loads(done.stdout.splitlines()[-1])
    if status:
        sys.exit(f"{command} failed:\n{done.stdout}{done.stderr}")
    return Cost(seconds, memory)


def table(costs: dict[tuple[str, str], list[Cost]], options: argparse.Namespace) -> str:
    """Medians, as Markdown; the ratio is to llama.cpp's two steps together."""
    parameters = sum(map(prod, shapes(options).values()))
    lines = [
        f"{parameters / 1e9:.2f} billion parameters, bf16; {options.threads} threads; "
        f"median of {options.runs}",
        "",
        "| type | way | seconds | million parameters/s | peak memory, MB | time, ratio |",
        "|---|---|---|---|---|---|",
    ]
    for (kind, way), taken in costs.items():
        seconds = statistics.median(cost.seconds for cost in taken)
        memory = max(cost.memory for cost in taken) / 1e6
        both = costs.get((kind, "llama.cpp, both"))
        ratio = f"{seconds / statistics.median(c.seconds for c in both):.2f}" if both else ""
        rate = parameters / 1e6 / seconds
        lines.append(f"| {kind} | {way} | {seconds:.1f} | {rate:.0f} | {memory:.0f} | {ratio} |")
    return "\n".join(lines)


# --- the checkpoint ------------------------------------------------------------------------------


def make_checkpoint(folder: Path, options: argparse.Namespace) -> Path:
    """A checkpoint with Llama-2's vocabulary; of the weights, a chunk is in memory at a time."""
    sys.path.insert(0, str(ROOT / "tests"))
    from checkpoints import write_llama_checkpoint

    write_llama_checkpoint(folder, full_vocab=True, n_layers=1, hidden_size=64, n_heads=2)
    (folder / "model.safetensors").unlink()
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "hidden_size": options.width,
        "intermediate_size": options.ffn,
        "num_hidden_layers": options.layers,
        "num_attention_heads": options.heads,
        "num_key_value_heads": options.kv_heads,
        "head_dim": options.width // options.heads,
    }
    (folder / "config.json").write_text(json.dumps(config))
    write_shards(folder, shapes(options))
    return folder


def shapes(options: argparse.Namespace) -> dict[str, tuple[int, ...]]:
    sys.path.insert(0, str(ROOT / "tests"))
    from checkpoints import llama_shapes

    return llama_shapes(
        {
            "hidden_size": options.width,
            "intermediate_size": options.ffn,
            "num_hidden_layers": options.layers,
            "num_attention_heads": options.heads,
            "num_key_value_heads": options.kv_heads,
            "vocab_size": 32000,
            "tie_word_embeddings": False,
        }
    )


def write_shards(folder: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    for name, shape in sorted(shapes.items()):
        if 2 * sum(map(prod, shards[-1].values())) > SHARD_BYTES:
            shards.append({})
        shards[-1][name] = shape
    weight_map = {}
    for i, part in enumerate(shards, start=1):
        file = f"model-{i:05}-of-{len(shards):05}.safetensors"
        write_shard(folder / file, part, i)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def write_shard(path: Path, shapes: dict[str, tuple[int, ...]], seed: int) -> None:
    header, offset = {}, 0
    for name, shape in shapes.items():
        end = offset + 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random = np.random.default_rng(seed)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for shape in shapes.values():
            for chunk in noise(random, shape):
                file.write(chunk)


def noise(random: np.random.Generator, shape: tuple[int, ...]) -> Iterator[bytes]:
    """Values as trained weights have them: around 1 for a norm, else small and heavy-tailed."""
    left = prod(shape)
    while left:
        n = min(left, CHUNK_VALUES)
        values = random.standard_normal(n, np.float32) * np.float32(0.02)
        values *= 1 + 0.5 * random.random(n, np.float32) ** 8
        if len(shape) == 1:
            values += 1
        yield (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        left -= n


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--llama-cpp", help="unpacked sources with convert_hf_to_gguf.py")
    parser.add_argument("--types", nargs="+", default=["Q8_0", "Q4_K_M"], choices=NUMBERS)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where there is room")
    for name, default in (
        ("layers", 22),
        ("width", 2048),
        ("ffn", 5632),
        ("heads", 32),
        ("kv-heads", 4),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    free, needed = (
        shutil.disk_usage(options.folder).free,
        9 * sum(map(prod, shapes(options).values())),
    )
    if free < needed:
        sys.exit(f"{options.folder} has {free / 1e9:.1f} GB free; {needed / 1e9:.1f} are needed.")
    return options


if __name__ == "__main__":
    main()
