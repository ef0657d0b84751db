"""Files of a checkpoint: safetensors, JSON, and the noise that stands for weights."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Dtype = Literal["F32", "F16", "BF16"]
Weights = Mapping[str, NDArray[np.float32]]


def noise(shape: tuple[int, ...], seed: int | tuple[int, ...]) -> NDArray[np.float32]:
    """Bell-shaped noise of standard deviation 1/sqrt(row length), around 1 for a vector.

    Four 16-bit integers of one PCG64 draw are added up: exact, so the same with every numpy.
    """
    draws = np.random.PCG64(np.random.SeedSequence(seed)).random_raw(int(np.prod(shape)))
    quarters = draws.astype("<u8").view("<u2").reshape(-1, 4).astype(np.int32)
    values = (quarters.sum(axis=1) - 131070).astype(np.float32) / np.float32(37837.0)
    values = values.reshape(shape)
    if len(shape) == 1:
        return 1 + values / np.float32(16)
    return values / np.float32(2 ** round(np.log2(shape[-1]) / 2))


def write_weights(folder: Path, weights: Weights, *, dtype: Dtype, shards: int = 1) -> None:
    """Write model.safetensors, or `shards` files of consecutive tensors and their index."""
    if shards == 1:
        write_safetensors(folder / "model.safetensors", weights, dtype)
        return
    names = sorted(weights)
    weight_map = {}
    for number, part in enumerate(np.array_split(np.array(names), shards), start=1):
        file = f"model-{number:05}-of-{shards:05}.safetensors"
        write_safetensors(folder / file, {name: weights[name] for name in part.tolist()}, dtype)
        weight_map |= dict.fromkeys(part.tolist(), file)
    total = sum(w.size for w in weights.values()) * (4 if dtype == "F32" else 2)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    write_json(folder / "model.safetensors.index.json", index)


def write_safetensors(path: Path, tensors: Weights, dtype: Dtype) -> None:
    """https://github.com/huggingface/safetensors#format: header length, JSON header, values."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    blobs, offset = [], 0
    for name in sorted(tensors):
        blob = encode_values(tensors[name], dtype)
        shape, offsets = list(tensors[name].shape), [offset, offset + len(blob)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        offset += len(blob)
        blobs.append(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def encode_values(values: NDArray[np.float32], dtype: Dtype) -> bytes:
    """Little-endian bytes; BF16 rounds to nearest, ties to even."""
    if dtype == "F32":
        return values.astype("<f4").tobytes()
    if dtype == "F16":
        return values.astype("<f2").tobytes()
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False) + "\n", encoding="utf-8")
