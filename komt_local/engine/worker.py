"""The worker: one thread that owns the context and runs every request in it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ..errors import Closed, ContextOverflow, EngineError, KomtError, UsageError
from ..scheduler import Chunk, Placement, Scheduler, Task
from ..types import FinishReason, Sampling
from .request import Chooser, Outcome, Request

_STALL_SECONDS = 0.25
"""About how long a part of a prompt may keep answers waiting that are under way."""
_STEP_SECONDS = 1.0
"""About how long a part of a prompt may keep those waiting who arrive meanwhile."""
_SMALLEST_PART = 32

NO_SLOT = 1  # what `decode` returns when the memory is full


class Backend(Protocol):
    """What the engine asks of a context; `llama.Context` is one. Used by the worker alone,
    but for `abort`, which has a `decode` under way return ABORTED."""

    n_ctx: int
    n_slots: int
    n_batch: int

    def decode(self, spans: Any) -> int: ...
    def sample(self, sampler: Any, row: int) -> int: ...
    def keep(self, sequence: int, n_tokens: int) -> bool: ...
    def copy(self, source: int, target: int) -> None: ...
    def abort(self) -> None: ...
    def resume(self) -> None: ...
    def close(self) -> None: ...


class Engine:
    """Runs requests on one context, several at once, in a thread of its own.

    `deterministic` evaluates each request as if it were alone on a fresh context: one slot, no
    prefix reused, always the same batches. `make_sampler(sampling, prompt)` runs in the worker,
    and so does `on_end`, last of all, when the context is freed.
    """

    def __init__(
        self,
        backend: Backend,
        make_sampler: Callable[[Sampling, Sequence[int]], Chooser],
        *,
        deterministic: bool = False,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._backend, self._make_sampler, self._on_end = backend, make_sampler, on_end
        self._scheduler = Scheduler(
            backend.n_slots,
            backend.n_batch,
            reuse=not deterministic,
            min_copy=max(32, backend.n_ctx // 64),
        )
        self._prompt_speed = 0.0  # tokens per second, as last measured
        self._requests: dict[Task, Request] = {}
        self._wake = threading.Condition()
        # Shared with the callers, under the condition:
        self._inbox: list[Request] = []
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
    ) -> Request:
        """Queue a request; `max_tokens` None means as many as the context holds.

        Raises ContextOverflow for a prompt that does not fit, UsageError for an empty one, Closed,
        and EngineError when the worker has failed.
        """
        if len(tokens) > self._backend.n_ctx:
            raise ContextOverflow(len(tokens), self._backend.n_ctx)
        if not tokens:
            raise UsageError(
                "The prompt is empty; give at least one token of text.",
                "프롬프트가 비어 있습니다. 글을 조금이라도 넣으세요.",
            )
        task = Task.of(tokens)
        request = Request(task, sampling or Sampling(), max_tokens, stop_tokens, self._cancel)
        with self._wake:
            if self._failure:
                raise self._failure
            if self._closing:
                raise Closed
            self._inbox.append(request)
            self._wake.notify()
        return request

    def close(self) -> None:
        """End every request as cancelled, free the context, join the worker. Repeatable."""
        with self._wake:
            self._closing = True
            self._backend.abort()
            self._wake.notify()
        if threading.current_thread() is not self._worker:
            self._worker.join()

    def _cancel(self, request: Request) -> None:
        with self._wake:
            self._cancelled.append(request)
            if request in self._reading:
                self._backend.abort()
            self._wake.notify()

    def _run(self) -> None:
        try:
            while self._take_commands():
                self._step()
            self._end_all()
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
            while not (self._closing or self._inbox or self._scheduler.has_work):
                self._wake.wait()
            arrived, self._inbox = self._inbox, []
            cancelled, self._cancelled = self._cancelled, []
        for request in arrived:
            self._requests[request.task] = request
            self._scheduler.add(request.task)
        for request in cancelled:
            self._finish(request, "cancelled")
        return not self._closing

    def _step(self) -> None:
        """Schedule, decode, sample, commit: every request that has a slot gets on."""
        plan = self._scheduler.schedule(self._prompt_budget())
        while not self._arrange(plan.placements):
            plan = self._scheduler.schedule(self._prompt_budget())
        if not plan.chunks or not self._decode(plan.chunks):
            return
        self._scheduler.commit(plan)
        row = -1
        for chunk in plan.chunks:
            row += chunk.stop - chunk.start
            if chunk.is_last:
                request = self._requests[chunk.task]
                self._deliver(request, self._sample(request, row))

    def _prompt_budget(self) -> int:
        """Tokens of prompts in the next step.

        With one slot nobody else is kept waiting, and always the same batches give the same last
        bits for the same request, on a slow day too.
        """
        if self._backend.n_slots == 1:
            return self._backend.n_batch
        answering = any(task.is_prompt_done for task in self._scheduler.running)
        fits = int(self._prompt_speed * (_STALL_SECONDS if answering else _STEP_SECONDS))
        return max(_SMALLEST_PART, min(fits, self._backend.n_batch))

    def _arrange(self, placements: list[Placement]) -> bool:
        """Bring the memory into the shape that the plan counts on; False if it would not."""
        as_planned = True
        for placement in placements:
            task = self._scheduler.slots[placement.slot].task
            if task:
                self._requests[task].admitted = time.perf_counter()
            if placement.source is not None:
                self._backend.copy(placement.source, placement.slot)
            if not self._backend.keep(placement.slot, placement.n_keep):
                self._scheduler.forget(placement.slot)
                as_planned = False
        return as_planned

    def _decode(self, chunks: list[Chunk]) -> bool:
        """Evaluate chunks in one batch; False if there is nothing to commit."""
        began = time.perf_counter()
        self._watch(chunks)
        code = self._backend.decode([_span(chunk) for chunk in chunks])
        self._watch([])
        if code == 0:
            self._note_speed(chunks, time.perf_counter() - began)
            return True
        for chunk in chunks:
            self._backend.keep(chunk.slot, chunk.start)
        if code == NO_SLOT:
            self._finish(self._requests[self._scheduler.running[-1]], "context")
        return False

    def _watch(self, chunks: list[Chunk]) -> None:
        """Note whose prompts are in the batch: cancelling one of these aborts the evaluation."""
        reading = frozenset(self._requests[c.task] for c in chunks if c.stop - c.start > 1)
        if not reading and not self._reading:
            return
        with self._wake:
            self._reading = reading
            if self._closing or reading.intersection(self._cancelled):
                self._backend.abort()
            else:
                self._backend.resume()

    def _note_speed(self, chunks: list[Chunk], seconds: float) -> None:
        n_tokens = sum(chunk.stop - chunk.start for chunk in chunks)
        if n_tokens >= _SMALLEST_PART:
            self._prompt_speed = n_tokens / max(seconds, 1e-6)

    def _sample(self, request: Request, row: int) -> int:
        if request.sampler is None:
            request.sampler = self._make_sampler(request.sampling, request.task.tokens)
        token = self._backend.sample(request.sampler, row)
        request.first_token = request.first_token or time.perf_counter()
        request.n_generated += 1
        return token

    def _deliver(self, request: Request, token: int) -> None:
        if token in request.ends:
            return self._finish(request, "stop")
        request.task.tokens.append(token)
        request.put(token)
        if request.n_generated == request.max_tokens:
            self._finish(request, "length")
        elif len(request.task.tokens) > self._backend.n_ctx:
            self._finish(request, "context")

    def _finish(self, request: Request, reason: FinishReason) -> None:
        task = request.task
        if self._requests.pop(task, None) is None:
            return
        self._scheduler.remove(task)
        counts = (task.n_prompt, task.n_cached, request.n_generated)
        request.end(Outcome(reason, *counts, request.timings()))

    def _end_all(self) -> None:
        for request in list(self._requests.values()):
            self._finish(request, "cancelled")

    def _fail(self, error: KomtError) -> None:
        with self._wake:
            self._failure = error
        for request in [*self._requests.values(), *self._inbox]:
            request.end(error)


def _span(chunk: Chunk) -> tuple[int, Any, int, int, bool]:
    return chunk.slot, chunk.task.tokens, chunk.start, chunk.stop, chunk.is_last


def _unexpected(error: BaseException) -> EngineError:
    return EngineError(
        f"The engine stopped on an unexpected {type(error).__name__} ({error}); "
        "load the model again.",
        f"엔진이 예기치 않은 {type(error).__name__}({error}) 때문에 멈췄습니다. "
        "모델을 다시 여세요.",
    )
