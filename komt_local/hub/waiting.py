"""When to ask a server again, and how long to wait before: pure arithmetic but for the waiting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

Wait = Callable[[float], None]
"""Sleeps that many seconds."""

TRIES = 6
"""How often in a row to try without a single new byte."""
LONGEST = 300.0
"""Seconds; a server that asks for more is told to the user instead."""

_FIRST, _MOST = 0.5, 16.0
_PASSING = {408, 425, 429, 500, 502, 503, 504, 520, 522, 524}


@dataclass(frozen=True, slots=True)
class Delay:
    """A failure that may pass: after so many seconds, or as we like."""

    seconds: float | None


def delay(status: int, headers: Mapping[str, str]) -> Delay | None:
    """Whether an answer with this status may be another the next time, and when."""
    if status not in _PASSING:
        return None
    return Delay(_retry_after(headers.get("Retry-After", "")))


def _retry_after(text: str) -> float | None:
    """Seconds or a date, RFC 9110, 10.2.3; None for anything else."""
    if text.strip().isdigit():
        return float(text)
    try:
        seconds = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return None
    return max(0.0, seconds)


class Patience:
    """Counts the tries since the last progress, and waits between them, ever longer."""

    def __init__(self, wait: Wait) -> None:
        self._wait = wait
        self._failures = 0

    def progress(self) -> None:
        """Something came: begin to count anew."""
        self._failures = 0

    def again(self, seconds: float | None = None) -> bool:
        """Wait for the next try; False, without waiting, when it is enough."""
        self._failures += 1
        if self._failures >= TRIES or (seconds or 0) > LONGEST:
            return False
        self._wait(min(_FIRST * 2 ** (self._failures - 1), _MOST) if seconds is None else seconds)
        return True
