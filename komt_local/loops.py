"""Notices an answer that goes round in circles: the same tokens, over and over.

A small or badly prompted model may repeat a sentence until the context is full. This counts exact
repetition only, and takes long to be sure: a list, a poem or a row of ㅋ is no loop. It knows token
ids, neither text nor models.
"""

from __future__ import annotations

from collections import deque

MIN_COPIES = 6
"""How often in a row the same stretch must stand before it counts as a loop."""
MIN_TOKENS = 192
"""How many tokens all the copies together must be at least: a page of one syllable."""

LONGEST = 1024
"""Longer stretches are not looked for: six of them fill most contexts anyway."""


class LoopGuard:
    """Fed token by token; says when the last ones are the same stretch over and over.

    A stretch of n tokens is a loop when `MIN_COPIES` of it stand in a row, or as many more as make
    up `MIN_TOKENS`. A step looks at the places where the same token stood, `LONGEST` back at most.
    """

    def __init__(self, min_copies: int = MIN_COPIES, min_tokens: int = MIN_TOKENS) -> None:
        self._min_copies, self._min_tokens = min_copies, min_tokens
        self._places: dict[int, deque[int]] = {}
        self._n_tokens = 0
        # distance → how many of the last tokens are the same as the one that far before.
        self._runs: dict[int, int] = {}

    def feed(self, token: int) -> bool:
        """Whether the answer with this token is in a loop."""
        places = self._places.setdefault(token, deque())
        while places and self._n_tokens - places[0] > LONGEST:
            places.popleft()
        distances = (self._n_tokens - place for place in places)
        self._runs = {n: self._runs.get(n, 0) + 1 for n in distances}
        places.append(self._n_tokens)
        self._n_tokens += 1
        return any(self._is_loop(n, run) for n, run in self._runs.items())

    def _is_loop(self, distance: int, run: int) -> bool:
        length = distance + run  # the first copy is like no other before it
        return length >= max(self._min_copies * distance, self._min_tokens)
