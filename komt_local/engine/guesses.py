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
from collections.abc import Sequence

_GRAM = 3
_FIRST_CONFIDENCE = 0.4
_WEIGHT = 0.25  # of the newest observation in a moving average
_LEAST_GAIN = 1.05
_FIRST_COST = 0.5
_FORGETTING = 1 / 128


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
    """What a guess costs: the part of a plain step's time that each further token adds to it.

    What was measured is forgotten slowly, or one step that something else held up would be the
    last with guesses in it.
    """

    def __init__(self) -> None:
        self.cost = _FIRST_COST
        self._plain_seconds = 0.0

    def note(self, n_guesses: int, seconds: float) -> None:
        """A step without any prompt took so long, with so many guesses in it."""
        if not n_guesses:
            self.cost += _FORGETTING * (_FIRST_COST - self.cost)
            self._plain_seconds += (_WEIGHT if self._plain_seconds else 1) * (
                seconds - self._plain_seconds
            )
        elif self._plain_seconds:
            cost = max(0.0, seconds / self._plain_seconds - 1) / n_guesses
            self.cost += _WEIGHT * (cost - self.cost)

    def best_length(self, confidence: float, limit: int, n_answers: int) -> int:
        """How many guesses give the most tokens per second, 0 if plain steps do.

        Of k guesses, each right with probability p if those before it are, p + p^2 + … + p^k come
        true on average; the others' answers in the same batch get one token each, as ever.
        """
        best, best_gain = 0, _LEAST_GAIN
        right, chance = 0.0, 1.0
        for length in range(1, limit + 1):
            chance *= confidence
            right += chance
            gain = (n_answers + right) / n_answers / (1 + self.cost * length)
            if gain > best_gain:
                best, best_gain = length, gain
        return best
