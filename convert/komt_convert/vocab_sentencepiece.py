"""tokenizer.model: a SentencePiece model, read for its pieces, scores, types and normalizer.

The file is a protocol buffer; the few fields that matter are read here, since the `sentencepiece`
package does not give all of them. For token ids that package is the reference.
The message: https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from komt_convert.errors import SourceError, UnsupportedError
from komt_convert.vocab_types import Added, Base, Token, TokenType

BPE = 2
MAX_BYTES = 16 << 20
"""The largest model known, with 262,144 pieces, has 4.7 MB."""
PIECE = 1
CONTROL_TYPE = bytes((0x18, TokenType.CONTROL))
"""Of a piece; appended to one, it counts instead of the type that it had."""
WITHOUT_DUMMY_PREFIX = bytes((0x1A, 2, 0x18, 0))
"""A `normalizer_spec {add_dummy_prefix: false}`: appended to a message, it is merged into it."""


@dataclass(frozen=True, slots=True)
class Model:
    """The fields of a ModelProto that are used here, with the defaults of the .proto file."""

    pieces: list[Token]
    model_type: int
    add_dummy_prefix: bool
    special: Mapping[str, int]


def read_sentencepiece(
    path: Path, added: Iterable[Added], *, space_prefix: bool | None, legacy: bool
) -> Base:
    """The SentencePiece BPE in `path`; `space_prefix` overrules its dummy prefix unless None.

    `legacy` is transformers' flag of that name.

    Raises SourceError for a damaged file and UnsupportedError for what llama.cpp cannot do.
    """
    if path.stat().st_size > MAX_BYTES:
        raise _damaged(path)
    raw = path.read_bytes()
    model = parse_model(raw, path)
    _refuse_other_kinds(model, path)
    prefix = model.add_dummy_prefix if space_prefix is None else space_prefix
    if model.add_dummy_prefix and not prefix:
        raw += WITHOUT_DUMMY_PREFIX
    added = tuple(added)
    control = {token.id for token in added if token.special}
    asked = Reference(_with_control(raw, control), added, path, legacy=legacy)
    return Base(
        model="llama",
        pre="default",
        tokens=model.pieces,
        encode=asked.encode,
        parse=asked.parse,
        added=added,
        space_prefix=prefix,
        space_after_control=legacy,
        add_bos=True,
        special=model.special,
    )


def _refuse_other_kinds(model: Model, path: Path) -> None:
    if model.model_type != BPE:
        kind = {1: "unigram", 3: "word", 4: "char"}.get(model.model_type, str(model.model_type))
        raise UnsupportedError(
            f"{path} is a SentencePiece model of the kind {kind}; only BPE is supported.",
            f"{path} SentencePiece 종류가 {kind}입니다. BPE만 지원합니다.",
        )
    texts = {piece.text for piece in model.pieces}
    if any(f"<0x{byte:02X}>" not in texts for byte in range(256)):
        raise UnsupportedError(
            f"{path} has no byte fallback, and llama.cpp aborts on a character that it does not "
            "know; only models with the 256 byte pieces are supported.",
            f"{path}: 바이트 폴백이 없어 모르는 글자에서 llama.cpp가 멈춥니다. "
            "바이트 조각 256개가 있는 모델만 지원합니다.",
        )


class Reference:
    """sentencepiece, asked as transformers asks it: a text is cut at added tokens, then encoded.

    `raw` is the model; `path` is for messages.
    With `legacy`, every piece gets the dummy prefix; without, only the text before the first token
    does (https://github.com/huggingface/transformers/pull/24565).
    """

    def __init__(
        self, raw: bytes, added: tuple[Added, ...], path: Path, *, legacy: bool = True
    ) -> None:
        self._first = _processor(raw, path)
        self._later = self._first if legacy else _processor(raw + WITHOUT_DUMMY_PREFIX, path)
        self._own = {token.text: token.id for token in added if not token.special}

    def encode(self, text: str) -> list[int]:
        """Ids of a text in which control tokens are text like any other."""
        return self.parse(text, {})

    def parse(self, text: str, control: Mapping[str, int]) -> list[int]:
        """Ids of a text with its `control` tokens parsed."""
        ids: list[int] = []
        processor = self._first
        for piece in _cut(text, {**control, **self._own}):
            ids += [piece] if isinstance(piece, int) else processor.encode(piece)
            processor = self._later
        return ids


def _with_control(raw: bytes, ids: Collection[int]) -> bytes:
    """The model with the pieces `ids` as control pieces, which no text becomes.

    Gemma's turns are user-defined pieces of the model and special tokens of its tokenizer.
    """
    out, i = bytearray(), 0
    for number, value in _fields(raw):
        if number == PIECE:
            value += CONTROL_TYPE if i in ids else b""
            i += 1
        if isinstance(value, bytes):
            out += bytes([number << 3 | 2]) + _encoded(len(value)) + value
    return bytes(out)


def _encoded(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _cut(text: str, tokens: Mapping[str, int]) -> Iterator[str | int]:
    """A text as ids of tokens and what lies between them; of several in one place, the longest."""
    there = (token for token in tokens if token and token in text)
    longest_first = sorted(there, key=len, reverse=True)
    if not longest_first:
        yield from [text] if text else ()
        return
    for piece in re.split(f"({'|'.join(map(re.escape, longest_first))})", text):
        if piece:
            yield tokens.get(piece, piece)


def _processor(raw: bytes, path: Path) -> Any:
    from sentencepiece import SentencePieceProcessor

    try:
        return SentencePieceProcessor(model_proto=raw)
    except (RuntimeError, OSError):
        raise _damaged(path) from None


# --- the protocol buffer -------------------------------------------------------------------------


def parse_model(raw: bytes, path: Path) -> Model:
    """The ModelProto in `raw`; `path` is for messages. Raises SourceError when it is none."""
    pieces: list[Token] = []
    trainer: dict[int, Any] = {}
    normalizer: dict[int, Any] = {}
    try:
        for number, value in _fields(raw):
            if number == PIECE:
                pieces.append(_piece(value))
            elif number == 2:
                trainer |= dict(_fields(value))
            elif number == 3:
                normalizer |= dict(_fields(value))
    except (IndexError, TypeError, ValueError, struct.error):
        raise _damaged(path) from None
    if not pieces:
        raise _damaged(path)
    roles = {"unk": trainer.get(40, 0), "bos": trainer.get(41, 1), "eos": trainer.get(42, 2)}
    roles["pad"] = trainer.get(43, -1)
    special = {role: i for role, i in roles.items() if i < len(pieces)}  # -1 is 2**64 - 1 here
    return Model(pieces, trainer.get(3, 1), bool(normalizer.get(3, 1)), special)


def _piece(raw: bytes) -> Token:
    fields = dict(_fields(raw))
    (score,) = struct.unpack("<f", fields.get(2, bytes(4)))
    text, type_ = fields.get(1, b"").decode(), TokenType(fields.get(3, 1))
    if type_ is TokenType.USER_DEFINED and (len(text) == 1 or not text.strip("▁")):
        type_ = (
            TokenType.NORMAL
        )  # merges reach it; llama.cpp would put a space after the other type
    return Token(text, type_, score)


def _fields(raw: bytes) -> Iterator[tuple[int, Any]]:
    """Field numbers and values of a message: integers, or bytes as they stand."""
    at = 0
    while at < len(raw):
        key, at = _varint(raw, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(raw, at)
            yield key >> 3, value
            continue
        size, at = _varint(raw, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
        if at + size > len(raw):
            raise ValueError("a field goes beyond the message")
        yield key >> 3, raw[at : at + size]
        at += size


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = raw[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than ten bytes")


def _damaged(path: Path) -> SourceError:
    return SourceError(
        f"{path} is no SentencePiece model, or is damaged; download it again.",
        f"{path} 파일은 SentencePiece 모델이 아니거나 손상되었습니다. 다시 내려받으세요.",
    )
