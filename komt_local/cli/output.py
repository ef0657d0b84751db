"""What the commands print: answers as they come, results as JSON, bars for long work."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from ..language import say
from ..terminal.text import printable
from ..types import Event, TokenLogprob


def print_json(value: Any) -> None:
    """One JSON object on one line, Hangul as Hangul."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def print_answer(events: Iterable[Event], *, as_json: bool) -> Event:
    """Print an answer as it comes, as JSON one object for the whole of it; return its last event.

    On a terminal, control characters in the text are left out: a model must not drive it.
    """
    text: list[str] = []
    tokens: list[TokenLogprob] = []
    last = Event("")
    clean = printable if sys.stdout.isatty() else str
    for event in events:
        text.append(event.text)
        tokens += event.tokens
        last = event
        if not as_json:
            print(clean(event.text), end="", flush=True)
    if as_json:
        told = {"tokens": [_token(token) for token in tokens]} if tokens else {}
        print_json(_summary("".join(text), last) | told)
    elif not "".join(text).endswith("\n"):
        print()
    return last


def _summary(text: str, last: Event) -> dict[str, Any]:
    return {
        "text": text,
        "finish_reason": last.finish_reason,
        "usage": asdict(last.usage),
        "timings": asdict(last.timings) if last.timings else None,
    }


def _token(told: TokenLogprob) -> dict[str, Any]:
    """`bytes` are there because a token need not be whole characters."""
    one = {"id": told.token, "text": told.text, "bytes": list(told.piece), "logprob": told.logprob}
    return one | ({"top": [_token(each) for each in told.top]} if told.top else {})


def note(en: str, ko: str) -> None:
    """One sentence on stderr: worth knowing, not part of the answer."""
    note_line(say(en, ko))


def note_line(text: str) -> None:
    """A line on stderr, in the user's language already; no escape sequence gets through."""
    print(printable(text), file=sys.stderr, flush=True)


def size(count: float) -> str:
    """A number of bytes for people, in powers of 1024."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"
