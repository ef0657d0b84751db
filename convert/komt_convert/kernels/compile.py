"""Compiling a function with Numba, so that its float32 arithmetic is that of ggml's C.

ggml-base is built for plain x86-64: one rounding for each operation, in the order of the source.
That is Numba without `fastmath`, which neither contracts nor reorders; `error_model="numpy"` makes
a division by zero an infinity, as in C. The machine code is kept in Numba's cache (beside this
file, else in the user's cache folder), so that it is compiled once on a machine. Imported only
when there is something to compile for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any, TypeVar

from numba import njit

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}

F = TypeVar("F", bound=Callable[..., Any])


def part(function: F) -> F:
    """A function that only compiled functions call."""
    compiled: F = njit(**_OPTIONS)(function)
    return compiled


class Kernel:
    """A compiled function that Python calls.

    A cache that cannot be read or written costs the time to compile, and nothing else.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        update_wrapper(self, function)
        self._function = function
        self._compiled: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any) -> Any:
        if self._compiled is None:
            return self._first(*arguments)
        return self._compiled(*arguments)

    def _first(self, *arguments: Any) -> Any:
        try:  # Numba looks for a place for the cache here, and writes to it in the call
            compiled = njit(cache=True, **_OPTIONS)(self._function)
            result = compiled(*arguments)
        except (OSError, RuntimeError, EOFError, ValueError):
            compiled = njit(**_OPTIONS)(self._function)
            result = compiled(*arguments)
        self._compiled = compiled
        return result
