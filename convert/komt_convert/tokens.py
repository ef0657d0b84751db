"""The proof that a written file tokenizes as its source did, text by text, id by id.

Special tokens are not parsed on either side; each special token alone must be one id, the same.
This module compares and nothing else: the texts come from `corpus`, the source's side from `vocab`,
llama.cpp's from `ggml`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from komt_convert.errors import TokenizerMismatch


class Source(Protocol):
    """The source tokenizer; `vocab.Vocabulary` is one."""

    @property
    def encode(self) -> Callable[[str], list[int]]: ...

    @property
    def special_tokens(self) -> Mapping[str, int]: ...

    def prepare(self, text: str) -> str: ...


class Native(Protocol):
    """llama.cpp's tokenizer of the written file; `ggml.Tokenizer` is one."""

    def encode(self, text: str, parse_special: bool = False) -> list[int]: ...


def compare_tokens(source: Source, native: Native, texts: Iterable[str]) -> int:
    """The number of ids compared; raises TokenizerMismatch at the first text that differs."""
    n_compared = 0
    for text in texts:
        prepared = source.prepare(text)
        if text and not prepared:  # a lone space, where llama.cpp always adds another
            continue
        expected, found = source.encode(text), native.encode(prepared)
        if expected != found:
            raise _mismatch(text, expected, found)
        n_compared += len(expected)
    for text, i in source.special_tokens.items():
        if (found := native.encode(text, parse_special=True)) != [i]:
            raise _mismatch(text, [i], found)
        n_compared += 1
    return n_compared


def _mismatch(text: str, expected: list[int], found: list[int]) -> TokenizerMismatch:
    return TokenizerMismatch(
        f"llama.cpp would tokenize {text!r} as {found} where the source tokenizer gives "
        f"{expected}; the model would not understand its prompts. Do not use such a file; "
        "report the model, please.",
        f"llama.cpp는 {text!r} 글을 {found}(으)로 나누는데 원본 토크나이저는 {expected}(으)로 "
        "나눕니다. 모델이 프롬프트를 이해하지 못하니 이런 파일은 쓰지 말고 모델을 알려 주세요.",
    )
