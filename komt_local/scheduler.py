"""Who runs next: slots, the waiting queue, prompt chunks under one budget, prefixes reused.

A slot is one sequence of the context's memory and remembers which tokens that memory holds. This
module counts tokens and decides; it never evaluates one, and it knows neither llama.cpp nor
threads. The engine carries out each `Plan` and reports back with `commit`.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class Task:
    """A request as the scheduler sees it: tokens to evaluate, some of them already evaluated.

    `tokens` are the prompt and what was generated. While a task runs, its slot holds the first
    `len(slot.tokens)` of them. Logits are wanted after each of the last `n_outputs`. `adapters` is
    what, besides the tokens, decides what a memory holds: tasks of others never share one, nor
    a batch.
    """

    tokens: array[int]
    n_prompt: int
    n_outputs: int = 1
    adapters: Hashable = ()
    n_cached: int = 0
    slot: Slot | None = None

    @classmethod
    def of(cls, prompt: Iterable[int], n_outputs: int = 1, adapters: Hashable = ()) -> Task:
        tokens = array("i", prompt)
        return cls(tokens, len(tokens), n_outputs, adapters)

    @property
    def first_output(self) -> int:
        return len(self.tokens) - self.n_outputs

    @property
    def n_pending(self) -> int:
        """Tokens that are still to be evaluated before the next one can be sampled."""
        return len(self.tokens) - (len(self.slot.tokens) if self.slot else 0)

    @property
    def is_prompt_done(self) -> bool:
        """Whether an answer is under way; False again where its memory was lost."""
        has_prompt = self.slot is not None and len(self.slot.tokens) >= self.n_prompt
        return has_prompt and self.n_pending <= self.n_outputs


@dataclass(eq=False, slots=True)
class Slot:
    """One sequence of the context's memory, the tokens that it holds, and under which adapters."""

    index: int
    adapters: Hashable = ()
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
    def n_outputs(self) -> int:
        """After how many of its last tokens logits are wanted."""
        return max(0, self.stop - max(self.start, self.task.first_output))


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: memory to arrange first, then chunks to evaluate in one batch."""

    placements: list[Placement]
    chunks: list[Chunk]


class Scheduler:
    """Slots and the queue in front of them; `running` is in the order of admission.

    `n_batch`, more than `n_slots`, is the most tokens of one step, and `n_outputs` of a task the
    most whose logits it can give. With `reuse` off every prompt is evaluated from its first token.
    Copying a slot's memory costs as much as evaluating some tokens, so a copy must spare at least
    `min_copy`.
    """

    def __init__(
        self,
        n_slots: int,
        n_batch: int,
        *,
        n_outputs: int = 1,
        reuse: bool = True,
        min_copy: int = 32,
    ) -> None:
        self.n_batch, self.n_outputs = n_batch, n_outputs
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
        """The next step: what is pending of every answer, and at most so many tokens of prompts."""
        placements = self._admit()
        answering = [task for task in self.running if task.is_prompt_done]
        reading = [task for task in self.running if not task.is_prompt_done]
        pending = [task.n_pending for task in answering]
        budget = min(prompt_budget, self.n_batch - sum(pending))
        shares = _fair_shares([self._most(task) for task in reading], budget)
        chunks = [_chunk(task, n) for task, n in zip(answering, pending, strict=True)]
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

    def cut(self, slot: int, n_tokens: int) -> None:
        """The memory of a slot was cut to its first tokens."""
        del self.slots[slot].tokens[n_tokens:]

    def forget(self, slot: int) -> None:
        """The memory of a slot could not be cut where it should be, and was cleared instead."""
        self.slots[slot].tokens = array("i")
        if task := self.slots[slot].task:
            task.n_cached = 0

    def holder(self, tokens: Sequence[int], adapters: Hashable) -> tuple[Slot, int]:
        """The slot that holds most of these tokens' beginning, and how many of them."""
        shared = [
            (common_prefix(tokens, slot.tokens) if slot.adapters == adapters else 0, slot)
            for slot in self.slots
        ]
        n_shared, slot = max(shared, key=lambda pair: pair[0])
        return slot, n_shared

    def least_used(self) -> Slot | None:
        """The slot that is best overwritten; None where every one is in use."""
        free = [slot for slot in self.slots if slot.task is None]
        return min(free, key=lambda slot: (slot.last_used, slot.index), default=None)

    def _admit(self) -> list[Placement]:
        placements: list[Placement] = []
        while self.waiting and any(slot.task is None for slot in self.slots):
            if self._must_wait(self.waiting[0]) or self._is_better_later(self.waiting[0]):
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
        target.task, target.adapters = task, task.adapters
        task.slot, task.n_cached = target, len(target.tokens)
        self.running.append(task)
        return Placement(target.index, len(target.tokens), source.index if copies else None)

    def _target(self, source: Slot, n_keep: int) -> Slot:
        """The slot to overwrite: the source if that loses little, else the least recently used."""
        if source.task is None and n_keep and 2 * n_keep >= len(source.tokens):
            return source
        free = self.least_used()
        assert free is not None
        return free

    def _longest_prefix(self, task: Task, slots: Iterable[Slot]) -> tuple[Slot, int]:
        shared = [(self._n_shared(task, slot), slot) for slot in slots]
        n_shared, slot = max(shared, key=lambda pair: (pair[0], pair[1].task is None))
        return slot, n_shared

    def _n_shared(self, task: Task, slot: Slot) -> int:
        """Tokens to go on from; those whose logits are wanted are evaluated again."""
        if not self._reuse or slot.adapters != task.adapters:
            return 0
        return min(common_prefix(task.tokens, slot.tokens), task.first_output)

    def _most(self, task: Task) -> int:
        """What one step may take of a prompt, whose logits may be wanted in many places."""
        assert task.slot is not None
        start = len(task.slot.tokens)
        return min(task.n_pending, max(start, task.first_output) + self.n_outputs - start)

    def _must_wait(self, task: Task) -> bool:
        """Adapters are the whole context's: those who need others wait until all have ended."""
        return any(other.adapters != task.adapters for other in self.running)

    def _is_better_later(self, task: Task) -> bool:
        """Whether a prompt being read will soon hold more of this one than any slot does now.

        Waiting costs nothing then: its reader gets the budget that both would have shared.
        """
        if not self._reuse:
            return False
        reading = [other for other in self.running if not other.is_prompt_done]
        coming = max((common_prefix(task.tokens, other.tokens) for other in reading), default=0)
        coming = min(coming, task.first_output)
        return coming - self._longest_prefix(task, self.slots)[1] >= self._min_copy


def common_prefix(a: Sequence[object], b: Sequence[object]) -> int:
    """How much two sequences begin with alike; bisected, as slices compare at C speed."""
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
