"""What the readers of tokenizer files hand to `vocab`: tokens by id, and the tokenizer itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal, NamedTuple

from komt_convert.errors import UnsupportedError

NormalForm = Literal["NFC", "NFD", "NFKC", "NFKD"]


class TokenType(IntEnum):
    """Token types of GGUF and of sentencepiece_model.proto, which are the same numbers."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Token(NamedTuple):
    text: str
    type: TokenType = TokenType.NORMAL
    score: float = 0.0


class Added(NamedTuple):
    """A token that was added to a finished tokenizer."""

    id: int
    text: str
    special: bool


@dataclass(frozen=True, slots=True)
class Base:
    """A tokenizer as its main file gives it, before added tokens and padding.

    `encode` is the reference for token ids: no BOS or EOS, special tokens not parsed, but added
    tokens that are not special are (as both `tokenizers` and llama.cpp do). `parse` is the same
    with control tokens parsed, which it is given by text. `normal_form` is the Unicode form that
    the tokenizer brings a text into, and `absorbs_space` says that a text which begins with a space
    gets no ▁ in front; llama.cpp does neither. `warnings` are sentences for the user. `refusal` is
    why `pre` is not known; somebody may find out by trying. `ignore_merges`: a word that is a token
    is not merged.
    """

    model: str
    pre: str
    tokens: list[Token]
    encode: Callable[[str], list[int]]
    parse: Callable[[str, Mapping[str, int]], list[int]]
    merges: tuple[str, ...] = ()
    added: tuple[Added, ...] = ()
    space_prefix: bool = False
    space_after_control: bool = True
    add_bos: bool = False
    add_eos: bool = False
    special: Mapping[str, int] = field(default_factory=dict)
    normal_form: NormalForm | None = None
    absorbs_space: bool = False
    warnings: tuple[tuple[str, str], ...] = ()
    refusal: UnsupportedError | None = None
    ignore_merges: bool = False


def looks_special(token: str) -> bool:
    """Some control tokens are not declared special; the list is that of llama.cpp's converter."""
    return (
        token in ("<pad>", "<mask>", "<2mass>", "[@BOS@]")
        or (token.startswith("<|") and token.endswith("|>"))
        or (token.startswith("<｜") and token.endswith("｜>"))
        or (token.startswith("<unused") and token.endswith(">"))
    )
