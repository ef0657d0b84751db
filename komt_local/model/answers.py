"""What comes out of an answer: token ids become events, and events an answer.

It knows a request's tokens and texts; not how a prompt is made, and not how tokens are.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..detokenize import TextStream
from ..errors import Closed
from ..loops import LoopGuard
from ..types import Answer, Event, FinishReason, Likelihood, Sampling, Timings, TokenLogprob, Usage
from .said import Recalled

if TYPE_CHECKING:
    from ..engine import Engine, Request

Piece = Callable[[int, bool], bytes]
"""The bytes of a token; those of a control token only if the second argument is true."""


class Keep(Protocol):
    """What is told the tokens of a prompt and of its answer, once that is over; `Said.keep`."""

    def __call__(self, prompt: Recalled, answer: Sequence[int]) -> None: ...


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that was found to be right: what to evaluate, and when to end.

    `prefix` is what the prompt began of the answer, told again in front of it. `n_likeliest` None
    asks for no likelihoods; `watched` are tokens whose likelihood is told beside the likeliest.
    `unshown` is what `said.Recalled` has of the prompt. A whole answer must follow the JSON schema
    `schema`, if there is one.
    """

    tokens: list[int]
    sampling: Sampling
    max_tokens: int | None
    stops: tuple[str, ...]
    end_tokens: frozenset[int]
    adapters: Hashable = ()
    unshown: tuple[int, ...] = ()
    drops_first_space: bool = False
    prefix: str = ""
    stops_loops: bool = False
    n_likeliest: int | None = None
    watched: tuple[int, ...] = ()
    schema: Any = None


def events(
    engine: Engine,
    ask: Ask,
    piece: Piece,
    on_submit: Callable[[Request], None],
    keep: Keep,
) -> Iterator[Event]:
    """Run a request and yield its text as it comes; closing the iterator cancels it.

    Raises AnswerError at the end of an answer that is not as its schema wants it.
    """
    request = engine.submit(
        ask.tokens,
        ask.sampling,
        max_tokens=ask.max_tokens,
        stop_tokens=ask.end_tokens,
        adapters=ask.adapters,
        n_likeliest=ask.n_likeliest,
        watched=ask.watched,
    )
    on_submit(request)
    texts: list[str] = []
    heard: list[int] = []
    try:
        for event in _told(request, ask, piece, heard):
            texts.append(event.text)
            yield event
    finally:
        request.cancel()
        keep(Recalled(ask.tokens, ask.unshown), heard)
    if ask.schema is not None:
        from ..schema import check_answer

        check_answer("".join(texts), ask.schema)


def _told(request: Request, ask: Ask, piece: Piece, heard: list[int]) -> Iterator[Event]:
    """The events of a request up to its end, whichever of us ends it; its tokens are `heard`."""
    text = TextStream(ask.stops, drops_first_space=ask.drops_first_space)
    guard = LoopGuard() if ask.stops_loops else None
    tokens = _Tokens(request, piece)
    if ask.prefix:
        yield Event(ask.prefix, _usage(request, 0))
    for n_tokens, token in enumerate(request, 1):
        heard.append(token)
        shown = text.feed(_piece_or_nothing(piece, token))
        if text.stopped:
            yield _last(request, tokens, shown, "stop", n_tokens)
            return
        if guard and guard.feed(token):
            yield _last(request, tokens, shown + text.finish(), "loop", n_tokens)
            return
        if shown:
            yield Event(shown, _usage(request, n_tokens), tokens=tokens.take(n_tokens))
    outcome = request.outcome
    assert outcome is not None
    timings, n_tokens = outcome.timings, outcome.n_generated
    yield _last(request, tokens, text.finish(), outcome.reason, n_tokens, timings)


def _piece_or_nothing(piece: Piece, token: int, special: bool = False) -> bytes:
    """A token that was on its way while another thread closed the model has no text any more."""
    try:
        return piece(token, special)
    except Closed:
        return b""


class _Tokens:
    """The likelihoods of a request, told a few at a time."""

    def __init__(self, request: Request, piece: Piece) -> None:
        self._request, self._piece, self._n_told = request, piece, 0

    def take(self, n_tokens: int) -> tuple[TokenLogprob, ...]:
        """Those that were not told yet, up to so many of the answer; none if none were asked."""
        new = self._request.likelihoods[self._n_told : n_tokens]
        self._n_told += len(new)
        return tuple(map(self._spell, new))

    def _spell(self, likelihood: Likelihood) -> TokenLogprob:
        top = (self._one(token, logprob) for token, logprob in likelihood.others)
        return self._one(likelihood.token, likelihood.log_likelihood, tuple(top))

    def _one(self, token: int, logprob: float, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
        return TokenLogprob(token, _piece_or_nothing(self._piece, token, True), logprob, top)


def _last(
    request: Request,
    tokens: _Tokens,
    text: str,
    reason: FinishReason,
    n_tokens: int,
    timings: Timings | None = None,
) -> Event:
    told = tokens.take(n_tokens)
    return Event(text, _usage(request, n_tokens), reason, timings or request.timings(), told)


def _usage(request: Request, n_tokens: int) -> Usage:
    return Usage(request.task.n_prompt, request.task.n_cached, n_tokens)


def fold(stream: Iterable[Event]) -> Answer:
    """The whole answer that a stream of events tells."""
    texts: list[str] = []
    tokens: list[TokenLogprob] = []
    for event in stream:
        texts.append(event.text)
        tokens += event.tokens
    assert event.finish_reason is not None and event.timings is not None
    return Answer("".join(texts), event.finish_reason, event.usage, event.timings, tuple(tokens))
