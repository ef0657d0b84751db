"""The scheduler against a memory that only remembers: nothing lost, budgets kept, in order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from komt_local.scheduler import Chunk, Plan, Scheduler, Task, common_prefix

PROMPTS = st.lists(st.integers(0, 1), min_size=1, max_size=40)


class Memory:
    """What llama.cpp would hold: per slot the tokens evaluated, in the order of their positions."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.slots: list[list[int]] = [[] for _ in scheduler.slots]

    def run(self, plan: Plan) -> None:
        for placement in plan.placements:
            if placement.source is not None:
                self.slots[placement.slot] = list(self.slots[placement.source])
            del self.slots[placement.slot][placement.n_keep :]
        for chunk in plan.chunks:
            held = self.slots[chunk.slot]
            assert held == chunk.task.tokens[: chunk.start].tolist(), "positions out of step"
            held += chunk.task.tokens[chunk.start : chunk.stop]
        self.scheduler.commit(plan)


def step(scheduler: Scheduler, memory: Memory, budget: int | None = None) -> list[Chunk]:
    plan = scheduler.schedule(scheduler.n_batch if budget is None else budget)
    memory.run(plan)
    return plan.chunks


class Requests(RuleBasedStateMachine):
    @initialize(n_slots=st.integers(1, 4), spare=st.integers(1, 12), reuse=st.booleans())
    def begin(self, n_slots: int, spare: int, reuse: bool) -> None:
        self.scheduler = Scheduler(n_slots, n_slots + spare, reuse=reuse, min_copy=3)
        self.memory = Memory(self.scheduler)
        self.queued: list[Task] = []
        self.admitted: list[Task] = []

    @rule(prompt=PROMPTS)
    def submit(self, prompt: list[int]) -> None:
        task = Task.of(prompt)
        self.queued.append(task)
        self.scheduler.add(task)

    @rule(budget=st.integers(1, 20), token=st.integers(0, 1))
    def step(self, budget: int, token: int) -> None:
        answering = [task for task in self.scheduler.running if task.is_prompt_done]
        had_work = self.scheduler.has_work
        plan = self.scheduler.schedule(budget)
        self.admitted += [t for t in self.queued if t.slot and t not in self.admitted]
        n_tokens = sum(chunk.stop - chunk.start for chunk in plan.chunks)
        n_prompt = n_tokens - len(answering)
        assert n_tokens <= self.scheduler.n_batch and n_prompt <= budget
        assert bool(plan.chunks) == had_work, "work was left lying"
        assert {c.task for c in plan.chunks if c.stop - c.start} >= set(answering), (
            "one had to wait"
        )
        assert [c.slot for c in plan.chunks] == sorted({c.slot for c in plan.chunks})
        self.memory.run(plan)
        for chunk in plan.chunks:
            if chunk.n_outputs:
                assert chunk.stop > chunk.task.n_cached, "nothing evaluated for the logits"
                chunk.task.tokens.append(token)

    @precondition(lambda self: self.scheduler.running)
    @rule(data=st.data())
    def end_one(self, data: st.DataObject) -> None:
        self.scheduler.remove(data.draw(st.sampled_from(self.scheduler.running)))

    @precondition(lambda self: self.scheduler.waiting)
    @rule(data=st.data())
    def cancel_one_that_waits(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(list(self.scheduler.waiting)))
        self.scheduler.remove(task)
        self.queued.remove(task)

    @rule(slot=st.integers(0, 3))
    def lose_memory(self, slot: int) -> None:
        """What the engine does where a memory cannot be cut: everything is evaluated again."""
        if slot < len(self.memory.slots):
            self.memory.slots[slot] = []
            self.scheduler.forget(slot)

    @invariant()
    def slots_know_what_they_hold(self) -> None:
        for slot, held in zip(self.scheduler.slots, self.memory.slots, strict=True):
            assert held[: len(slot.tokens)] == slot.tokens.tolist()
            assert slot.task is None or slot.task.slot is slot

    @invariant()
    def first_come_first_served(self) -> None:
        assert self.admitted == [task for task in self.queued if task in self.admitted]
        assert self.admitted == self.queued[: len(self.admitted)]


Requests.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestRequests = Requests.TestCase


@given(st.lists(st.integers(0, 1), max_size=20), st.lists(st.integers(0, 1), max_size=20))
def test_common_prefix(a: list[int], b: list[int]) -> None:
    n = common_prefix(a, b)
    assert a[:n] == b[:n] and (n == min(len(a), len(b)) or a[n] != b[n])


@given(st.lists(PROMPTS, min_size=1, max_size=6), st.integers(1, 3), st.integers(1, 8))
@settings(deadline=None)
def test_everything_is_evaluated_in_the_end(
    prompts: list[list[int]], n_slots: int, budget: int
) -> None:
    scheduler = Scheduler(n_slots, n_slots + 8, min_copy=2)
    memory = Memory(scheduler)
    for prompt in prompts:
        scheduler.add(Task.of(prompt))
    n_done = 0
    for _ in range(sum(map(len, prompts)) + len(prompts)):
        for chunk in step(scheduler, memory, budget):
            if chunk.n_outputs:
                scheduler.remove(chunk.task)
                n_done += 1
    assert n_done == len(prompts) and not scheduler.has_work


def test_a_prompt_goes_on_from_what_its_slot_holds() -> None:
    scheduler = Scheduler(1, 64)
    memory = Memory(scheduler)
    first, second = Task.of(range(10)), Task.of([*range(10), 50, 51])
    scheduler.add(first)
    step(scheduler, memory)
    scheduler.remove(first)
    scheduler.add(second)
    assert [(c.start, c.stop) for c in step(scheduler, memory)] == [(10, 12)]
    assert second.n_cached == 10


def test_the_same_prompt_again_evaluates_its_last_token() -> None:
    scheduler = Scheduler(1, 64)
    memory = Memory(scheduler)
    for expected in (0, 9):
        task = Task.of(range(10))
        scheduler.add(task)
        step(scheduler, memory)
        assert task.n_cached == expected
        scheduler.remove(task)


def test_a_prefix_is_copied_from_a_busy_slot() -> None:
    scheduler = Scheduler(2, 64, min_copy=4)
    memory = Memory(scheduler)
    scheduler.add(Task.of(range(10)))
    step(scheduler, memory)
    scheduler.add(Task.of([*range(8), 99]))
    plan = scheduler.schedule(64)
    assert [(p.slot, p.source, p.n_keep) for p in plan.placements] == [(1, 0, 8)]


def test_a_prefix_that_is_being_read_is_waited_for() -> None:
    scheduler = Scheduler(2, 16, min_copy=4)
    memory = Memory(scheduler)
    long, alike = Task.of(range(40)), Task.of([*range(30), 99])
    scheduler.add(long)
    scheduler.add(alike)
    n_evaluated = 0
    while not alike.is_prompt_done:
        n_evaluated += sum(chunk.stop - chunk.start for chunk in step(scheduler, memory))
        if long.is_prompt_done and long.n_pending == 0:
            long.tokens.append(7)
    assert alike.n_cached == 30
    assert n_evaluated <= 40 + 1 + 2


def test_a_long_prompt_does_not_hold_up_a_short_one() -> None:
    scheduler = Scheduler(2, 16)
    memory = Memory(scheduler)
    long, short = Task.of(range(1000)), Task.of(range(2000, 2006))
    scheduler.add(long)
    scheduler.add(short)
    step(scheduler, memory)
    assert short.is_prompt_done and not long.is_prompt_done


def test_no_step_of_a_long_prompt_leaves_an_answer_out() -> None:
    """Between two tokens of an answer there is one step, whatever arrives, and it is a part."""
    scheduler = Scheduler(4, 512)
    memory = Memory(scheduler)
    answering = [Task.of([1, n]) for n in range(3)]
    for task in answering:
        scheduler.add(task)
    step(scheduler, memory)
    scheduler.add(long := Task.of(range(3000)))
    n_steps = 0
    while long.slot is None or long.n_pending:
        for task in answering:
            task.tokens.append(7)
        chunks = step(scheduler, memory)
        n_steps += 1
        assert {chunk.task for chunk in chunks} == {*answering, long}
        assert sum(chunk.stop - chunk.start for chunk in chunks) <= 512
    assert n_steps == 6


def test_the_budget_is_used_up_and_shared_evenly() -> None:
    scheduler = Scheduler(4, 33)
    memory = Memory(scheduler)
    answering = Task.of([5])
    scheduler.add(answering)
    step(scheduler, memory)
    answering.tokens.append(6)
    for start in (1000, 2000, 3000):
        scheduler.add(Task.of(range(start, start + 100)))
    sizes = [chunk.stop - chunk.start for chunk in step(scheduler, memory)]
    assert len(sizes) == 4 and sum(sizes) == 33
    assert sizes[0] == 1 and max(sizes[1:]) - min(sizes[1:]) <= 1


def test_the_slot_used_longest_ago_is_overwritten() -> None:
    scheduler = Scheduler(2, 64)
    memory = Memory(scheduler)
    for start in (100, 200):
        task = Task.of(range(start, start + 10))
        scheduler.add(task)
        step(scheduler, memory)
        scheduler.remove(task)
    again, other = Task.of(range(100, 110)), Task.of(range(300, 310))
    scheduler.add(again)
    step(scheduler, memory)
    scheduler.remove(again)
    scheduler.add(other)
    assert scheduler.schedule(64).placements[0].slot == 1


@pytest.mark.parametrize("reuse", [True, False])
def test_reuse_can_be_switched_off(reuse: bool) -> None:
    scheduler = Scheduler(1, 64, reuse=reuse)
    memory = Memory(scheduler)
    for _ in range(2):
        task = Task.of(range(10))
        scheduler.add(task)
        step(scheduler, memory)
        scheduler.remove(task)
    assert (task.n_cached > 0) == reuse
