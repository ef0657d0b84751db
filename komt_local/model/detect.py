"""Which template a model was trained with, asked of the model itself.

A model finds the markers of its own template likely, and an end likely where its template ends an
answer. For each template a small dialogue is written, and two numbers taken: the mean
log-likelihood of the tokens that the template wrote around the question, and that of the first
token with which it goes on behind the answer. Their mean is the template's fit, in nats per token;
0 would be certainty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import TemplateError
from ..prompts import Segment, Template, encode, render
from ..prompts.segments import Vocabulary
from ..scheduler import common_prefix
from ..types import Message, TokenScore

QUESTION, ANSWER = "대한민국의 수도는 어디인가요?", "대한민국의 수도는 서울입니다."

Sureness = Literal["sure", "likely", "unsure"]

_SURE, _LIKELY = (-1.0, 1.0), (-2.5, 0.5)
"""The least fit of the best, and its least lead over the next, to be called so."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How well a template fits, in nats per token: what it writes, and how it ends an answer.

    `same` names the templates that write this very prompt.
    """

    template: str
    markers: float
    end: float
    same: tuple[str, ...] = ()

    @property
    def total(self) -> float:
        return (self.markers + self.end) / 2


@dataclass(frozen=True, slots=True)
class Probe:
    """Tokens to be scored; the last one is how the template goes on behind the answer."""

    tokens: list[int]
    marker_places: tuple[int, ...]


def rank(
    templates: Iterable[Template],
    vocabulary: Vocabulary,
    texts: tuple[str, str],
    score: Callable[[list[int]], Sequence[TokenScore]],
) -> list[Fit]:
    """The templates, the best fit first. `texts` are those of BOS and EOS.

    `score` gives for each token but the first how likely it was.
    """
    groups: dict[tuple[int, ...], list[str]] = {}
    probes: dict[tuple[int, ...], Probe] = {}
    for template in templates:
        probe = _probe(template, vocabulary, *texts)
        if probe is not None:
            probes[tuple(probe.tokens)] = probe
            groups.setdefault(tuple(probe.tokens), []).append(template.name)
    fits = [_fit(probes[key], names, score) for key, names in groups.items()]
    return sorted(fits, key=lambda fit: -fit.total)


def sureness(fits: Sequence[Fit]) -> Sureness:
    """How sure the first of the ranked is."""
    if not fits:
        return "unsure"
    lead = fits[0].total - fits[1].total if len(fits) > 1 else 100.0
    if fits[0].total >= _SURE[0] and lead >= _SURE[1]:
        return "sure"
    return "likely" if fits[0].total >= _LIKELY[0] and lead >= _LIKELY[1] else "unsure"


def _fit(probe: Probe, names: list[str], score: Callable[[list[int]], Sequence[TokenScore]]) -> Fit:
    scores = score(probe.tokens)
    markers = [scores[place - 1].log_likelihood for place in probe.marker_places]
    end = scores[-1].log_likelihood
    return Fit(names[0], sum(markers) / len(markers), end, tuple(names[1:]))


def _probe(template: Template, vocabulary: Vocabulary, bos: str, eos: str) -> Probe | None:
    """None for a template that this dialogue or this vocabulary does not suit."""
    dialogue = [Message("user", QUESTION), Message("assistant", ANSWER)]
    try:
        prompt = render(template, dialogue[:1], bos=bos, eos=eos)
        whole = render(template, [*dialogue, Message("user", QUESTION)], bos=bos, eos=eos)
    except TemplateError:
        return None
    answered = _up_to_answer(whole)
    tokens = encode(whole, vocabulary)
    n_answered = common_prefix(tokens, encode(answered, vocabulary))
    places = tuple(place for place in _places_of_ours(prompt, vocabulary, tokens) if place)
    if not places or len(tokens) <= n_answered:
        return None
    return Probe(tokens[: n_answered + 1], places)


def _up_to_answer(whole: Sequence[Segment]) -> tuple[Segment, ...]:
    last = max(n for n, segment in enumerate(whole) if segment == Segment(ANSWER, ours=False))
    return tuple(whole[: last + 1])


def _places_of_ours(
    prompt: Sequence[Segment], vocabulary: Vocabulary, tokens: list[int]
) -> list[int]:
    """Where in the tokens stands what the template wrote, as far as tokens tell it apart."""
    places: list[int] = []
    at = 0
    for n, segment in enumerate(prompt, 1):
        end = common_prefix(tokens, encode(prompt[:n], vocabulary))
        if segment.ours:
            places += range(at, end)
        at = max(at, end)
    return places
