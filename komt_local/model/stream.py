"""An answer as it comes, in a form that another thread can stop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

from ..types import Event
from .answers import Ask, Keep, Piece, events

if TYPE_CHECKING:
    from ..engine import Engine, Request


class Stream(Iterator[Event]):
    """The events of one answer, for one thread; `cancel` is for any.

    Closing it, or letting go of it, cancels as well. It keeps `model` alive.
    """

    def __init__(self, model: object, engine: Engine, ask: Ask, piece: Piece, keep: Keep) -> None:
        self._model = model
        self._handle = _Handle()
        self._events = events(engine, ask, piece, self._handle.take, keep)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        return next(self._events)

    def cancel(self) -> None:
        """Have the answer end within one step; harmless if it is over."""
        self._handle.cancel()

    def close(self) -> None:
        """End the iteration, in the thread that iterates."""
        self._events.close()  # type: ignore[attr-defined]


class _Handle:
    """The request, once there is one; apart from the stream, so that nothing holds itself."""

    def __init__(self) -> None:
        self._request: Request | None = None
        self._is_cancelled = False

    def take(self, request: Request) -> None:
        self._request = request
        if self._is_cancelled:
            request.cancel()

    def cancel(self) -> None:
        self._is_cancelled = True
        if self._request is not None:
            self._request.cancel()
