"""What the worker does: `schedule → decode → sample → commit`, again and again.

Nothing here knows of threads; `engine.Engine` calls it from one.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

from ..errors import KomtError
from ..scheduler import Chunk, Placement, Scheduler, Task
from ..types import FinishReason, Likelihood, Sampling, TokenScore
from .guesses import Lookup, Pace
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
    n_outputs: int

    def decode(self, spans: Any) -> int: ...
    def sample(self, sampler: Any, row: int) -> int: ...
    def score(self, row: int, token: int) -> TokenScore: ...
    def likelihood(self, row: int, token: int, n_likeliest: int, watched: Any) -> Likelihood: ...
    def set_adapters(self, adapters: Any) -> None: ...
    def keep(self, sequence: int, n_tokens: int) -> bool: ...
    def copy(self, source: int, target: int) -> None: ...
    def state_bytes(self, sequence: int) -> int: ...
    def save(self, sequence: int, path: Any, tokens: array[int]) -> bool: ...
    def load(self, sequence: int, path: Any) -> array[int] | None: ...
    def abort(self) -> None: ...
    def resume(self) -> None: ...
    def close(self) -> None: ...


class Steps:
    """Requests that run, and the context that runs them.

    `watch` is called with those whose prompts are in the batch, before and after each evaluation.
    """

    def __init__(
        self,
        backend: Backend,
        make_sampler: Callable[[Sampling, Sequence[int]], Chooser],
        watch: Callable[[frozenset[Request]], None],
        *,
        reuse: bool,
        draft: int,
    ) -> None:
        self._backend, self._make_sampler, self._watch = backend, make_sampler, watch
        self._draft = min(draft, backend.n_outputs - 1)
        self.scheduler = Scheduler(
            backend.n_slots,
            backend.n_batch,
            n_outputs=backend.n_outputs,
            reuse=reuse,
            min_copy=max(32, backend.n_ctx // 64),
        )
        self._requests: dict[Task, Request] = {}
        self._adapters: Hashable = ()
        self._prompt_speed = 0.0  # tokens per second, as last measured
        self._pace = Pace()

    @property
    def requests(self) -> list[Request]:
        return list(self._requests.values())

    def add(self, request: Request) -> None:
        self._requests[request.task] = request
        self.scheduler.add(request.task)

    def finish(self, request: Request, reason: FinishReason) -> None:
        """End a request; harmless if it is over."""
        task = request.task
        if self._remove(task):
            counts = (task.n_prompt, task.n_cached, request.n_generated)
            request.end(Outcome(reason, *counts, request.timings()))

    def _remove(self, task: Task) -> bool:
        if self._requests.pop(task, None) is None:
            return False
        self.scheduler.remove(task)
        return True

    def step(self) -> None:
        """Every request that has a slot gets on."""
        self._guess()
        plan = self.scheduler.schedule(self._prompt_budget())
        while not self._arrange(plan.placements):
            plan = self.scheduler.schedule(self._prompt_budget())
        if not plan.chunks or not self._decode(plan.chunks):
            return
        self.scheduler.commit(plan)
        row = 0
        for chunk in plan.chunks:
            row += chunk.stop - chunk.start
            if chunk.n_outputs:
                self._take(self._requests[chunk.task], chunk, row - chunk.n_outputs)

    def _prompt_budget(self) -> int:
        """Tokens of prompts in the next step.

        With one slot nobody else is kept waiting, and always the same batches give the same last
        bits for the same request, on a slow day too.
        """
        if self._backend.n_slots == 1:
            return self._backend.n_batch
        answering = any(task.is_prompt_done for task in self.scheduler.running)
        fits = int(self._prompt_speed * (_STALL_SECONDS if answering else _STEP_SECONDS))
        return max(_SMALLEST_PART, min(fits, self._backend.n_batch))

    def _arrange(self, placements: list[Placement]) -> bool:
        """Bring the memory into the shape that the plan counts on; False if it would not."""
        as_planned = True
        for placement in placements:
            task = self.scheduler.slots[placement.slot].task
            if task:
                self._requests[task].admitted = time.perf_counter()
            if placement.source is not None:
                self._backend.copy(placement.source, placement.slot)
            if not self._keep(placement.slot, placement.n_keep):
                as_planned = False
        return as_planned

    def _keep(self, slot: int, n_tokens: int) -> bool:
        """Cut a slot's memory; False where it had to be cleared instead."""
        if self._backend.keep(slot, n_tokens):
            return True
        self.scheduler.forget(slot)
        return False

    def _decode(self, chunks: list[Chunk]) -> bool:
        """Evaluate chunks in one batch; False if there is nothing to commit."""
        self._apply(chunks[0].task.adapters)
        began = time.perf_counter()
        self._watch(frozenset(self._requests[c.task] for c in chunks if _is_prompt(c)))
        code = self._backend.decode([_span(chunk) for chunk in chunks])
        self._watch(frozenset())
        if code == 0:
            self._note_speed(chunks, time.perf_counter() - began)
            return True
        for chunk in chunks:
            self._keep(chunk.slot, chunk.start)
            self._withdraw(self._requests[chunk.task])
        if code == NO_SLOT:
            self.finish(self._requests[self.scheduler.running[-1]], "context")
        return False

    def _apply(self, adapters: Hashable) -> None:
        """The scheduler runs none together that differ in this."""
        if adapters != self._adapters:
            self._backend.set_adapters(adapters)
            self._adapters = adapters

    def _note_speed(self, chunks: list[Chunk], seconds: float) -> None:
        n_tokens = sum(chunk.stop - chunk.start for chunk in chunks)
        if n_tokens >= _SMALLEST_PART:
            self._prompt_speed = n_tokens / max(seconds, 1e-6)
        if self._draft and not any(map(_is_prompt, chunks)):
            self._pace.note(n_tokens, seconds)

    def _take(self, request: Request, chunk: Chunk, row: int) -> None:
        """What the logits of a chunk, the first of them at `row`, say to its request."""
        if request.targets:
            self._score(request, chunk, row)
            return
        try:
            self._answer(request, row)
        except KomtError as error:  # a grammar that has no way on: the others go on
            self._withdraw(request)
            self._remove(request.task)
            request.end(error)

    def _score(self, request: Request, chunk: Chunk, row: int) -> None:
        first = len(request.scores)
        targets = request.targets[first : first + chunk.n_outputs]
        scores = (self._backend.score(row + n, token) for n, token in enumerate(targets))
        request.scores.extend(scores)
        if len(request.scores) == len(request.targets):
            self.finish(request, "stop")

    def _answer(self, request: Request, row: int) -> None:
        """Sample after the token that is certain, and after each guess that came true."""
        guesses = self._withdraw(request)
        for n, guess in enumerate((*guesses, -1)):
            token = self._sample(request, row + n)
            self._deliver(request, token)
            if request.is_over:
                return
            if token != guess:
                break
        if n < len(guesses):
            self._drop_memory(request.task)

    def _drop_memory(self, task: Task) -> None:
        """The memory still holds guesses that were wrong, and not yet the last token."""
        assert task.slot is not None
        n_true = len(task.tokens) - 1
        if self._keep(task.slot.index, n_true):
            self.scheduler.cut(task.slot.index, n_true)
        else:
            self._draft = 0

    def _guess(self) -> None:
        """Put guesses behind the last token of those answers where it is worth it."""
        if not self._draft:
            return
        answering = [task for task in self.scheduler.running if task.is_prompt_done]
        n_tokens = len(answering)
        for task in answering:
            request = self._requests[task]
            if request.lookup:
                limit = min(self._draft, self._room(request) - 1)
                confidence = request.lookup.confidence
                best = self._pace.best_length(confidence, limit, len(answering), n_tokens)
                guesses = request.lookup.guess(best)
                task.tokens.extend(guesses)
                task.n_outputs += len(guesses)
                n_tokens += len(guesses)

    def _room(self, request: Request) -> int:
        """How many tokens there may still be in the answer."""
        of_context = self._backend.n_ctx + 1 - len(request.task.tokens)
        if request.max_tokens is None:
            return of_context
        return min(of_context, request.max_tokens - request.n_generated)

    def _withdraw(self, request: Request) -> Sequence[int]:
        """Take the guesses of an answer off its tokens again, and return them."""
        task = request.task
        if request.lookup is None or task.n_outputs == 1:
            return ()
        n_certain = task.first_output + 1
        guesses = task.tokens[n_certain:]
        del task.tokens[n_certain:]
        task.n_outputs = 1
        return guesses

    def _sample(self, request: Request, row: int) -> int:
        if request.sampler is None:
            request.sampler = self._make_sampler(request.sampling, request.task.tokens)
            request.lookup = Lookup(request.task.tokens) if self._draft else None
        token = self._backend.sample(request.sampler, row)
        if request.n_likeliest is not None:
            shown = (request.n_likeliest, request.watched)
            request.likelihoods.append(self._backend.likelihood(row, token, *shown))
        request.first_token = request.first_token or time.perf_counter()
        request.n_generated += 1
        return token

    def _deliver(self, request: Request, token: int) -> None:
        if token in request.ends:
            return self.finish(request, "stop")
        request.task.tokens.append(token)
        if request.lookup:
            request.lookup.follow()
        request.put(token)
        if request.n_generated == request.max_tokens:
            self.finish(request, "length")
        elif len(request.task.tokens) > self._backend.n_ctx:
            self.finish(request, "context")


def _is_prompt(chunk: Chunk) -> bool:
    return chunk.stop - chunk.start > chunk.n_outputs


def _span(chunk: Chunk) -> tuple[int, Any, int, int, int]:
    return chunk.slot, chunk.task.tokens, chunk.start, chunk.stop, chunk.n_outputs
