"""What a finding is: a name, a state, what was found, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

State = Literal["ok", "warn", "fail"]

_ORDER: tuple[State, ...] = ("ok", "warn", "fail")


class Text(NamedTuple):
    """A sentence in both languages."""

    en: str
    ko: str


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `remedy` is a line to type or to do, `page` a section of the manual on it."""

    name: str
    state: State
    found: Text
    remedy: Text | None = None
    page: str = ""


def worst(checks: Iterable[Check]) -> State:
    """The state of the whole: that of the worst check."""
    return max((check.state for check in checks), key=_ORDER.index, default="ok")


def same(text: str) -> Text:
    """A line that is the same in both languages, as a command is."""
    return Text(text, text)
