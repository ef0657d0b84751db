"""What a caller asked for, checked before anything runs: messages, sampling, limits.

Every function here raises UsageError, which names what cannot be right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, get_args

from ..errors import UsageError
from ..types import Message, MessageDict, Role, Sampling

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
    "frequency_penalty": (lambda x: -100 <= x <= 100, ">= -100, <= 100"),
    "presence_penalty": (lambda x: -100 <= x <= 100, ">= -100, <= 100"),
    "dry_multiplier": (lambda x: 0 <= x <= 100, ">= 0, <= 100"),
    "dry_base": (lambda x: 1 <= x <= 100, ">= 1, <= 100"),
    "dry_allowed_length": (lambda x: 0 <= x < 2**31, ">= 0"),
    "seed": (lambda x: 0 <= x < 2**32, ">= 0, < 2^32"),
}
_WHOLE = {"top_k", "repeat_last_n", "dry_allowed_length", "seed"}
_OTHERS = ("logprobs", "stop_loops", "json_schema")


def read_sampling(given: Mapping[str, Any]) -> Sampling:
    """The sampling that a caller's keywords ask for. Raises UsageError for a bad name or value."""
    known = [field.name for field in fields(Sampling)]
    for name, value in given.items():
        if name not in known:
            names = ", ".join((*known, *_OTHERS))
            raise UsageError(
                f"There is no option {name!r}; the options are {names}.",
                f"{name!r} 옵션은 없습니다. 옵션: {names}",
            )
        if name == "grammar":
            _check_text(name, value)
        elif not (name == "seed" and value is None):
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


def _check_text(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise UsageError(
            f"{name} is {value!r}; it must be text, or None.",
            f"{name} 값이 {value!r}입니다. 글이거나 None이어야 합니다.",
        )


def split_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of `Sampling` among a caller's options, and those of `answers.Ask`."""
    fields = dict(options)
    schema = fields.pop("json_schema", None)
    if schema is not None:
        fields["grammar"] = _grammar_of(schema, fields.get("grammar"))
    others = {
        "n_likeliest": read_logprobs(fields.pop("logprobs", None)),
        "stops_loops": bool(fields.pop("stop_loops", True)),
        "schema": schema,
    }
    return fields, others


def _grammar_of(schema: Any, grammar: str | None) -> str:
    from ..schema import to_grammar

    if grammar is not None:
        raise UsageError(
            "A grammar and a JSON schema cannot both hold; give one of them.",
            "문법과 JSON 스키마를 함께 쓸 수 없습니다. 하나만 주세요.",
        )
    return to_grammar(schema)


MOST_LOGPROBS = 100


def read_logprobs(logprobs: int | None) -> int | None:
    """How many alternatives to tell with each token; None for neither."""
    if logprobs is not None and (
        not isinstance(logprobs, int) or not 0 <= logprobs <= MOST_LOGPROBS
    ):
        raise UsageError(
            f"logprobs is {logprobs!r}; give a whole number from 0 to {MOST_LOGPROBS}.",
            f"logprobs 값이 {logprobs!r}입니다. 0부터 {MOST_LOGPROBS}까지의 정수를 주세요.",
        )
    return logprobs


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
