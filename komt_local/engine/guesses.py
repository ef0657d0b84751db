"""Guessing the next tokens from what was there before: speculative decoding without a second model.

Answers quote: their question, a text that came with it, themselves. A guess is what followed the
last tokens when they stood there before. Several guesses are evaluated in one batch with the token
that is certain, which costs less than one batch each; what is sampled decides how many were right,
so that the answer is none but the one without guesses.

Guessing goes on all the time, since it costs next to nothing; evaluating guesses is worth it only
while they come true. `Lookup` guesses and keeps the score of one answer, `Pace` knows what a
larger batch costs here. https://github.com/apoorvumang/prompt-lookup-decoding
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence

_GRAM = 3
_FIRST_CONFIDENCE = 0.4
_WEIGHT = 0.25  # of the newest observation in a moving average
_LEAST_GAIN = 1.05
_FIRST_COST = 0.5  # of a further token beside the first, before it is measured
_REMEMBERED = 256  # steps
_ROWS = 4


class Lookup:
    """Guesses from `tokens`, which its owner extends; one call of `follow` after each token.

    `confidence` is the share of the last guesses that came true, evaluated or not.
    """

    def __init__(self, tokens: array[int]) -> None:
        self.confidence = _FIRST_CONFIDENCE
        self._tokens = tokens
        self._places: dict[tuple[int, ...], int] = {}
        self._n_learned = _GRAM
        self._next: int | None = None

    def guess(self, n_tokens: int) -> Sequence[int]:
        """At most so many tokens that may come next; what repeats itself will go on to."""
        if self._next is None:
            return ()
        found = self._tokens[self._next : self._next + n_tokens]
        period = len(found)
        while len(found) < n_tokens:
            found.append(found[-period])
        return found

    def follow(self) -> None:
        """The last of the tokens is new: was it the one that was expected? What is next?"""
        tokens = self._tokens
        if self._next is not None:
            was_right = tokens[self._next] == tokens[-1]
            self.confidence += _WEIGHT * (was_right - self.confidence)
            self._next = self._next + 1 if was_right else None
        for place in range(self._n_learned, len(tokens)):
            self._places[tuple(tokens[place - _GRAM : place])] = place
        self._n_learned = max(self._n_learned, len(tokens))
        if self._next is None:
            self._next = self._places.get(tuple(tokens[-_GRAM:]))


class Pace:
    """What a batch takes by its number of tokens, as measured lately; in between, a guess as well.

    ggml computes tokens by fours and by sixteens: a batch of 16 may take less time than one of 15.
    So a guess fills the batch up to a multiple of `_ROWS`, and each size has a time of its own.
    What was not measured for long is forgotten, or one step that something else held up would be
    the last with guesses in it.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._noted: dict[int, int] = {}
        self._n_steps = 0

    def note(self, n_tokens: int, seconds: float) -> None:
        """A step without any prompt had so many tokens, and took so long."""
        self._n_steps += 1
        known = self._seconds.setdefault(n_tokens, seconds)
        self._seconds[n_tokens] += _WEIGHT * (seconds - known)
        self._noted[n_tokens] = self._n_steps
        for size, step in list(self._noted.items()):
            if self._n_steps - step > _REMEMBERED:
                del self._seconds[size], self._noted[size]

    def seconds(self, n_tokens: int) -> float:
        """Of a batch that is not smaller than all that were measured."""
        known = sorted(self._seconds)
        place = bisect_right(known, n_tokens)
        below = known[place - 1]
        if place == len(known):
            return self._seconds[below] * (1 + _FIRST_COST * (n_tokens - below) / below)
        above = known[place]
        share = (n_tokens - below) / (above - below)
        return self._seconds[below] + share * (self._seconds[above] - self._seconds[below])

    def best_length(self, confidence: float, limit: int, n_answers: int, n_tokens: int) -> int:
        """How many guesses give the most tokens per second, 0 if none do better.

        The batch has `n_tokens` already, and would get each of `n_answers` on by one. Of k guesses,
        each right with probability p if those before it are, p + p^2 + … + p^k come true.
        """
        if limit < 1 or not self._seconds or n_tokens < min(self._seconds):
            return 0
        now = self.seconds(n_tokens)
        best, best_gain = 0, _LEAST_GAIN
        for length in _lengths(n_tokens, limit):
            right = sum(confidence**k for k in range(1, length + 1))
            gain = (n_answers + right) / n_answers * now / self.seconds(n_tokens + length)
            if gain > best_gain:
                best, best_gain = length, gain
        return best


def _lengths(n_tokens: int, limit: int) -> Sequence[int]:
    first = _ROWS - n_tokens % _ROWS
    return range(first, limit + 1, _ROWS) or (limit,)
