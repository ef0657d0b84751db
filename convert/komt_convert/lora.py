"""Merging a LoRA adapter: W + scale · factor · B·A, in float32, while the rows are read.

Works on the names and the layout of Hugging Face, before an architecture renames or permutes. What
is quantized later is this float32 value, not one rounded to 16 bits in between. The sum is that of
PEFT's `merge_and_unload`; tensors that an adapter saves whole take the place of the model's own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import lru_cache
from math import prod
from pathlib import Path

import numpy as np

from komt_convert.checkpoint import Checkpoint
from komt_convert.digests import inputs
from komt_convert.errors import SourceError
from komt_convert.lora_file import Adapter, Pair
from komt_convert.products import adder, tiles
from komt_convert.tensors import FloatArray, Tensor

HEADS = ("lm_head.weight", "embed_out.weight")
EMBEDDINGS = ("model.embed_tokens.weight", "gpt_neox.embed_in.weight", "transformer.wte.weight")
"""The names that they go by; where a checkpoint has an embedding only, both are one tensor."""


def merge(tensors: Mapping[str, Tensor], adapter: Adapter, scale: float = 1.0) -> dict[str, Tensor]:
    """The tensors with an adapter added to them, `scale` times; nothing is read yet.

    Raises SourceError when the adapter does not fit these tensors.
    """
    merged = _with_saved(tensors, adapter)
    shapes = {name: tensor.shape for name, tensor in merged.items()}
    pairs = oriented(adapter, shapes)
    n_values = sum(prod(pair.shape) for pair in pairs)
    for pair in pairs:
        target = merged[target_of(adapter, pair, shapes)]
        read = _sum(target, pair, np.float32(scale * pair.factor), n_values)
        merged[target.name] = replace(target, read=read, dtype="F32")
    return merged


def merge_into(checkpoint: Checkpoint, adapter: Adapter, scale: float = 1.0) -> Checkpoint:
    """The checkpoint with an adapter added, `scale` times; one with added tokens brings its own
    tokenizer. Raises SourceError."""
    adapter = as_named_in(checkpoint.tensors, adapter)
    tensors = merge(checkpoint.tensors, adapter, scale)
    config, tokenizer = dict(checkpoint.config), checkpoint.tokenizer
    head, embedding = (_named(names, checkpoint.tensors) for names in (HEADS, EMBEDDINGS))
    if head in tensors and head not in checkpoint.tensors:
        config["tie_word_embeddings"] = False
    for name in adapter.saved.keys() & checkpoint.tensors.keys():
        before, after = checkpoint.tensors[name].shape, adapter.saved[name].shape
        if before != after and before[0] == config.get("vocab_size"):
            config["vocab_size"] = after[0]
    if embedding in adapter.saved and has_tokenizer(adapter.folder):
        tokenizer = adapter.folder
    part = f"adapter {len({file.part for file in checkpoint.files})}"  # one part is the model
    files = (*checkpoint.files, *inputs(part, adapter.folder, adapter.weights))
    return replace(
        checkpoint, config=config, tensors=tensors, tokenizer_folder=tokenizer, files=files
    )


def as_named_in(names: Collection[str], adapter: Adapter) -> Adapter:
    """The adapter with its head under the name that it has among `names`.

    transformers 5 has `lm_head` for what older ones, and the files of GPT-NeoX, call `embed_out`.
    """
    own = _named(HEADS, names)
    said = {*adapter.saved, *(pair.weight for pair in adapter.pairs)}
    if own not in names or own in said:
        return adapter

    def renamed(name: str) -> str:
        return own if name in HEADS else name

    saved = {renamed(n): replace(t, name=renamed(n)) for n, t in adapter.saved.items()}
    modules = [renamed(pair.weight).removesuffix(".weight") for pair in adapter.pairs]
    pairs = (replace(p, module=module) for p, module in zip(adapter.pairs, modules, strict=True))
    return replace(adapter, saved=saved, pairs=tuple(pairs))


def _named(known: tuple[str, ...], names: Collection[str]) -> str:
    """Which of the known names is used; the usual one if none is."""
    return next((name for name in known if name in names), known[0])


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
    head, embedding = _named(HEADS, tensors), _named(EMBEDDINGS, tensors)
    tied = head not in tensors and embedding in tensors
    for name, tensor in adapter.saved.items():
        original = tensors.get(embedding if tied and name == head else name)
        if original is None or original.shape[1:] != tensor.shape[1:]:
            raise _foreign(adapter, name)
        merged[name] = tensor
    if tied and head in merged and same(merged[head], merged[embedding]):
        del merged[head]
    elif tied and embedding in adapter.saved and head not in merged:
        module = embedding.removesuffix(".weight")
        if any(module.endswith(name) for name in adapter.separate):
            merged[head] = replace(tensors[embedding], name=head)
    return merged


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same values, which are read."""
    rows = range(one.n_rows)
    return one.shape == other.shape and all(
        np.array_equal(one.read(row, row + 1), other.read(row, row + 1)) for row in rows
    )


def _sum(
    target: Tensor, pair: Pair, factor: np.float32, n_values: int
) -> Callable[[int, int], FloatArray]:
    def read(start: int, stop: int) -> FloatArray:
        rows = np.require(target.read(start, stop), np.float32, ("C", "W"))
        left = np.ascontiguousarray(_left(pair, start, stop) * factor)
        adder(n_values)(rows, left, _right(pair))
        return rows

    return read


def _left(pair: Pair, first: int, last: int) -> FloatArray:
    """(rows, r): times what all rows share, it is what is added to these."""
    if not pair.transposed:
        return pair.b.read(first, last)
    return pair.a.read(0, pair.rank)[:, first:last].T


@lru_cache(maxsize=8)  # so many tensors may be under way at once
def _right(pair: Pair) -> FloatArray:
    """The tiles of (r, columns), which all rows of a weight share."""
    if not pair.transposed:
        return tiles(pair.a.read(0, pair.rank))
    return tiles(pair.b.read(0, pair.b.n_rows).T)


def _foreign(adapter: Adapter, name: str) -> SourceError:
    return SourceError(
        f"The adapter {adapter.folder} changes {name!r}, which the model does not have, or not of "
        "that shape; merge it into the model that it was trained on.",
        f"{adapter.folder} 어댑터가 바꾸는 {name!r} 텐서가 모델에 없거나 모양이 다릅니다. "
        "어댑터를 학습한 기반 모델에 합치세요.",
    )
