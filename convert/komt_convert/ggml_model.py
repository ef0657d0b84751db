"""A GGML file of 2023 as a source: its tensors, its numbers and its tokens, as GGUF says them.

`ggml_legacy` reads the file; what is decided here is what the file leaves open.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from komt_convert import arch, ggml
from komt_convert.digests import Input
from komt_convert.errors import SourceError
from komt_convert.ggml_legacy import BYTES, Legacy, Piece, Place, read_legacy
from komt_convert.json_file import read_json
from komt_convert.metadata import Metadata, f32, text, u32
from komt_convert.recipes import FILE_TYPES, FileType
from komt_convert.sentencepiece_model import encode_model
from komt_convert.sources import Source
from komt_convert.tensors import FloatArray, Packed, Tensor, read_at, stored_tensor
from komt_convert.vocab import PADDING_SCORE, Vocabulary
from komt_convert.vocab_sentencepiece import Reference
from komt_convert.vocab_types import Token, TokenType

CONTEXT, EPSILON = 2048, 5e-6
"""What llama.cpp's converter takes if nothing is said: between Llama's 1e-6 and Llama 2's 1e-5."""

SPECIAL = (
    Token("<unk>", TokenType.UNKNOWN),
    Token("<s>", TokenType.CONTROL),
    Token("</s>", TokenType.CONTROL),
)

CONTROL = {token.text: i for i, token in enumerate(SPECIAL) if token.type is TokenType.CONTROL}

Sentence = tuple[str, str]


def open_legacy(path: Path, *, name: str | None = None) -> Source:
    """The model in the GGML file at `path`. Raises SourceError."""
    legacy = read_legacy(path)
    numbers, warnings = _architecture(legacy)
    kept = _kept(legacy)
    if kept:
        warnings.append(_stays(kept))
    return Source(
        path=path,
        tensors=tuple(_tensor(path, key, place) for key, place in legacy.tensors.items()),
        architecture=numbers,
        vocabulary=_vocabulary(legacy, warnings),
        card={
            "general.type": text("model"),
            "general.name": text(name or path.stem),
            "general.description": text(f"converted from a {legacy.format} file of 2023"),
        },
        size_bytes=path.stat().st_size,
        files=tuple(Input("model", p) for p in (path, _config_of(path)) if p.is_file()),
        tokenizer=path,
        kept=kept,
    )


# --- tensors -------------------------------------------------------------------------------------


def _tensor(path: Path, name: str, place: Place) -> Tensor:
    type_, row_length = place.type, place.shape[-1]
    if not type_.is_quantized:
        return stored_tensor(path, name, type_.name, place.shape, place.offset)
    row_bytes = type_.row_bytes(row_length)

    def packed(start: int, stop: int) -> NDArray[np.uint8]:
        raw = read_at(path, place.offset + start * row_bytes, (stop - start) * row_bytes)
        return raw.reshape(stop - start, row_bytes)

    def read(start: int, stop: int) -> FloatArray:
        return ggml.dequantize(type_, packed(start, stop), row_length)

    return Packed(name, place.shape, type_.name, read, packed)


def _kept(legacy: Legacy) -> FileType | None:
    """The file type of quantized tensors; None when they can be given any type."""
    types = {place.type for place in legacy.tensors.values() if place.type.is_quantized}
    if not types:
        return None
    by_number = {known.number: known for known in FILE_TYPES.values()}
    default = max(types, key=lambda type_: type_.number)
    return by_number.get(legacy.file_type) or FileType(default.name, legacy.file_type, default)


def _stays(kept: FileType) -> Sentence:
    return (
        f"The weights are {kept.name} already, and stay so byte for byte.",
        f"가중치가 이미 {kept.name}이라 바이트 그대로 둡니다.",
    )


# --- numbers -------------------------------------------------------------------------------------


def _architecture(legacy: Legacy) -> tuple[Metadata, list[Sentence]]:
    keys: Metadata = {
        "general.architecture": text("llama"),
        "llama.block_count": u32(legacy.n_layers),
        "llama.context_length": u32(CONTEXT),
        "llama.embedding_length": u32(legacy.n_embd),
        "llama.feed_forward_length": u32(legacy.n_ff),
        "llama.attention.head_count": u32(legacy.n_heads),
        "llama.attention.head_count_kv": u32(legacy.n_kv_heads),
        "llama.attention.layer_norm_rms_epsilon": f32(EPSILON),
        "llama.rope.dimension_count": u32(legacy.n_embd // legacy.n_heads),
    }
    config = read_json(_config_of(legacy.path))
    if not config:
        return keys, [_assumed()]
    said = arch.lookup(config).metadata(_NoTensors(config))
    for key, value in keys.items():
        sure = key not in ("llama.context_length", "llama.attention.layer_norm_rms_epsilon")
        if sure and said.get(key) != value:
            raise _other_model(legacy, key)
    return said, []


def _config_of(path: Path) -> Path:
    return path.parent / "config.json"


class _NoTensors:
    """A config.json without its weights, which is all that metadata needs."""

    def __init__(self, config: dict[str, object]) -> None:
        self.config = config
        self.tensors: dict[str, Tensor] = {}


def _assumed() -> Sentence:
    return (
        f"The file does not say its context and norm epsilon; {CONTEXT:,} and {EPSILON:g} are "
        "assumed. A config.json of the model beside it would tell.",
        f"파일에 컨텍스트 길이와 norm epsilon이 없어 {CONTEXT:,}와 {EPSILON:g}로 정했습니다. "
        "모델의 config.json을 옆에 두면 그 값을 씁니다.",
    )


def _other_model(legacy: Legacy, key: str) -> SourceError:
    folder = legacy.path.parent
    return SourceError(
        f"{folder / 'config.json'} and {legacy.path.name} disagree about {key}; "
        "move the config.json of another model away.",
        f"{folder / 'config.json'}과 {legacy.path.name}의 {key} 값이 다릅니다. "
        "다른 모델의 config.json이면 옮기세요.",
    )


# --- tokens --------------------------------------------------------------------------------------


def _vocabulary(legacy: Legacy, warnings: list[Sentence]) -> Vocabulary:
    try:
        tokens = tuple(_tokens(legacy.pieces))
    except UnicodeDecodeError:
        raise SourceError(
            f"{legacy.path} has a token that is not UTF-8; download or copy it again.",
            f"{legacy.path}: UTF-8이 아닌 토큰이 있습니다. 다시 내려받거나 복사하세요.",
        ) from None
    if legacy.pieces[0].score is None:
        warnings = [*warnings, _ranked()]
    asked = Reference(encode_model(tokens), (), legacy.path)
    return Vocabulary(
        model="llama",
        pre="default",
        tokens=tokens,
        merges=(),
        special_ids={"bos": 1, "eos": 2, "unk": 0},
        add_bos=True,
        add_eos=False,
        space_prefix=True,
        chat_template=None,
        legacy=True,
        warnings=tuple(warnings),
        encode=asked.encode,
        normal_form=None,
        absorbs_space=False,
        parse=lambda text: asked.parse(text, CONTROL),
    )


def _tokens(pieces: tuple[Piece, ...]) -> Iterator[Token]:
    """As llama.cpp's converter makes them, but for two things.

    Pieces without scores get those of Llama; with the converter's 0 for all, llama.cpp merges in
    the wrong order. Empty ones become padding.
    """
    for i, piece in enumerate(pieces):
        score = _score(i, piece.raw) if piece.score is None else piece.score
        if i < len(SPECIAL):
            yield SPECIAL[i]._replace(score=score)
        elif not piece.raw:
            yield Token(f"[PAD{i}]", TokenType.UNUSED, PADDING_SCORE)
        elif i in BYTES and len(piece.raw) == 1:
            yield Token(f"<0x{piece.raw[0]:02X}>", TokenType.BYTE, score)
        else:
            yield Token(piece.raw.decode().replace(" ", "▁"), TokenType.NORMAL, score)


def _score(i: int, raw: bytes) -> float:
    """SentencePiece numbers pieces by their rank; those of spaces alone Llama merges last."""
    if i < BYTES.stop:
        return 0.0
    return float(BYTES.stop - i) if raw.strip(b" ") else -1e9


def _ranked() -> Sentence:
    return (
        "The file has no scores for its tokens; they are taken from the order of the tokens, as in "
        "Llama's vocabulary.",
        "파일에 토큰 점수가 없어 Llama 어휘처럼 토큰 순서로 매겼습니다.",
    )
