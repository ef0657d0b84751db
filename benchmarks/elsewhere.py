"""Something to be measured, in a process of its own.

OpenMP counts the threads of all teams of a process, and sends them to sleep at every barrier when
they are more than the processors: two models in one process slow each other down, even when only
one of them works.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from typing import Any

Make = Callable[..., AbstractContextManager[Any]]


class Elsewhere:
    """What `make(*arguments)` gives, made and called there; arguments and results travel."""

    def __init__(self, make: Make, *arguments: Any) -> None:
        self._connection, theirs = Pipe()
        self._process = get_context("spawn").Process(
            target=_serve, args=(theirs, make, *arguments), daemon=True
        )
        self._process.start()
        theirs.close()

    def __call__(self, *arguments: Any) -> Any:
        return self.call("__call__", *arguments)

    def call(self, method: str, *arguments: Any) -> Any:
        self._connection.send((method, arguments))
        return self._connection.recv()

    def close(self) -> None:
        self._connection.send(None)
        self._process.join()


def _serve(connection: Connection, make: Make, *arguments: Any) -> None:
    with make(*arguments) as made:
        while asked := connection.recv():
            method, given = asked
            connection.send(getattr(made, method)(*given))
