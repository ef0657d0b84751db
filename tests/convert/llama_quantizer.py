"""llama.cpp's own quantizer, and small Llama files for it: what written files are compared with."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from komt_convert.metadata import Metadata, f32, text, u32
from komt_convert.tensors import Tensor, from_array

Shapes = dict[str, tuple[int, ...]]


class Sizes(NamedTuple):
    layers: int
    width: int
    ffn: int
    heads: int
    kv_heads: int
    vocab: int
    tied: bool = False


def llama_shapes(sizes: Sizes) -> Shapes:
    """GGUF names and shapes, rows first, of a Llama."""
    layers, width, ffn, heads, kv_heads, vocab, tied = sizes
    kv = width // heads * kv_heads
    shapes: Shapes = {"token_embd.weight": (vocab, width), "output_norm.weight": (width,)}
    if not tied:
        shapes["output.weight"] = (vocab, width)
    for i in range(layers):
        shapes |= {
            f"blk.{i}.attn_norm.weight": (width,),
            f"blk.{i}.ffn_norm.weight": (width,),
            f"blk.{i}.attn_q.weight": (width, width),
            f"blk.{i}.attn_k.weight": (kv, width),
            f"blk.{i}.attn_v.weight": (kv, width),
            f"blk.{i}.attn_output.weight": (width, width),
            f"blk.{i}.ffn_gate.weight": (ffn, width),
            f"blk.{i}.ffn_up.weight": (ffn, width),
            f"blk.{i}.ffn_down.weight": (width, ffn),
        }
    return shapes


def llama_metadata(sizes: Sizes) -> Metadata:
    """What llama.cpp's quantizer wants to know about such a Llama."""
    return {
        "general.architecture": text("llama"),
        "llama.block_count": u32(sizes.layers),
        "llama.context_length": u32(512),
        "llama.embedding_length": u32(sizes.width),
        "llama.feed_forward_length": u32(sizes.ffn),
        "llama.attention.head_count": u32(sizes.heads),
        "llama.attention.head_count_kv": u32(sizes.kv_heads),
        "llama.attention.layer_norm_rms_epsilon": f32(1e-5),
        "llama.vocab_size": u32(sizes.vocab),
    }


def random_tensors(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> list[Tensor]:
    """Tensors of bell-shaped values, the same each time."""
    return [from_array(name, values) for name, values in random_values(shapes, seed).items()]


def random_values(
    shapes: Mapping[str, tuple[int, ...]], seed: int = 0
) -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    return {
        name: random.standard_normal(shape, np.float32) / np.float32(shape[-1] ** 0.5)
        for name, shape in shapes.items()
    }


def llama_quantize(
    source: Path,
    target: Path,
    number: int,
    *,
    dry_run: bool = False,
    requantize: bool = False,
    imatrix: Mapping[str, NDArray[np.float32]] | None = None,
    overrides: Sequence[tuple[str, int]] = (),
) -> list[str]:
    """Run `llama_model_quantize` to the file type `number`; gives the lines of its log.

    `imatrix` holds the weights of columns, `overrides` patterns and the numbers of their types.
    """
    import llama_cpp

    lines: list[str] = []

    def keep(level: int, said: bytes, data: object) -> None:
        lines.append(said.decode())

    callback = llama_cpp.llama_log_callback(keep)
    before, data = llama_cpp.llama_log_callback(), ctypes.c_void_p()
    llama_cpp.llama_log_get(ctypes.byref(before), ctypes.byref(data))
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype, parameters.nthread, parameters.dry_run = number, 1, dry_run
    parameters.allow_requantize = requantize
    if imatrix is not None:
        parameters.imatrix = _imatrix(imatrix)
    if overrides:
        parameters.tt_overrides = _overrides(overrides)
    try:
        status = llama_cpp.llama_model_quantize(
            str(source).encode(), str(target).encode(), ctypes.byref(parameters)
        )
    finally:
        llama_cpp.llama_log_set(before, data)
    assert status == 0, "".join(lines)
    return lines


def _imatrix(weights: Mapping[str, NDArray[np.float32]]) -> ctypes.Array[Any]:
    import llama_cpp

    entries = [
        llama_cpp.llama_model_imatrix_data(
            name.encode(), values.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), values.size
        )
        for name, values in weights.items()
    ]
    return (llama_cpp.llama_model_imatrix_data * (len(entries) + 1))(*entries)


def _overrides(given: Sequence[tuple[str, int]]) -> ctypes.Array[Any]:
    import llama_cpp

    entries = [llama_cpp.llama_model_tensor_override(p.encode(), type_) for p, type_ in given]
    return (llama_cpp.llama_model_tensor_override * (len(entries) + 1))(*entries)
