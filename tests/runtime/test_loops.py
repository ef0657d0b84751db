"""The loop guard: certain of loops of any length, silent about what only resembles one."""

from __future__ import annotations

from itertools import cycle, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from komt_local.loops import MIN_COPIES, MIN_TOKENS, LoopGuard


def noticed_at(tokens: list[int]) -> int | None:
    """After how many tokens the guard says that it is a loop."""
    guard = LoopGuard()
    return next((n for n, token in enumerate(tokens, 1) if guard.feed(token)), None)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=80), st.lists(st.integers(6, 9)))
def test_a_loop_is_noticed_when_it_is_long_enough(stretch: list[int], before: list[int]) -> None:
    tokens = before + list(islice(cycle(stretch), MIN_COPIES * 80 + MIN_TOKENS))
    found = noticed_at(tokens)
    assert found is not None
    in_loop = found - len(before)
    assert MIN_TOKENS <= in_loop <= max(MIN_TOKENS, MIN_COPIES * len(stretch))


@given(st.lists(st.integers(0, 3), max_size=600))
def test_what_is_said_is_true(tokens: list[int]) -> None:
    """The plainest definition: some stretch stands often enough at the very end."""
    found = noticed_at(tokens)
    for n in range(1, len(tokens) + 1):
        is_loop = any(
            length >= MIN_TOKENS
            for length in (n - start(tokens[:n], d) for d in range(1, n // MIN_COPIES + 1))
            if length >= MIN_TOKENS
        )
        assert not is_loop or (found is not None and found <= n)
        if found == n:
            assert is_loop
            return


def start(tokens: list[int], distance: int) -> int:
    """Where the longest end begins in which every token is like the one `distance` before."""
    first = len(tokens)
    while first > distance and tokens[first - 1] == tokens[first - 1 - distance]:
        first -= 1
    length = len(tokens) - first + distance
    return len(tokens) - length if length >= MIN_COPIES * distance else len(tokens)


@pytest.mark.parametrize(
    "tokens",
    [
        [7] * (MIN_TOKENS - 1),
        [1, 2, 3, 4] * (MIN_TOKENS // 4 - 1),
        [n for row in range(300) for n in (1, 2, 3, row)],
        list(range(40)) * (MIN_COPIES - 1),
        list(range(1000)),
    ],
)
def test_what_only_resembles_a_loop_is_let_pass(tokens: list[int]) -> None:
    assert noticed_at(tokens) is None
