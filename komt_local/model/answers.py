"""What goes into an answer and comes out of it: checked requests, events, their fold.

It knows a request's tokens and texts; not how a prompt is made, and not how tokens are.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, get_args

from ..detokenize import TextStream
from ..errors import Closed, UsageError
from ..types import (
    Answer,
    Event,
    FinishReason,
    Message,
    MessageDict,
    Role,
    Sampling,
    Timings,
    Usage,
)

if TYPE_CHECKING:
    from ..engine import Engine, Request

Messages = str | Iterable[Message | MessageDict]


def read_messages(messages: Messages) -> tuple[Message, ...]:
    """A dialogue from whatever a caller has: one text, messages, or dicts of role and content."""
    if isinstance(messages, str):
        return (Message("user", messages),)
    found = tuple(_message(message) for message in messages)
    if not found:
        raise UsageError(
            "There are no messages; give at least one of the user.",
            "메시지가 없습니다. 사용자 메시지를 하나 이상 주세요.",
        )
    return found


def _message(message: Any) -> Message:
    if isinstance(message, Mapping) and message.keys() == {"role", "content"}:
        message = Message(**message)
    roles = get_args(Role)
    if not isinstance(message, Message) or not isinstance(message.content, str):
        raise UsageError(
            f"{message!r} is no message; give a role and a content, both text.",
            f"{message!r}은(는) 메시지가 아닙니다. role과 content를 글로 주세요.",
        )
    if message.role not in roles:
        raise UsageError(
            f"There is no role {message.role!r}; the roles are {', '.join(roles)}.",
            f"{message.role!r} 역할은 없습니다. 가능한 역할: {', '.join(roles)}",
        )
    return message


_RANGES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "temperature": (lambda x: 0 <= x <= 100, ">= 0, <= 100"),
    "top_k": (lambda x: 0 <= x < 2**31, ">= 0"),
    "top_p": (lambda x: 0 < x <= 1, "> 0, <= 1"),
    "min_p": (lambda x: 0 <= x <= 1, ">= 0, <= 1"),
    "repeat_penalty": (lambda x: 0 < x <= 100, "> 0, <= 100"),
    "repeat_last_n": (lambda x: 0 <= x < 2**31, ">= 0"),
    "seed": (lambda x: 0 <= x < 2**32, ">= 0, < 2^32"),
}
_WHOLE = {"top_k", "repeat_last_n", "seed"}


def read_sampling(given: Mapping[str, Any]) -> Sampling:
    """The sampling that a caller's keywords ask for. Raises UsageError for a bad name or value."""
    known = [field.name for field in fields(Sampling)]
    for name, value in given.items():
        if name not in known:
            raise UsageError(
                f"There is no option {name!r}; the sampling options are {', '.join(known)}.",
                f"{name!r} 옵션은 없습니다. 샘플링 옵션: {', '.join(known)}",
            )
        if not (name == "seed" and value is None):
            _check_range(name, value)
    return Sampling(**given)


def _check_range(name: str, value: Any) -> None:
    is_right, allowed = _RANGES[name]
    kinds = int if name in _WHOLE else (int, float)
    if not isinstance(value, kinds) or not is_right(value):
        kind = " (int)" if name in _WHOLE else ""
        raise UsageError(
            f"{name} is {value!r}; it must be {allowed}{kind}.",
            f"{name} 값이 {value!r}입니다. 허용 범위: {allowed}{kind}",
        )


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that was found to be right: what to evaluate, and when to end.

    `prefix` is what the prompt began of the answer, told again in front of it.
    """

    tokens: list[int]
    sampling: Sampling
    max_tokens: int | None
    stops: tuple[str, ...]
    end_tokens: frozenset[int]
    adapters: Hashable = ()
    drops_first_space: bool = False
    prefix: str = ""


def events(
    engine: Engine,
    ask: Ask,
    piece: Callable[[int], bytes],
    on_submit: Callable[[Request], None] = lambda request: None,
) -> Iterator[Event]:
    """Run a request and yield its text as it comes; closing the iterator cancels it."""
    request = engine.submit(
        ask.tokens,
        ask.sampling,
        max_tokens=ask.max_tokens,
        stop_tokens=ask.end_tokens,
        adapters=ask.adapters,
    )
    on_submit(request)
    text = TextStream(ask.stops, drops_first_space=ask.drops_first_space)
    n_tokens = 0
    try:
        if ask.prefix:
            yield Event(ask.prefix, _usage(request, n_tokens))
        for n_tokens, token in enumerate(request, 1):
            shown = text.feed(_piece_or_nothing(piece, token))
            if text.stopped:
                yield _last(request, shown, "stop", n_tokens)
                return
            if shown:
                yield Event(shown, _usage(request, n_tokens))
        yield _end(request, text)
    finally:
        request.cancel()


def _piece_or_nothing(piece: Callable[[int], bytes], token: int) -> bytes:
    """A token that was on its way while another thread closed the model has no text any more."""
    try:
        return piece(token)
    except Closed:
        return b""


def _end(request: Request, text: TextStream) -> Event:
    """The last event of a request that the engine ended."""
    outcome = request.outcome
    assert outcome is not None
    return _last(request, text.finish(), outcome.reason, outcome.n_generated, outcome.timings)


def _last(
    request: Request,
    text: str,
    reason: FinishReason,
    n_tokens: int,
    timings: Timings | None = None,
) -> Event:
    return Event(text, _usage(request, n_tokens), reason, timings or request.timings())


def _usage(request: Request, n_tokens: int) -> Usage:
    return Usage(request.task.n_prompt, request.task.n_cached, n_tokens)


def fold(stream: Iterable[Event]) -> Answer:
    """The whole answer that a stream of events tells."""
    texts: list[str] = []
    for event in stream:
        texts.append(event.text)
    assert event.finish_reason is not None and event.timings is not None
    return Answer("".join(texts), event.finish_reason, event.usage, event.timings)


def read_stops(stop: str | Sequence[str]) -> tuple[str, ...]:
    """One stop string or several. Raises UsageError for an empty one, which ends everything."""
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    if not all(isinstance(text, str) and text for text in stops):
        raise UsageError(
            "A stop string is empty; give the text before which the answer is to end.",
            "멈춤 문자열이 비어 있습니다. 그 앞에서 답을 끝낼 글을 주세요.",
        )
    return stops


def read_max_tokens(max_tokens: int | None) -> int | None:
    """The longest answer in tokens; None for as much as the context holds."""
    if max_tokens is not None and (not isinstance(max_tokens, int) or max_tokens < 1):
        raise UsageError(
            f"max_tokens is {max_tokens!r}; give a whole number of at least 1.",
            f"max_tokens가 {max_tokens!r}입니다. 1 이상의 정수를 주세요.",
        )
    return max_tokens
