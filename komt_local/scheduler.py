"""Who runs next: slots, the waiting queue, prompt chunks under one budget, prefixes reused.

A slot is one sequence of the context's memory and remembers which tokens that memory holds. This
module counts tokens and decides; it never evaluates one, and it knows neither llama.cpp nor
threads. The engine carries out each `Plan` and reports back with `commit`.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class Task:
    """A request as the scheduler sees it: tokens to evaluate, some of them already evaluated.

    `tokens` are the prompt and what was generated. While a task runs, its slot holds the first
    `len(slot.tokens)` of them.
    """

    tokens: array[int]
    n_prompt: int
    n_cached: int = 0
    slot: Slot | None = None

    @classmethod
    def of(cls, prompt: Iterable[int]) -> Task:
        tokens = array("i", prompt)
        return cls(tokens, len(tokens))

    @property
    def n_pending(self) -> int:
        """Tokens that are still to be evaluated before the next one can be sampled."""
        return len(self.tokens) - (len(self.slot.tokens) if self.slot else 0)

    @property
    def is_prompt_done(self) -> bool:
        return self.slot is not None and len(self.slot.tokens) >= self.n_prompt


@dataclass(eq=False, slots=True)
class Slot:
    """One sequence of the context's memory, and the tokens that it holds."""

    index: int
    tokens: array[int] = field(default_factory=lambda: array("i"))
    task: Task | None = None
    last_used: int = 0


@dataclass(frozen=True, slots=True)
class Placement:
    """A task takes a slot: copy `source`'s memory there if given, keep the first `n_keep`."""

    slot: int
    n_keep: int
    source: int | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens `start` to `stop` of a task, at the same positions of its slot."""

    task: Task
    slot: int
    start: int
    stop: int

    @property
    def is_last(self) -> bool:
        """Whether the next token can be sampled after this chunk."""
        return self.stop == len(self.task.tokens)


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: memory to arrange first, then chunks to evaluate in one batch."""

    placements: list[Placement]
    chunks: list[Chunk]


class Scheduler:
    """Slots and the queue in front of them; `running` is in the order of admission.

    `n_batch`, more than `n_slots`, is the most tokens of one step. With `reuse` off every prompt
    is evaluated from its first token. Copying a slot's memory costs as much as evaluating some
    tokens, so a copy must spare at least `min_copy`.
    """

    def __init__(
        self, n_slots: int, n_batch: int, *, reuse: bool = True, min_copy: int = 32
    ) -> None:
        self.n_batch = n_batch
        self.slots = [Slot(index) for index in range(n_slots)]
        self.waiting: deque[Task] = deque()
        self.running: list[Task] = []
        self._reuse, self._min_copy = reuse, min_copy
        self._clock = 0

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running)

    def add(self, task: Task) -> None:
        """Put a task, whose prompt is not empty, at the end of the queue."""
        self.waiting.append(task)

    def remove(self, task: Task) -> None:
        """Take a task out, wherever it is. Its slot is free, and keeps its tokens for others."""
        if task.slot is None:
            if task in self.waiting:
                self.waiting.remove(task)
            return
        self.running.remove(task)
        task.slot.task, task.slot = None, None

    def schedule(self, prompt_budget: int) -> Plan:
        """The next step: a token of every answer under way, and at most so many of prompts."""
        placements = self._admit()
        answering = [task for task in self.running if task.is_prompt_done]
        reading = [task for task in self.running if not task.is_prompt_done]
        budget = min(prompt_budget, self.n_batch - len(answering))
        shares = _fair_shares([task.n_pending for task in reading], budget)
        chunks = [_chunk(task, 1) for task in answering]
        chunks += [_chunk(task, n) for task, n in zip(reading, shares, strict=True) if n]
        # llama.cpp evaluates sequences together only if their ids ascend without a gap.
        return Plan(placements, sorted(chunks, key=lambda chunk: chunk.slot))

    def commit(self, plan: Plan) -> None:
        """The chunks of the plan were evaluated."""
        self._clock += 1
        for chunk in plan.chunks:
            slot = self.slots[chunk.slot]
            slot.tokens.extend(chunk.task.tokens[chunk.start : chunk.stop])
            slot.last_used = self._clock

    def forget(self, slot: int) -> None:
        """The memory of a slot could not be cut where it should be, and was cleared instead."""
        self.slots[slot].tokens = array("i")
        if task := self.slots[slot].task:
            task.n_cached = 0

    def _admit(self) -> list[Placement]:
        placements: list[Placement] = []
        while self.waiting and any(slot.task is None for slot in self.slots):
            if self._is_better_later(self.waiting[0]):
                break
            placements.append(self._place(self.waiting.popleft()))
        return placements

    def _place(self, task: Task) -> Placement:
        source, n_keep = self._longest_prefix(task, self.slots)
        target = self._target(source, n_keep)
        n_own = self._n_shared(task, target)
        copies = target is not source and n_keep - n_own >= self._min_copy
        if copies:
            target.tokens = source.tokens[:n_keep]
        else:
            target.tokens = target.tokens[:n_own]
        target.task, task.slot, task.n_cached = task, target, len(target.tokens)
        self.running.append(task)
        return Placement(target.index, len(target.tokens), source.index if copies else None)

    def _target(self, source: Slot, n_keep: int) -> Slot:
        """The slot to overwrite: the source if that loses little, else the least recently used."""
        if source.task is None and n_keep and 2 * n_keep >= len(source.tokens):
            return source
        free = [slot for slot in self.slots if slot.task is None]
        return min(free, key=lambda slot: (slot.last_used, slot.index))

    def _longest_prefix(self, task: Task, slots: Iterable[Slot]) -> tuple[Slot, int]:
        shared = [(self._n_shared(task, slot), slot) for slot in slots]
        n_shared, slot = max(shared, key=lambda pair: (pair[0], pair[1].task is None))
        return slot, n_shared

    def _n_shared(self, task: Task, slot: Slot) -> int:
        """Tokens to go on from; the prompt's last is evaluated again, for its logits."""
        if not self._reuse:
            return 0
        return min(common_prefix(task.tokens, slot.tokens), task.n_prompt - 1)

    def _is_better_later(self, task: Task) -> bool:
        """Whether a prompt being read will soon hold more of this one than any slot does now.

        Waiting costs nothing then: its reader gets the budget that both would have shared.
        """
        if not self._reuse:
            return False
        reading = [other for other in self.running if not other.is_prompt_done]
        coming = max((common_prefix(task.tokens, other.tokens) for other in reading), default=0)
        coming = min(coming, task.n_prompt - 1)
        return coming - self._longest_prefix(task, self.slots)[1] >= self._min_copy


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike; bisected, as slices compare at C speed."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _chunk(task: Task, n_tokens: int) -> Chunk:
    assert task.slot is not None
    start = len(task.slot.tokens)
    return Chunk(task, task.slot.index, start, start + n_tokens)


def _fair_shares(needs: Sequence[int], budget: int) -> list[int]:
    """Split a budget evenly; what the small leave over goes to the large.

    Where it does not divide, the first ones get the larger shares, so that a budget of one still
    gets someone on.
    """
    shares = [0] * len(needs)
    for n_done, index in enumerate(sorted(range(len(needs)), key=lambda i: (needs[i], -i))):
        shares[index] = min(needs[index], budget // (len(needs) - n_done))
        budget -= shares[index]
    return shares
