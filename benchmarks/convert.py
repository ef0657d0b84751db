"""Conversion side by side: komt_convert in one pass, and llama.cpp's converter plus quantizer.

Makes a Llama checkpoint (noise as bf16, in shards), converts it both ways in the same run, by
turns, and prints a table. Each command is a process of its own, of which the wall time and the most
resident memory, mapped pages counted, are taken; before each, what it reads is read once, so that
all find the same in memory. Theirs is convert_hf_to_gguf.py to bf16, which loses nothing, and
llama_model_quantize of that file; for F16 the converter alone. Ours proves the file as it always
does. A ratio is the median over the rounds of ours / theirs in the same round.

    python benchmarks/convert.py --llama-cpp llama_cpp_python-0.3.36/vendor/llama.cpp
    python benchmarks/convert.py --llama-cpp ... --shape 7B --rounds 1

`--llama-cpp` is where the source archive of llama-cpp-python was unpacked; without it, only
komt_convert is measured. `--lora` adds a row with an adapter merged in the same pass. Needs three
times the checkpoint's size in --folder, and a system with os.wait4 (not Windows).
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
sys.path.insert(0, str(ROOT / "tests"))
from checkpoints import shapes, write_llama_checkpoint  # noqa: E402

NUMBERS = {"F16": 1, "Q8_0": 7, "Q4_0": 2, "Q4_K_M": 15, "Q5_K_M": 17, "Q6_K": 18}
OURS, WITH_ADAPTER, THEIRS = "komt_convert", "komt_convert, adapter merged", "llama.cpp"
BESIDE = {OURS: THEIRS, WITH_ADAPTER: OURS, THEIRS: THEIRS}
SHAPES = {
    "1B": {"layers": 22, "width": 2048, "ffn": 5632, "heads": 32, "kv_heads": 4},
    "7B": {"layers": 32, "width": 4096, "ffn": 11008, "heads": 32, "kv_heads": 32},
    "tiny": {"layers": 2, "width": 256, "ffn": 512, "heads": 4, "kv_heads": 2},
}
"""TinyLlama 1.1B and Llama 2 7B, and one that only shows that everything here runs."""
RANK = 16
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


Costs = dict[tuple[str, str], list[Cost]]
"""Of each type and way, one cost a round."""


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="komt-benchmark-") as name:
        folder = Path(name)
        source = make_checkpoint(folder / "checkpoint", options)
        adapter = make_adapter(folder / "adapter", options) if options.lora else None
        costs: Costs = {}
        for _ in range(options.rounds):
            for key, cost in one_round(source, adapter, folder, options):
                costs.setdefault(key, []).append(cost)
                print(*key, f"{cost.seconds:.1f} s {cost.memory / 1e6:.0f} MB", file=sys.stderr)
        print(table(costs, options))


def one_round(
    source: Path, adapter: Path | None, folder: Path, options: argparse.Namespace
) -> Iterator[tuple[tuple[str, str], Cost]]:
    """What each way to each type costs; their file between the two steps is made once a round.

    Before each type, a conversion goes by that does not count: those after it find the memory that
    its file let go, which a virtual machine may get from its host no faster than a disk writes.
    """
    between, threads = folder / "between.gguf", str(options.threads)
    to_bf16 = theirs(source, between, "bf16", options) if options.llama_cpp else None
    for kind in options.types:
        out = folder / "out.gguf"
        arguments = ["-m", "komt_convert", source, "-o", out, "-q", kind, "-t", threads, "--json"]
        run(source, arguments, out)
        yield (kind, OURS), run(source, arguments, out)
        if adapter:
            yield (kind, WITH_ADAPTER), run(source, [*arguments, "--lora", adapter], out)
        if to_bf16 and kind == "F16":
            yield (kind, THEIRS), theirs(source, out, "f16", options)
            out.unlink()
        elif to_bf16:
            to_kind = run(between, ["-c", QUANTIZE, between, out, str(NUMBERS[kind]), threads], out)
            yield (kind, THEIRS), to_bf16.then(to_kind)
    between.unlink(missing_ok=True)


def theirs(source: Path, out: Path, kind: str, options: argparse.Namespace) -> Cost:
    converter = Path(options.llama_cpp) / "convert_hf_to_gguf.py"
    return run(source, [converter, source, "--outfile", out, "--outtype", kind])


def run(source: Path, arguments: list[Any], out: Path | None = None) -> Cost:
    """Run this Python with `arguments`, stop everything if that fails, and remove `out`."""
    fetch(source)
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
    if out:
        out.unlink()
        out.with_name(out.name + ".report.json").unlink(missing_ok=True)
    return Cost(seconds, memory)


def fetch(source: Path) -> None:
    """Read a file, or those of a folder, into the system's memory."""
    block = bytearray(1 << 22)
    for path in sorted(source.iterdir()) if source.is_dir() else [source]:
        with path.open("rb", buffering=0) as file:
            while file.readinto(block):
                pass


def table(costs: Costs, options: argparse.Namespace) -> str:
    """Medians, as Markdown; beside a ratio the least and the greatest of any round."""
    parameters = sum(map(prod, shapes(config_of(options)).values()))
    lines = [
        f"{parameters / 1e9:.2f} billion parameters, bf16; {options.threads} threads; "
        f"rounds: {options.rounds}",
        "",
        "| type | way | seconds | million parameters/s | peak memory, MB | time, ratio |",
        "|---|---|---|---|---|---|",
    ]
    for (kind, way), taken in costs.items():
        seconds = statistics.median(cost.seconds for cost in taken)
        memory = max(cost.memory for cost in taken) / 1e6
        rate = parameters / 1e6 / seconds
        ratio = ratio_of(taken, costs.get((kind, BESIDE[way])))
        lines.append(f"| {kind} | {way} | {seconds:.1f} | {rate:.0f} | {memory:.0f} | {ratio} |")
    return "\n".join(lines)


def ratio_of(ours: list[Cost], others: list[Cost] | None) -> str:
    if not others or ours is others:
        return ""
    ratios = [a.seconds / b.seconds for a, b in zip(ours, others, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


# --- the checkpoint ------------------------------------------------------------------------------


def make_checkpoint(folder: Path, options: argparse.Namespace) -> Path:
    """A checkpoint with Llama-2's vocabulary; of the weights, a chunk is in memory at a time."""
    write_llama_checkpoint(folder, full_vocab=True, n_layers=1, hidden_size=64, n_heads=2)
    (folder / "model.safetensors").unlink()
    config = json.loads((folder / "config.json").read_text())
    config |= config_of(options)
    (folder / "config.json").write_text(json.dumps(config))
    write_shards(folder, shapes(config_of(options)))
    return folder


def config_of(options: argparse.Namespace) -> dict[str, Any]:
    shape = SHAPES[options.shape]
    return {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": shape["width"],
        "intermediate_size": shape["ffn"],
        "num_hidden_layers": shape["layers"],
        "num_attention_heads": shape["heads"],
        "num_key_value_heads": shape["kv_heads"],
        "head_dim": shape["width"] // shape["heads"],
        "vocab_size": 32000,
        "tie_word_embeddings": False,
    }


def make_adapter(folder: Path, options: argparse.Namespace) -> Path:
    """A LoRA adapter of rank 16 on every matrix of every layer, as PEFT saves them."""
    pairs: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes(config_of(options)).items():
        if len(shape) == 2 and ".layers." in name:
            module = "base_model.model." + name.removesuffix(".weight")
            pairs[f"{module}.lora_A.weight"] = (RANK, shape[1])
            pairs[f"{module}.lora_B.weight"] = (shape[0], RANK)
    folder.mkdir()
    write_shard(folder / "adapter_model.safetensors", pairs, seed=0)
    modules = sorted({name.split(".")[-3] for name in pairs})
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": modules}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


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
    parser.add_argument("--shape", default="1B", choices=SHAPES)
    parser.add_argument(
        "--types", nargs="+", default=["F16", "Q8_0", "Q4_K_M", "Q5_K_M"], choices=NUMBERS
    )
    parser.add_argument("--lora", action="store_true", help="also with an adapter merged in")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where there is room")
    options = parser.parse_args()
    free = shutil.disk_usage(options.folder).free
    needed = 6.5 * sum(map(prod, shapes(config_of(options)).values()))
    if free < needed:
        sys.exit(f"{options.folder} has {free / 1e9:.1f} GB free; {needed / 1e9:.1f} are needed.")
    return options


if __name__ == "__main__":
    main()
