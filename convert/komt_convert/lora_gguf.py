"""A LoRA adapter as a GGUF file of its own, which llama.cpp adds to a model when it runs it.

Each half goes the way of the weight that it belongs to: what an architecture does to a linear
weight, it does to whole rows, and the rows of a weight are those of B. Of the base model only the
config is read. What llama.cpp does not add at run time (saved embeddings, heads, norms) is refused.
The format: https://github.com/ggml-org/llama.cpp, convert_lora_to_gguf.py and src/llama-adapter.cpp
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import perf_counter

import numpy as np

from komt_convert import arch
from komt_convert.arch.base import Slot
from komt_convert.card import called
from komt_convert.checkpoint import read_config
from komt_convert.digests import Digests, inputs
from komt_convert.errors import UnsupportedError
from komt_convert.lora import as_named_in, oriented, target_of
from komt_convert.lora_file import Adapter, Pair, read_adapter
from komt_convert.metadata import Metadata, f32, text, u32
from komt_convert.output import refuse_full_disk, refuse_target, replacing
from komt_convert.report import Report, peak_memory_bytes, report_path
from komt_convert.sources import base_of
from komt_convert.tensor_types import BY_NAME
from komt_convert.tensors import FloatArray, Tensor, from_array
from komt_convert.verify import verify_tensors
from komt_convert.writer import plan, write

SHARED = ("token_embd.weight", "output.weight")


def convert_adapter(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    base: str | os.PathLike[str] | None = None,
    name: str | None = None,
    force: bool = False,
    save_report: bool = False,
) -> Report:
    """Convert the adapter in the folder `source` to the GGUF adapter `out`, as float32.

    `base` is the folder of the model that it was trained on, else the one that it names; its
    config.json is enough. `save_report` writes the report beside `out`. Raises ConvertError.
    """
    started = perf_counter()
    folder, target = Path(source), Path(out)
    refuse_target(target, force=force)
    refuse_target(report_path(target), force=True)
    config = read_config(base_of(folder, None if base is None else Path(base)))
    architecture = arch.lookup(config)
    slots = {slot.source: slot for slot in architecture.slots()}
    adapter = as_named_in(slots, read_adapter(folder))
    tensors = list(adapter_tensors(adapter, slots, tied=bool(config.get("tie_word_embeddings"))))
    metadata: Metadata = {
        "general.architecture": architecture.metadata(_Config(config))["general.architecture"],
        "general.type": text("adapter"),
        "general.name": text(name or called(folder)),
        "general.file_type": u32(0),
        "adapter.type": text("lora"),
        "adapter.lora.alpha": f32(_alpha(adapter)),
    }
    layout = plan(metadata, tensors, {tensor.name: BY_NAME["F32"] for tensor in tensors})
    refuse_full_disk(target, layout.size)
    read = inputs("adapter 1", folder, adapter.weights)
    with Digests(read, threads=1) as digests, replacing(target, force=force) as output:
        own = write(layout, output, threads=1, hashed=True)
        proof = verify_tensors(output.path, layout, threads=1, sha256=own)
        files = digests.result()
        output.commit(outdated=report_path(target))
    report = Report(
        out=target,
        file_type="F32",
        architecture=metadata["general.architecture"].data,
        n_tensors=len(tensors),
        n_parameters=layout.n_parameters,
        source_bytes=adapter.size_bytes,
        out_bytes=layout.size,
        bits_per_weight=32.0,
        seconds=perf_counter() - started,
        peak_memory_bytes=peak_memory_bytes(),
        verified=True,
        tokens_compared=0,
        has_chat_template=False,
        kernels={},
        errors=proof.errors,
        sha256=proof.sha256,
        warnings=(),
        worst=proof.worst,
        source_files=files,
    )
    if save_report:
        report.save()
    return report


class _Config:
    """A checkpoint of which only the config counts."""

    def __init__(self, config: Mapping[str, object]) -> None:
        self.config = config
        self.tensors: dict[str, Tensor] = {}


def adapter_tensors(adapter: Adapter, slots: Mapping[str, Slot], *, tied: bool) -> Iterator[Tensor]:
    """`lora_a` and `lora_b` of every pair, under the GGUF name of the weight they belong to."""
    if adapter.saved:
        raise _merge_instead(adapter, next(iter(adapter.saved)))
    shapes = {name: slot.shape for name, slot in slots.items()}
    for pair in oriented(adapter, shapes):
        slot = slots[target_of(adapter, pair, shapes)]
        if tied and slot.target in SHARED:  # one tensor in the file, two in llama.cpp
            raise _merge_instead(adapter, pair.module)
        a, b = (half.read(0, half.n_rows) for half in (pair.a, pair.b))
        if slot.target == "token_embd.weight":
            a = np.ascontiguousarray(a.T)
        elif pair.transposed:
            raise _merge_instead(adapter, pair.module)
        else:
            b = _moved(slot, b)
        yield from_array(f"{slot.target}.lora_a", a)
        yield from_array(f"{slot.target}.lora_b", b * np.float32(_correction(adapter, pair)))


def _moved(slot: Slot, b: FloatArray) -> FloatArray:
    """The rows of B in the order that the rows of the weight have in a GGUF file."""
    if slot.change is None:
        return b
    moved = slot.change(from_array(slot.source, b))
    return moved.read(0, moved.n_rows)


def _alpha(adapter: Adapter) -> float:
    """llama.cpp multiplies with alpha / r, and takes an alpha of 0 for none."""
    return adapter.alpha or 1.0


def _correction(adapter: Adapter, pair: Pair) -> float:
    """What a pair's own alpha, or another formula, makes of alpha / r; 1 for plain LoRA."""
    return pair.factor * pair.rank / _alpha(adapter)


def _merge_instead(adapter: Adapter, name: str) -> UnsupportedError:
    return UnsupportedError(
        f"The adapter {adapter.folder} changes {name!r} in a way that llama.cpp cannot add to a "
        "model that runs; merge it with --lora instead.",
        f"{adapter.folder} 어댑터의 {name!r} 변경은 llama.cpp가 실행 중에 더할 수 없습니다. "
        "대신 --lora로 합치세요.",
    )
