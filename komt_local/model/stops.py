"""Why an answer ends, or does not: end tokens and how likely they were, stops and what they catch.

The answer is made with the file's end tokens alone, so that what a stop string would have cut off
is there to be seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..types import Answer, FinishReason, TokenLogprob


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the answer: what stands before it, and the likeliest end token there."""

    n_tokens: int
    before: str
    end: str
    probability: float


@dataclass(frozen=True, slots=True)
class Caught:
    """A stop string of a template, and after how many characters it would have ended the answer."""

    stop: str
    template: str
    at: int


@dataclass(frozen=True, slots=True)
class Stops:
    """What is known of an answer's end.

    `end_tokens` are the file's, by their texts. `places` are those where an end was likeliest, in
    their order. `caught` has the template's own stops first, then those of other templates.
    """

    text: str
    finish_reason: FinishReason
    end_token: str | None
    end_tokens: Mapping[str, int]
    places: tuple[Place, ...]
    caught: tuple[Caught, ...]


def explain(
    answer: Answer,
    end_tokens: Mapping[str, int],
    stops: Iterable[tuple[str, Sequence[str]]],
    *,
    n_places: int = 5,
) -> Stops:
    """What an answer made with watched end tokens tells; `stops` are (template, its stops)."""
    last = answer.tokens[-1] if answer.tokens else None
    ended = last.text if last and last.token in end_tokens.values() else None
    return Stops(
        answer.text,
        answer.finish_reason,
        ended,
        end_tokens,
        _likeliest_ends(answer.tokens, n_places),
        tuple(_caught(answer.text, stops)),
    )


def _likeliest_ends(tokens: Sequence[TokenLogprob], n_places: int) -> tuple[Place, ...]:
    places = []
    for n, told in enumerate(tokens):
        if told.top:
            best = max(told.top, key=lambda each: each.logprob)
            before = b"".join(each.piece for each in tokens[max(0, n - 8) : n])
            text = before.decode("utf-8", "ignore")
            places.append(Place(n, text, best.text, math.exp(best.logprob)))
    likeliest = sorted(places, key=lambda place: -place.probability)[:n_places]
    return tuple(sorted(likeliest, key=lambda place: place.n_tokens))


def _caught(text: str, stops: Iterable[tuple[str, Sequence[str]]]) -> Iterable[Caught]:
    known: set[str] = set()
    for template, texts in stops:
        for stop in texts:
            if stop not in known and (at := text.find(stop)) >= 0:
                yield Caught(stop, template, at)
            known.add(stop)
