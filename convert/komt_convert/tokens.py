"""The proof that a written file tokenizes as its source did, text by text, id by id.

In ordinary texts, special tokens are not parsed on either side. Each special token alone is one id,
the same. Texts that mix both are given to llama.cpp as `komt-local` gives it a template's text: cut
at control tokens, and each piece between two of them on its own (`as_prompt`).

This module compares and nothing else: the texts come from `corpus`, the source's side from `vocab`,
llama.cpp's from `ggml`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from komt_convert.errors import TokenizerMismatch


class Source(Protocol):
    """The source tokenizer; `vocab.Vocabulary` is one."""

    @property
    def encode(self) -> Callable[[str], list[int]]: ...

    @property
    def parse(self) -> Callable[[str], list[int]] | None: ...

    @property
    def special_tokens(self) -> Mapping[str, int]: ...

    @property
    def legacy(self) -> bool: ...

    def prepare(self, text: str) -> str: ...


class Native(Protocol):
    """llama.cpp's tokenizer of the written file; `ggml.Tokenizer` is one."""

    def encode(self, text: str, parse_special: bool = False) -> list[int]: ...


def compare_tokens(
    source: Source, native: Native, texts: Iterable[str], mixed: Iterable[str] = ()
) -> int:
    """The number of ids compared; raises TokenizerMismatch at the first text that differs.

    `mixed` are texts with special tokens in them.
    """
    n_compared = 0
    for text, expected, found in _both_ways(source, native, texts, mixed):
        if expected != found:
            raise _mismatch(text, expected, found)
        n_compared += len(expected)
    return n_compared


def _both_ways(
    source: Source, native: Native, texts: Iterable[str], mixed: Iterable[str]
) -> Iterator[tuple[str, list[int], list[int]]]:
    """Each text with the ids of its source and of llama.cpp."""
    for text in texts:
        prepared = source.prepare(text)
        if prepared or not text:  # else a lone space, where llama.cpp always adds another
            yield text, source.encode(text), native.encode(prepared)
    control = source.special_tokens
    for text, i in control.items():
        yield text, [i], native.encode(text, parse_special=True)
    if source.parse is None:
        return
    for text, i in control.items():
        yield text, [i], source.parse(text)
    for text in mixed:
        yield text, source.parse(text), as_prompt(text, control, source, native)


def as_prompt(text: str, control: Mapping[str, int], source: Source, native: Native) -> list[int]:
    """The ids that `komt-local` makes of a template's text, without BOS.

    Its rule (komt_local.prompts.segments) is said again here, since what converts must not depend
    on what runs: longest control tokens first; after one, where the tokenizer is not `legacy`, a
    newline takes the leading space upon itself, and the ids of both are dropped.
    """
    ids: list[int] = []
    after_control = False
    for piece in _cut(text, control):
        if isinstance(piece, int):
            ids.append(piece)
        elif after_control and not source.legacy:
            ids += native.encode(source.prepare("\n" + piece))[2:]
        else:
            ids += native.encode(source.prepare(piece))
        after_control = isinstance(piece, int)
    return ids


def _cut(text: str, tokens: Mapping[str, int]) -> list[str | int]:
    pieces: list[str | int] = [text]
    for token in sorted(filter(text.__contains__, tokens), key=len, reverse=True):
        pieces = [part for piece in pieces for part in _cut_at(piece, token, tokens[token])]
    return [piece for piece in pieces if piece != ""]


def _cut_at(piece: str | int, token: str, i: int) -> Iterator[str | int]:
    if isinstance(piece, int):
        yield piece
        return
    first, *rest = piece.split(token)
    yield first
    for after in rest:
        yield i
        yield after


def _mismatch(text: str, expected: list[int], found: list[int]) -> TokenizerMismatch:
    return TokenizerMismatch(
        f"llama.cpp would tokenize {text!r} as {found} where the source tokenizer gives "
        f"{expected}; the model would not understand its prompts. Do not use such a file, and "
        "report the model, please; --allow-token-mismatch makes it nevertheless.",
        f"llama.cpp는 {text!r} 글을 {found}(으)로 나누는데 원본 토크나이저는 {expected}(으)로 "
        "나눕니다. 모델이 프롬프트를 이해하지 못하니 이런 파일은 쓰지 말고 모델을 알려 주세요. "
        "그래도 만들려면 --allow-token-mismatch를 쓰세요.",
    )
