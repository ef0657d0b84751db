"""Writing a SentencePiece model, so that sentencepiece can be asked about tokens without a file.

The message: https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto;
reading one is the business of `vocab_sentencepiece`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from komt_convert.vocab_types import Token

BPE = 2


def encode_model(tokens: Iterable[Token]) -> bytes:
    """A BPE model with byte fallback that changes nothing of a text but to put a ▁ in front."""
    pieces = b"".join(_field(1, _piece(token)) for token in tokens)
    trainer = _number(3, BPE) + _number(35, 1)
    normalizer = _field(1, b"identity") + _number(3, 1) + _number(4, 0) + _number(5, 1)
    return pieces + _field(2, trainer) + _field(3, normalizer)


def _piece(token: Token) -> bytes:
    score = bytes([2 << 3 | 5]) + struct.pack("<f", token.score)
    return _field(1, token.text.encode()) + score + _number(3, int(token.type))


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
