"""The engine: one thread that owns the context, and how others hand it work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from ..errors import Closed, ContextOverflow, EngineError, KomtError, UsageError
from ..scheduler import Task
from ..types import Sampling
from . import states
from .request import Chooser, Request
from .steps import Backend, Steps

_Result = TypeVar("_Result")


class Engine:
    """Runs requests on one context, several at once, in a thread of its own.

    `deterministic` evaluates each request as if it were alone on a fresh context: one slot, no
    prefix reused, always the same batches. Up to `draft` tokens are guessed at a time, fewer or
    none where guesses do not come true. `make_sampler(sampling, prompt)` runs in the worker, and
    so does `on_end`, last of all, when the context is freed.
    """

    def __init__(
        self,
        backend: Backend,
        make_sampler: Callable[[Sampling, Sequence[int]], Chooser],
        *,
        deterministic: bool = False,
        draft: int = 0,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._backend, self._on_end = backend, on_end
        self._steps = Steps(
            backend, make_sampler, self._watch, reuse=not deterministic, draft=draft
        )
        self._wake = threading.Condition()
        # Shared with the callers, under the condition:
        self._inbox: list[Request] = []
        self._calls: list[tuple[Callable[[], Any], Future[Any]]] = []
        self._cancelled: list[Request] = []
        self._reading: frozenset[Request] = frozenset()
        self._closing = False
        self._failure: KomtError | None = None
        self._worker = threading.Thread(target=self._run, name="komt-local engine", daemon=True)
        self._worker.start()

    def submit(
        self,
        tokens: Sequence[int],
        sampling: Sampling | None = None,
        *,
        max_tokens: int | None = None,
        stop_tokens: frozenset[int] = frozenset(),
        adapters: Hashable = (),
        n_likeliest: int | None = None,
        watched: Sequence[int] = (),
    ) -> Request:
        """Queue a request; `max_tokens` None means as many as the context holds.

        `n_likeliest` and `watched` ask for the request's `likelihoods`. `adapters` are for the
        backend; who needs others waits until all before have ended.
        Raises ContextOverflow for a prompt that does not fit, UsageError for an empty one, Closed,
        and EngineError when the worker has failed.
        """
        task = Task.of(self._fitting(tokens), adapters=adapters)
        sampling = sampling or Sampling()
        request = Request(
            task,
            sampling,
            max_tokens,
            stop_tokens,
            self._cancel,
            n_likeliest=n_likeliest,
            watched=watched,
        )
        return self._submit(request)

    def score(self, tokens: Sequence[int], n_given: int, *, adapters: Hashable = ()) -> Request:
        """Queue a request whose `scores` say how likely the tokens are after the first `n_given`.

        There must be at least one of both. Raises as `submit` does.
        """
        targets = tokens[n_given:]
        task = Task.of(self._fitting(tokens[:-1]), len(targets), adapters)
        return self._submit(Request(task, Sampling(), None, frozenset(), self._cancel, targets))

    def save_state(
        self, tokens: Sequence[int], path: Path, *, adapters: Hashable = (), limit: int = 1 << 62
    ) -> int:
        """Write the memory that holds most of these tokens' beginning to a file.

        Returns how many of them it holds: 0, and no file, where there is none or where the file
        would have more bytes than the limit.
        """
        where = (self._backend, self._steps.scheduler)
        return self.call(lambda: states.save(*where, tokens, path, adapters, limit))

    def load_state(self, path: Path, *, adapters: Hashable = ()) -> list[int]:
        """Have a slot hold what `save_state` wrote; returns its tokens, none where it fits not.

        The file must be whole: llama.cpp takes its word for what is in it.
        """
        where = (self._backend, self._steps.scheduler)
        return self.call(lambda: states.load(*where, path, adapters))

    def call(self, function: Callable[[], _Result]) -> _Result:
        """Run something in the worker, between two steps, and return what it returns."""
        future: Future[_Result] = Future()
        with self._wake:
            self._require_open()
            self._calls.append((function, future))
            self._wake.notify()
        return future.result()

    def close(self) -> None:
        """End every request as cancelled, free the context, join the worker. Repeatable."""
        with self._wake:
            self._closing = True
            self._backend.abort()
            self._wake.notify()
        if threading.current_thread() is not self._worker:
            self._worker.join()

    def _fitting(self, tokens: Sequence[int]) -> Sequence[int]:
        if len(tokens) > self._backend.n_ctx:
            raise ContextOverflow(len(tokens), self._backend.n_ctx)
        if not tokens:
            raise UsageError(
                "The prompt is empty; give at least one token of text.",
                "프롬프트가 비어 있습니다. 글을 조금이라도 넣으세요.",
            )
        return tokens

    def _submit(self, request: Request) -> Request:
        with self._wake:
            self._require_open()
            self._inbox.append(request)
            self._wake.notify()
        return request

    def _require_open(self) -> None:
        if self._failure:
            raise self._failure
        if self._closing:
            raise Closed

    def _cancel(self, request: Request) -> None:
        with self._wake:
            self._cancelled.append(request)
            if request in self._reading:
                self._backend.abort()
            self._wake.notify()

    def _watch(self, reading: frozenset[Request]) -> None:
        """Note whose prompts are in the batch: cancelling one of these aborts the evaluation."""
        if not reading and not self._reading:
            return
        with self._wake:
            self._reading = reading
            if self._closing or reading.intersection(self._cancelled):
                self._backend.abort()
            else:
                self._backend.resume()

    def _run(self) -> None:
        try:
            while self._take_commands():
                self._steps.step()
            for request in self._steps.requests:
                self._steps.finish(request, "cancelled")
        except KomtError as error:
            self._fail(error)
        except BaseException as error:
            self._fail(_unexpected(error))
        finally:
            self._backend.close()
            self._on_end()

    def _take_commands(self) -> bool:
        """Wait until there is work; False when it is time to go."""
        with self._wake:
            while not (
                self._closing or self._inbox or self._calls or self._steps.scheduler.has_work
            ):
                self._wake.wait()
            arrived, self._inbox = self._inbox, []
            cancelled, self._cancelled = self._cancelled, []
            calls, self._calls = self._calls, []
        for request in arrived:
            self._steps.add(request)
        for request in cancelled:
            self._steps.finish(request, "cancelled")
        for function, future in calls:
            _run_call(function, future)
        return not self._closing

    def _fail(self, error: KomtError) -> None:
        with self._wake:
            self._failure = error
            calls, self._calls = self._calls, []
        for request in [*self._steps.requests, *self._inbox]:
            request.end(error)
        for _, future in calls:
            future.set_exception(error)


def _run_call(function: Callable[[], Any], future: Future[Any]) -> None:
    try:
        future.set_result(function())
    except BaseException as error:
        future.set_exception(error)


def _unexpected(error: BaseException) -> EngineError:
    return EngineError(
        f"The engine stopped on an unexpected {type(error).__name__} ({error}); "
        "load the model again.",
        f"엔진이 예기치 않은 {type(error).__name__}({error}) 때문에 멈췄습니다. "
        "모델을 다시 여세요.",
    )
