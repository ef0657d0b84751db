"""GGML files of 2023, made on the fly: what llama.cpp's converters wrote between March and June.

    write_ggml(path, "GGJT", 3, "Q4_0")     a Llama of 2 layers and 1,024 tokens

The layouts: https://github.com/ggml-org/llama.cpp, convert_llama_ggml_to_gguf.py. Blocks are those
that ggml makes today, which is right where the layout is unchanged.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from checkpoints import llama_pieces, noise

MAGIC = {"GGML": b"lmgg", "GGMF": b"fmgg", "GGJT": b"tjgg"}
FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q6_K": 18}
TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q6_K": 14}

N_EMBD, N_FF, N_HEADS, N_LAYERS = 256, 512, 4, 2


def write_ggml(
    path: Path,
    kind: str = "GGJT",
    version: int = 3,
    type_: str = "F16",
    *,
    n_kv_heads: int = N_HEADS,
    full_vocab: bool = False,
) -> Path:
    """Write a file whose matrices are of `type_` and whose norms are F32; returns its path."""
    n_vocab = len(llama_pieces(full_vocab).texts)
    sizes = (n_vocab, N_EMBD, 256, N_HEADS, N_LAYERS, N_EMBD // N_HEADS, FILE_TYPES[type_])
    parts = [MAGIC[kind], b"" if kind == "GGML" else struct.pack("<I", version)]
    parts += [struct.pack("<7I", *sizes), *tokens(full_vocab, has_scores=kind != "GGML")]
    blob = b"".join(parts)
    for i, (name, shape) in enumerate(shapes(n_vocab, n_kv_heads).items()):
        own = "F32" if len(shape) == 1 else type_
        raw = name.encode()
        blob += struct.pack("<3I", len(shape), len(raw), TYPES[own])
        blob += struct.pack(f"<{len(shape)}I", *reversed(shape)) + raw
        if kind == "GGJT":
            blob += bytes(-len(blob) % 32)
        blob += encode(noise(shape, (9, i)), own)
    path.write_bytes(blob)
    return path


def shapes(n_vocab: int, n_kv_heads: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes in the order of the file, rows first."""
    table, kv = (n_vocab, N_EMBD), (N_EMBD // N_HEADS * n_kv_heads, N_EMBD)
    found: dict[str, tuple[int, ...]] = {
        "tok_embeddings.weight": table,
        "norm.weight": (N_EMBD,),
        "output.weight": table,
    }
    layer: dict[str, tuple[int, ...]] = {
        "attention.wq": (N_EMBD, N_EMBD),
        "attention.wk": kv,
        "attention.wv": kv,
        "attention.wo": (N_EMBD, N_EMBD),
        "attention_norm": (N_EMBD,),
        "feed_forward.w1": (N_FF, N_EMBD),
        "feed_forward.w2": (N_EMBD, N_FF),
        "feed_forward.w3": (N_FF, N_EMBD),
        "ffn_norm": (N_EMBD,),
    }
    for i in range(N_LAYERS):
        found |= {f"layers.{i}.{name}.weight": shape for name, shape in layer.items()}
    return found


def tokens(full: bool, *, has_scores: bool) -> Iterator[bytes]:
    """As convert.py of that time wrote them: bytes as they are, spaces for ▁, no control tokens."""
    pieces = llama_pieces(full)
    for i, (text, score) in enumerate(zip(pieces.texts, pieces.scores, strict=True)):
        raw = text.replace("▁", " ").encode()
        if i < 3:
            raw = (" \u2047 ".encode(), b"", b"")[i]
        elif i < 259:
            raw = bytes([i - 3])
        yield struct.pack("<I", len(raw)) + raw + (struct.pack("<f", score) if has_scores else b"")


def encode(values: NDArray[np.float32], type_: str) -> bytes:
    from komt_convert import ggml
    from komt_convert.tensor_types import BY_NAME

    return ggml.quantize(BY_NAME[type_], values.reshape(-1, values.shape[-1])).tobytes()
