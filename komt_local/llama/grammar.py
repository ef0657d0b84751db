"""Grammars (GBNF) in llama.cpp: checked before it sees them, and applied to the next token.

llama.cpp's parser recurses without a limit, and its grammar aborts the process when a token is
accepted that it does not allow; both are kept from happening here.
https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md
"""

from __future__ import annotations

import ctypes
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError, UsageError
from .library import complaint, logging, native
from .loaded import NativeModel

_MOST_CHARACTERS = 1 << 17
_MOST_RULES = 5000  # a chain of rules is followed by recursion; at 50,000 the stack is gone
_DEEPEST = 100  # parentheses likewise
_MOST_ELEMENTS = 4_000_000  # of 8 bytes, that repetitions may write out

_QUOTED = re.compile(r'"(?:\\.|[^"\\\n])*"|\[(?:\\.|[^\]\\\n])*\]|#[^\n]*')
_REPEATED = re.compile(r"\{\s*(\d*)\s*(?:,\s*(\d*)\s*)?\}")


def check_grammar(model: NativeModel, text: str) -> None:
    """Raises UsageError for a grammar that llama.cpp cannot read, or that is beyond bounds."""
    _check_bounds(text)
    with logging():
        pointer = _make(model, text)
        why = complaint()
    if not pointer:
        raise _refused(why, why)
    native().llama_sampler_free(pointer)


def _make(model: NativeModel, text: str) -> Any:
    with model.open_vocabulary() as vocabulary:
        return native().llama_sampler_init_grammar(vocabulary, text.encode(), b"root")


def _check_bounds(text: str) -> None:
    if "\x00" in text or not re.search(r"^\s*root\s*::=", text, re.M):
        raise _refused("no rule `root ::= …`", "`root ::= …` 규칙이 없음")
    bare = _QUOTED.sub("", text)
    longest = max(map(len, _QUOTED.findall(text)), default=1)
    repeated = sum(max(int(n or 0) for n in pair) for pair in _REPEATED.findall(bare))
    sizes = (
        (len(text), _MOST_CHARACTERS, ("characters", "자")),
        (text.count("::="), _MOST_RULES, ("rules", "규칙")),
        (_depth(bare), _DEEPEST, ("parentheses inside each other", "겹친 괄호")),
        (repeated * longest, _MOST_ELEMENTS, ("characters in its repetitions", "반복 안의 글자")),
    )
    for found, most, (en, ko) in sizes:
        if found > most:
            raise _refused(f"{found:,} {en}, at most {most:,}", f"{ko} {found:,}, 최대 {most:,}")


def _depth(bare: str) -> int:
    depth = deepest = 0
    for char in bare:
        depth += (char == "(") - (char == ")")
        deepest = max(deepest, depth)
    return deepest


def _refused(en: str, ko: str) -> UsageError:
    return UsageError(
        f"The grammar cannot be used ({' '.join(en.split())}); correct its GBNF.",
        f"문법을 쓸 수 없습니다({' '.join(ko.split())}). GBNF를 고치세요.",
    )


_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Candidates:
    """`llama_token_data_array` over arrays of our own: all tokens with their logits, or one."""

    def __init__(self, ids: NDArray[np.int32]) -> None:
        library = native()
        self._ids, self._rows = ids, np.zeros(len(ids), _CANDIDATE)
        self._array = library.llama_token_data_array()
        self._array.data = ctypes.cast(
            self._rows.ctypes.data, ctypes.POINTER(library.llama_token_data)
        )

    def fill(self, logits: NDArray[np.float32]) -> None:
        self._rows["id"], self._rows["logit"], self._rows["p"] = self._ids, logits, 0
        self._array.size, self._array.selected, self._array.sorted = len(self._ids), -1, False

    def apply(self, sampler: Any) -> None:
        native().llama_sampler_apply(sampler, ctypes.byref(self._array))

    @property
    def any_left(self) -> bool:
        return bool(np.isfinite(self._rows["logit"][: self._array.size]).any())

    @property
    def selected(self) -> int:
        return int(self._rows["id"][self._array.selected])


class Grammar:
    """A grammar on its way through one answer. Owned by a sampler; `close` frees it."""

    def __init__(self, model: NativeModel, text: str) -> None:
        _check_bounds(text)
        self._library, self._pointer = native(), _make(model, text)
        if not self._pointer:
            raise _refused(why := complaint(), why)
        self._all = Candidates(np.arange(model.n_vocab, dtype=np.int32))

    def choose(self, chain: Any, logits: NDArray[np.float32]) -> int:
        """The next token: what the chain chooses, or where that is not allowed, among what is.

        Most tokens are allowed, and asking about one costs much less than asking about all.
        """
        self._all.fill(logits)
        self._all.apply(chain)
        token = self._all.selected
        if not self._allows(token):
            token = self._choose_allowed(chain, logits)
        self._library.llama_sampler_accept(chain, token)
        self._library.llama_sampler_accept(self._pointer, token)
        return token

    def _allows(self, token: int) -> bool:
        one = Candidates(np.array([token], np.int32))
        one.fill(np.zeros(1, np.float32))
        one.apply(self._pointer)
        return one.any_left

    def _choose_allowed(self, chain: Any, logits: NDArray[np.float32]) -> int:
        self._all.fill(logits)
        self._all.apply(self._pointer)
        if not self._all.any_left:
            raise EngineError(
                "The grammar allows none of the model's tokens here; give it a rule that can "
                "go on, or end.",
                "여기서 문법이 허용하는 토큰이 모델에 없습니다. 이어지거나 끝날 수 있는 규칙을 "
                "주세요.",
            )
        self._all.apply(chain)
        return self._all.selected

    def close(self) -> None:
        if self._pointer:
            self._library.llama_sampler_free(self._pointer)
            self._pointer = None
