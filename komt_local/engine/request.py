"""A request as its caller and the worker hold it: tokens come through a queue, then an outcome."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Protocol

from ..errors import KomtError
from ..scheduler import Task
from ..types import FinishReason, Likelihood, Sampling, Timings, TokenScore
from .guesses import Lookup

_WAKE_SECONDS = 0.5  # on Windows only a wait that times out lets Ctrl-C through


class Chooser(Protocol):
    """A sampler; freed by the worker."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended. `n_generated` counts the end token too, if there was one."""

    reason: FinishReason
    n_prompt: int
    n_cached: int
    n_generated: int
    timings: Timings


class Request:
    """One answer being made: iterate for its token ids, `cancel` to stop it.

    `outcome` is there when the iteration is over. Iterating raises EngineError if the engine
    fails; from one thread only. With `targets` nothing is generated: `scores` says how likely
    each of these was, the last of them after all tokens of the task.

    With `n_likeliest` not None, `likelihoods` has an entry for each token before the iteration
    gives it (and one for the end token): itself, so many of the likeliest, and those `watched`.
    """

    def __init__(
        self,
        task: Task,
        sampling: Sampling,
        max_tokens: int | None,
        ends: frozenset[int],
        on_cancel: Callable[[Request], None],
        targets: Sequence[int] = (),
        n_likeliest: int | None = None,
        watched: Sequence[int] = (),
    ) -> None:
        self.task, self.sampling, self.max_tokens, self.ends = task, sampling, max_tokens, ends
        self.outcome: Outcome | None = None
        self.targets, self.scores = targets, list[TokenScore]()
        self.n_likeliest, self.watched = n_likeliest, watched
        self.likelihoods: list[Likelihood] = []
        self.sampler: Chooser | None = None
        self.lookup: Lookup | None = None
        self.n_generated = 0
        self.submitted = time.perf_counter()
        self.admitted = self.first_token = 0.0
        self._results: SimpleQueue[int | Outcome | KomtError] = SimpleQueue()
        self._on_cancel, self.is_over = on_cancel, False

    def __iter__(self) -> Iterator[int]:
        while True:
            result = self._next()
            if isinstance(result, int):
                yield result
            elif isinstance(result, Outcome):
                self.outcome = result
                return
            else:
                raise result

    def _next(self) -> int | Outcome | KomtError:
        while True:
            try:
                return self._results.get(timeout=_WAKE_SECONDS)
            except Empty:
                continue

    def put(self, token: int) -> None:
        self._results.put(token)

    def end(self, result: Outcome | KomtError) -> None:
        """By the worker, whose samplers are."""
        self.is_over = True
        if self.sampler:
            self.sampler.close()
        self._results.put(result)

    def cancel(self) -> None:
        """End the request within one step; harmless if it is over."""
        if not self.is_over:
            self._on_cancel(self)

    def timings(self) -> Timings:
        now = time.perf_counter()
        admitted = self.admitted or now
        first_token = self.first_token or now
        return Timings(admitted - self.submitted, first_token - admitted, now - first_token)
