"""Segments of a prompt, ours and theirs, and the token ids that they stand for.

*Ours* is template text, whose control tokens mean what they say. *Theirs* is what a user, a file
or a document said, and never becomes a control token. This module does not know templates.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a prompt and who wrote it: the template (`ours`) or somebody else."""

    text: str
    ours: bool


class Vocabulary(Protocol):
    """What encoding asks of a model's vocabulary.

    `bos` is the token that the file wants in front of every prompt, None when it wants none.
    `legacy` is transformers' flag of that name: whether text after a control token gets the
    leading space of a SentencePiece tokenizer. `tokenize` never adds BOS.
    """

    @property
    def control_tokens(self) -> Mapping[str, int]: ...
    @property
    def bos(self) -> int | None: ...
    @property
    def legacy(self) -> bool: ...
    def tokenize(self, text: str, parse_special: bool = False) -> list[int]: ...


def encode(segments: Iterable[Segment], vocabulary: Vocabulary) -> list[int]:
    """The token ids of a prompt, BOS first where the file wants one (never twice).

    The prompt is cut at our control tokens only. The plain text between two of them, ours and
    theirs together, is tokenized in one piece with special parsing off, so that merges and spaces
    across the seams are those that the model was trained with.
    """
    tokens: list[int] = []
    after_control = False
    for piece in _cut(segments, vocabulary.control_tokens):
        if isinstance(piece, int):
            tokens.append(piece)
        elif after_control and not vocabulary.legacy:
            tokens += _tokenize_without_prefix(piece, vocabulary)
        else:
            tokens += vocabulary.tokenize(piece)
        after_control = isinstance(piece, int)
    if vocabulary.bos is not None and tokens[:1] != [vocabulary.bos]:
        tokens.insert(0, vocabulary.bos)
    return tokens


def _tokenize_without_prefix(text: str, vocabulary: Vocabulary) -> list[int]:
    """Tokenize as transformers does with `legacy: false`: no leading space.

    A newline takes the space upon itself; its two ids (the space, the newline) are dropped.
    https://github.com/huggingface/transformers/pull/24565
    """
    return vocabulary.tokenize("\n" + text)[2:]


def _cut(segments: Iterable[Segment], control_tokens: Mapping[str, int]) -> Iterator[str | int]:
    """Cut a prompt into control tokens (ids) and the plain text between them, joined."""
    longest_first = sorted(control_tokens, key=len, reverse=True)
    pieces: list[str | int] = []
    for ours, run in groupby(segments, key=lambda segment: segment.ours):
        text = "".join(segment.text for segment in run)
        pieces += _split(text, longest_first, control_tokens) if ours else [text]
    for is_text, group in groupby(pieces, key=lambda piece: isinstance(piece, str)):
        if is_text:
            if text := "".join(str(piece) for piece in group):
                yield text
        else:
            yield from group


def _split(text: str, names: list[str], ids: Mapping[str, int]) -> list[str | int]:
    """Split template text at its control tokens, the longest first as llama.cpp does.

    https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp (tokenizer_st_partition)
    """
    pieces: list[str | int] = [text]
    for name in names:
        if name and name in text:
            pieces = [part for piece in pieces for part in _split_one(piece, name, ids[name])]
    return pieces


def _split_one(piece: str | int, name: str, token: int) -> Iterator[str | int]:
    if isinstance(piece, int):
        yield piece
        return
    first, *rest = piece.split(name)
    yield first
    for text in rest:
        yield token
        yield text
