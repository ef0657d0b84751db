"""What the model said, in the tokens that it said it in.

A context's memory holds tokens. When a dialogue goes on, the last answer comes back as text, and a
tokenizer may well cut that otherwise than the model did: 한 is one token, or those of its three
bytes. All of the answer would be read anew then. So the tokens of what was said are kept for a
while, and take the place of those that spell the same. This module knows no templates, and not
what the engine still holds.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from ..scheduler import common_prefix

Spell = Callable[[int], str]
"""A token as text in which no two different things look alike; see `spell`."""


def spell(token: int, piece: bytes) -> str:
    """A character for each byte; one of its own for a token without any, as control tokens are.

    So what somebody typed never spells a control token.
    """
    return piece.decode("latin-1") if piece else chr(256 + token)


class Recalled(NamedTuple):
    """A prompt, and which of its tokens have a first space that its text leaves out.

    Detokenizing drops one in front of an answer, and so do templates that trim what was said.
    """

    tokens: list[int]
    unshown: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Spelled:
    """Tokens, what they are as text together, and where in that each ends (0 first of all)."""

    tokens: Sequence[int]
    unshown: tuple[int, ...]
    text: str
    ends: list[int]


class Said:
    """The last `n_kept` prompts with their answers. For many threads.

    `spell` may raise; nothing is spelled before `recall`.
    """

    def __init__(self, spell: Spell, n_kept: int) -> None:
        self._spell = spell
        self._lock = threading.Lock()
        self._kept: deque[_Kept] = deque(maxlen=n_kept)

    def keep(self, prompt: Recalled, answer: Sequence[int]) -> None:
        """These tokens were said in answer to those."""
        if answer:
            kept = _Kept(prompt, answer)
            with self._lock:
                self._kept.appendleft(kept)

    def recall(self, tokens: list[int], limit: int) -> Recalled:
        """The same text, in the words of an earlier prompt and as far as it goes of its answer.

        It goes on from the last place where both are cut, so that what is new, and what it grows
        together with, has the tokenizer's own tokens. Unchanged where that would be too long.
        """
        with self._lock:
            kept = list(self._kept)
        new = _spelled(tokens, (), self._spell)
        matches = (match for each in kept if (match := each.match(new, self._spell)))
        unchanged = Recalled(tokens)
        _, recalled = max(matches, key=lambda match: match[0], default=(0, unchanged))
        return recalled if len(recalled.tokens) <= limit else unchanged


class _Kept:
    """A prompt and its answer, spelled when first looked at."""

    def __init__(self, prompt: Recalled, answer: Sequence[int]) -> None:
        self._tokens, self._n_prompt = [*prompt.tokens, *answer], len(prompt.tokens)
        self._unshown = prompt.unshown
        self._spellings: list[_Spelled] = []

    def match(self, new: _Spelled, spell: Spell) -> tuple[int, Recalled] | None:
        """How much of the text is alike, and the new tokens with those of here for it.

        None unless some of the answer is alike: prompts are the tokenizer's own to cut.
        """
        self._spellings = self._spellings or list(self._spell(spell))
        found = [(_last_common_end(mine, new), mine) for mine in self._spellings]
        end, mine = max(found, key=lambda pair: pair[0])
        if end <= mine.ends[self._n_prompt]:
            return None
        # From the left: a space that is left out has no length, and belongs to what follows.
        before, after = bisect_left(mine.ends, end), bisect_left(new.ends, end)
        unshown = tuple(n for n in mine.unshown if n < before)
        return end, Recalled([*mine.tokens[:before], *new.tokens[after:]], unshown)

    def _spell(self, spell: Spell) -> Iterator[_Spelled]:
        """As it is, and without the answer's first space, if it has one."""
        yield _spelled(self._tokens, self._unshown, spell)
        if spell(self._tokens[self._n_prompt]).startswith(" "):
            yield _spelled(self._tokens, (*self._unshown, self._n_prompt), spell)


def _spelled(tokens: Sequence[int], unshown: tuple[int, ...], spell: Spell) -> _Spelled:
    texts = [spell(token) for token in tokens]
    for n in unshown:
        texts[n] = texts[n].removeprefix(" ")
    return _Spelled(tokens, unshown, "".join(texts), [0, *accumulate(map(len, texts))])


def _last_common_end(one: _Spelled, other: _Spelled) -> int:
    """The last place, of those before which both texts are alike, where both are cut."""
    n_alike = common_prefix(one.text, other.text)
    a, b = (bisect_right(spelled.ends, n_alike) - 1 for spelled in (one, other))
    while one.ends[a] != other.ends[b]:
        if one.ends[a] > other.ends[b]:
            a -= 1
        else:
            b -= 1
    return one.ends[a]
