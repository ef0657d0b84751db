"""The GGML files of 2023, which llama.cpp no longer reads: `ggml`, `ggmf` 1, `ggjt` 1 to 3.

Such a file is a Llama: seven numbers, the tokens, then tensors one after another, in the layout
that GGUF has, too. Tensors whose quantization is still what it was are taken over byte for byte;
the blocks of the others changed in May and June 2023, and those are refused by name. What a file
does not say (context, epsilon) comes from a config.json beside it, else from llama.cpp's converter.
https://github.com/ggml-org/llama.cpp, convert_llama_ggml_to_gguf.py
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

from komt_convert.errors import SourceError, UnsupportedError
from komt_convert.tensor_types import BY_NUMBER, TensorType

MAGICS = {b"lmgg": "GGML", b"fmgg": "GGMF", b"tjgg": "GGJT", b"algg": "GGLA"}
"""The first bytes of a file → the name of its format; GGLA is a LoRA adapter."""

MAX_LAYERS = 512
MAX_TOKENS = 1 << 20
MAX_TOKEN_BYTES = 4096
MAX_SIZE = 1 << 24

PLAIN = ("F32", "F16")
SINCE_GGJT_2 = ("Q5_0", "Q5_1")
SINCE_GGJT_3 = ("Q4_0", "Q4_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
"""Since when the blocks of a type are what they are today."""

BYTES = range(3, 259)
"""The tokens that stand for one byte each in every vocabulary of Llama."""

TOP = {
    "tok_embeddings.weight": "token_embd.weight",
    "norm.weight": "output_norm.weight",
    "output.weight": "output.weight",
}
LAYER = {
    "attention_norm.weight": "attn_norm.weight",
    "attention.wq.weight": "attn_q.weight",
    "attention.wk.weight": "attn_k.weight",
    "attention.wv.weight": "attn_v.weight",
    "attention.wo.weight": "attn_output.weight",
    "ffn_norm.weight": "ffn_norm.weight",
    "feed_forward.w1.weight": "ffn_gate.weight",
    "feed_forward.w2.weight": "ffn_down.weight",
    "feed_forward.w3.weight": "ffn_up.weight",
}


@dataclass(frozen=True, slots=True)
class Piece:
    """A token as it stands in the file; spaces are not ▁ here. GGML has no scores."""

    raw: bytes
    score: float | None


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor in the file: rows first, and the offset of its first byte."""

    shape: tuple[int, ...]
    type: TensorType
    offset: int


@dataclass(frozen=True, slots=True)
class Legacy:
    """What the file says; `tensors` are by GGUF name, and all that a Llama has."""

    path: Path
    format: str
    file_type: int
    n_embd: int
    n_heads: int
    n_kv_heads: int
    n_layers: int
    n_ff: int
    pieces: tuple[Piece, ...]
    tensors: Mapping[str, Place]


def read_legacy(path: Path) -> Legacy:
    """The header and the places of the tensors of the file at `path`.

    Raises SourceError for a damaged file and UnsupportedError for a format or a type whose blocks
    are others today.
    """
    with path.open("rb") as file:
        reader = _Reader(file, path)
        try:
            return _read(reader, path)
        except (struct.error, UnicodeDecodeError):
            raise _damaged(path, "it is cut short", "중간에 잘려 있습니다") from None


def _read(reader: _Reader, path: Path) -> Legacy:
    kind, version = _format(reader, path)
    n_vocab, n_embd, _, n_heads, n_layers, _, file_type = reader.numbers(7)
    if not (
        0 < n_vocab <= MAX_TOKENS
        and 0 < n_layers <= MAX_LAYERS
        and 0 < n_heads <= n_embd <= MAX_SIZE
        and n_embd % (2 * n_heads) == 0
    ):
        raise _damaged(path, "its sizes make no sense", "크기가 올바르지 않습니다")
    has_scores = kind != "GGML"
    pieces = tuple(reader.piece(has_scores) for _ in range(n_vocab))
    names = dict(_names(n_layers))
    tensors = dict(_places(reader, names, (kind, version), path))
    if missing := [name for name in names.values() if name not in tensors]:
        raise _damaged(path, f"it has no {missing[0]!r}", f"{missing[0]!r} 텐서가 없습니다")
    legacy = Legacy(
        path=path,
        format=f"{kind}v{version}",
        file_type=file_type,
        n_embd=n_embd,
        n_heads=n_heads,
        n_kv_heads=tensors["blk.0.attn_k.weight"].shape[0] * n_heads // n_embd,
        n_layers=n_layers,
        n_ff=tensors["blk.0.ffn_gate.weight"].shape[0],
        pieces=pieces,
        tensors=tensors,
    )
    _check_shapes(legacy)
    return legacy


# --- the parts of a file -------------------------------------------------------------------------


class _Reader:
    """A position in a file of a known size."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file, self.path = file, path
        self.size = path.stat().st_size

    def take(self, n_bytes: int) -> bytes:
        raw = self.file.read(n_bytes)
        if len(raw) < n_bytes:
            raise _damaged(self.path, "it is cut short", "중간에 잘려 있습니다")
        return raw

    def numbers(self, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}I", self.take(4 * count))

    def piece(self, has_score: bool) -> Piece:
        (length,) = self.numbers(1)
        if length >= MAX_TOKEN_BYTES:
            raise _damaged(self.path, "a token is too long", "너무 긴 토큰이 있습니다")
        raw = self.take(length)
        return Piece(raw, struct.unpack("<f", self.take(4))[0] if has_score else None)


def _format(reader: _Reader, path: Path) -> tuple[str, int]:
    kind = MAGICS.get(reader.take(4), "")
    version = 1 if kind == "GGML" else reader.numbers(1)[0]
    if kind == "GGLA":
        raise UnsupportedError(
            f"{path} is a LoRA adapter of 2023 (GGLA), not a model; "
            "give its base model, and the adapter as PEFT saved it with --lora.",
            f"{path}: 2023년의 LoRA 어댑터(GGLA)이지 모델이 아닙니다. 기반 모델을 지정하고 "
            "PEFT로 저장한 어댑터를 --lora로 주세요.",
        )
    if not 1 <= version <= {"GGJT": 3}.get(kind, 1):
        raise _unsupported(path, f"a {kind or 'file'} of version {version}")
    return kind, version


def _places(
    reader: _Reader, names: Mapping[str, str], version: tuple[str, int], path: Path
) -> Iterator[tuple[str, Place]]:
    """GGUF name and place of every tensor up to the end of the file."""
    known = set()
    while reader.file.tell() < reader.size:
        name, place = _place(reader, version, path)
        if name == "rope.freqs":  # computed from the other numbers
            continue
        if name not in names or name in known:
            raise _damaged(path, f"{name!r} does not belong there", f"{name!r} 텐서가 이상합니다")
        known.add(name)
        yield names[name], place


def _place(reader: _Reader, version: tuple[str, int], path: Path) -> tuple[str, Place]:
    n_dims, length, number = reader.numbers(3)
    if not 1 <= n_dims <= 2 or length > 255:
        raise _damaged(path, "a tensor's entry makes no sense", "텐서 항목이 이상합니다")
    shape = reader.numbers(n_dims)[::-1]
    name = reader.take(length).decode()
    type_ = _type(number, name, version, path)
    padding = -reader.file.tell() % 32 if version[0] == "GGJT" else 0
    offset = reader.file.tell() + padding
    if min(shape) < 1 or shape[-1] % type_.block:
        raise _damaged(path, f"the shape of {name!r} makes no sense", f"{name!r} 모양이 이상합니다")
    end = offset + type_.row_bytes(prod(shape))
    if end > reader.size:
        raise _damaged(path, f"{name!r} is cut short", f"{name!r} 텐서가 잘려 있습니다")
    reader.file.seek(end)
    return name, Place(shape, type_, offset)


def _type(number: int, name: str, version: tuple[str, int], path: Path) -> TensorType:
    allowed: tuple[str, ...] = PLAIN
    kind, number_of_kind = version
    if kind == "GGJT" and number_of_kind >= 2:
        allowed += SINCE_GGJT_2
    if kind == "GGJT" and number_of_kind >= 3:
        allowed += SINCE_GGJT_3
    type_ = BY_NUMBER.get(number)
    if type_ is None or type_.name not in allowed:
        found = type_.name if type_ else f"type {number}"
        raise _unsupported(path, f"{kind}v{number_of_kind} with {found} ({name!r})")
    return type_


def _names(n_layers: int) -> Iterator[tuple[str, str]]:
    yield from TOP.items()
    for i in range(n_layers):
        yield from ((f"layers.{i}.{old}", f"blk.{i}.{new}") for old, new in LAYER.items())


def _check_shapes(legacy: Legacy) -> None:
    d, f = legacy.n_embd, legacy.n_ff
    table, kv = (len(legacy.pieces), d), d // legacy.n_heads * legacy.n_kv_heads
    if legacy.n_kv_heads < 1 or legacy.n_heads % legacy.n_kv_heads:
        raise _wrong_shape(legacy, "blk.0.attn_k.weight")
    expected: dict[str, tuple[int, ...]] = {
        "token_embd.weight": table,
        "output_norm.weight": (d,),
        "output.weight": table,
    }
    layer: dict[str, tuple[int, ...]] = {
        "attn_norm.weight": (d,),
        "attn_q.weight": (d, d),
        "attn_k.weight": (kv, d),
        "attn_v.weight": (kv, d),
        "attn_output.weight": (d, d),
        "ffn_norm.weight": (d,),
        "ffn_gate.weight": (f, d),
        "ffn_down.weight": (d, f),
        "ffn_up.weight": (f, d),
    }
    for name, place in legacy.tensors.items():
        if place.shape != (expected.get(name) or layer[name.split(".", 2)[-1]]):
            raise _wrong_shape(legacy, name)


# --- errors --------------------------------------------------------------------------------------


def _wrong_shape(legacy: Legacy, name: str) -> SourceError:
    shape = list(legacy.tensors[name].shape)
    return _damaged(
        legacy.path,
        f"{name!r} has the shape {shape}, which its header does not allow (a model in several "
        "files is not read)",
        f"{name!r} 모양 {shape}이(가) 헤더와 맞지 않습니다(여러 파일로 나뉜 모델은 읽지 않음)",
    )


def _unsupported(path: Path, what: str) -> UnsupportedError:
    return UnsupportedError(
        f"{path} is {what}, whose layout changed since; convert the original checkpoint, or an F16 "
        "file of it.",
        f"{path}: {what} 형식은 그 뒤 구조가 바뀌었습니다. 원본 체크포인트나 F16 파일을 "
        "변환하세요.",
    )


def _damaged(path: Path, en: str, ko: str) -> SourceError:
    return SourceError(
        f"{path} is no whole GGML file: {en}; download or copy it again.",
        f"{path}: 온전한 GGML 파일이 아닙니다. {ko}. 다시 내려받거나 복사하세요.",
    )
