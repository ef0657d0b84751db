"""Merging a LoRA adapter: W + scale · factor · B·A, in float32, while the rows are read.

Works on the names and the layout of Hugging Face, before an architecture renames or permutes. What
is quantized later is this float32 value, not one rounded to 16 bits in between. The sum is that of
PEFT's `merge_and_unload`; tensors that an adapter saves whole take the place of the model's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from komt_convert.checkpoint import Checkpoint
from komt_convert.errors import SourceError
from komt_convert.lora_file import Adapter, Pair
from komt_convert.tensors import FloatArray, Tensor

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
"""Where a checkpoint has the second of them only, both are one tensor."""

BLOCK = 128
"""Rows that are multiplied at once. A row's sum must not depend on what else is read with it, and
the last bits of a matrix product do depend on its shape, so the shape is always the same."""


def merge(tensors: Mapping[str, Tensor], adapter: Adapter, scale: float = 1.0) -> dict[str, Tensor]:
    """The tensors with an adapter added to them, `scale` times; nothing is read yet.

    Raises SourceError when the adapter does not fit these tensors.
    """
    merged = _with_saved(tensors, adapter)
    shapes = {name: tensor.shape for name, tensor in merged.items()}
    for pair in oriented(adapter, shapes):
        target = merged[target_of(adapter, pair, shapes)]
        read = _sum(target, pair, np.float32(scale * pair.factor))
        merged[target.name] = replace(target, read=read, dtype="F32")
    return merged


def merge_into(checkpoint: Checkpoint, adapter: Adapter, scale: float = 1.0) -> Checkpoint:
    """The checkpoint with an adapter added, `scale` times; one with added tokens brings its own
    tokenizer. Raises SourceError."""
    tensors = merge(checkpoint.tensors, adapter, scale)
    config, tokenizer = dict(checkpoint.config), checkpoint.tokenizer
    if HEAD in tensors and HEAD not in checkpoint.tensors:
        config["tie_word_embeddings"] = False
    for name in adapter.saved.keys() & checkpoint.tensors.keys():
        before, after = checkpoint.tensors[name].shape, adapter.saved[name].shape
        if before != after and before[0] == config.get("vocab_size"):
            config["vocab_size"] = after[0]
    if EMBEDDING in adapter.saved and has_tokenizer(adapter.folder):
        tokenizer = adapter.folder
    return replace(checkpoint, config=config, tensors=tensors, tokenizer_folder=tokenizer)


def has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("tokenizer.model", "tokenizer.json"))


Shapes = Mapping[str, tuple[int, ...]]


def oriented(adapter: Adapter, shapes: Shapes) -> tuple[Pair, ...]:
    """The pairs, transposed where the modules hold their weights columns first.

    PEFT sets `fan_in_fan_out` back where a module is an ordinary linear layer; here the shapes
    tell: one weight that fits transposed only, and all are.
    """
    if not adapter.fan_in_fan_out:
        return adapter.pairs
    linear = [pair for pair in adapter.pairs if not pair.transposed]
    if all(shapes.get(pair.weight, pair.shape) == pair.shape for pair in linear):
        return adapter.pairs
    return tuple(replace(pair, transposed=True) for pair in adapter.pairs)


def target_of(adapter: Adapter, pair: Pair, shapes: Shapes) -> str:
    """The name of the weight that a pair is added to. Raises SourceError."""
    shape = shapes.get(pair.weight)
    if shape is None:
        raise _foreign(adapter, pair.module)
    if shape != pair.shape:
        raise SourceError(
            f"The adapter {adapter.folder} has {list(pair.b.shape)} times {list(pair.a.shape)} for "
            f"{pair.weight!r}, which is {list(shape)}; it belongs to another model.",
            f"{adapter.folder} 어댑터의 {list(pair.b.shape)}×{list(pair.a.shape)}이(가) "
            f"{pair.weight!r} {list(shape)}에 맞지 않습니다. 다른 모델의 어댑터입니다.",
        )
    return pair.weight


def _with_saved(tensors: Mapping[str, Tensor], adapter: Adapter) -> dict[str, Tensor]:
    """The tensors, with what the adapter saves whole in the place of the model's own.

    A vocabulary may have grown, so the number of rows may differ; the architecture has the last
    word on shapes. A head that the model shares with its embedding stays what it was when the
    embedding was trained as a copy of its own.
    """
    merged = dict(tensors)
    tied = HEAD not in tensors and EMBEDDING in tensors
    for name, tensor in adapter.saved.items():
        original = tensors.get(EMBEDDING if tied and name == HEAD else name)
        if original is None or original.shape[1:] != tensor.shape[1:]:
            raise _foreign(adapter, name)
        merged[name] = tensor
    if tied and HEAD in merged and same(merged[HEAD], merged[EMBEDDING]):
        del merged[HEAD]
    elif tied and EMBEDDING in adapter.saved and HEAD not in merged and _is_separate(adapter):
        merged[HEAD] = replace(tensors[EMBEDDING], name=HEAD)
    return merged


def _is_separate(adapter: Adapter) -> bool:
    return any(EMBEDDING.removesuffix(".weight").endswith(name) for name in adapter.separate)


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same values, which are read."""
    starts = range(0, one.n_rows, BLOCK)
    ranges = ((start, min(start + BLOCK, one.n_rows)) for start in starts)
    return one.shape == other.shape and all(
        np.array_equal(one.read(*rows), other.read(*rows)) for rows in ranges
    )


def _sum(target: Tensor, pair: Pair, factor: np.float32) -> Callable[[int, int], FloatArray]:
    def read(start: int, stop: int) -> FloatArray:
        first = start - start % BLOCK
        last = min(-(-stop // BLOCK) * BLOCK, target.n_rows)
        left, right = _factors(pair, first, last)
        summed = np.empty((last - first, target.row_length), np.float32)
        for at in range(0, last - first, BLOCK):
            rows = np.zeros((BLOCK, pair.rank), np.float32)
            part = left[at : at + BLOCK]
            rows[: len(part)] = part
            summed[at : at + BLOCK] = (rows @ right)[: len(part)]
        summed *= factor
        kept = summed[start - first : stop - first]
        kept += target.read(start, stop)
        return kept

    return read


def _factors(pair: Pair, first: int, last: int) -> tuple[FloatArray, FloatArray]:
    """(rows, r) and (r, columns): their product is what is added to these rows."""
    if not pair.transposed:
        return pair.b.read(first, last), pair.a.read(0, pair.rank)
    a, b = pair.a.read(0, pair.rank), pair.b.read(0, pair.b.n_rows)
    return np.ascontiguousarray(a[:, first:last].T), np.ascontiguousarray(b.T)


def _foreign(adapter: Adapter, name: str) -> SourceError:
    return SourceError(
        f"The adapter {adapter.folder} changes {name!r}, which the model does not have, or not of "
        "that shape; merge it into the model that it was trained on.",
        f"{adapter.folder} 어댑터가 바꾸는 {name!r} 텐서가 모델에 없거나 모양이 다릅니다. "
        "어댑터를 학습한 기반 모델에 합치세요.",
    )
