"""Held under load: nothing is lost, nothing is mixed up, and memory stays flat."""

from __future__ import annotations

import gc
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from runtime_models import write_random
from soak import Alone, Tally, answers_alone, beside_others, soak, write_model


@pytest.fixture(scope="module")
def circles_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("circles") / "model.gguf")


@pytest.mark.parametrize("options", [{"n_slots": 3}, {"n_slots": 2, "draft": 6}, {"n_slots": 1}])
def test_threads_that_submit_cancel_overflow_and_stop(
    circles_gguf: Path, options: dict[str, int]
) -> None:
    tally = soak(circles_gguf, rounds=12, **options)
    assert not tally.wrong
    expected = {"length", "stop", "context", "cancelled", "left", "overflow", "score"}
    assert {"length", "left", "cancelled"} <= tally.ended.keys() <= expected
    assert tally.ended.total() == 96


@pytest.fixture(scope="module")
def weights_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random(tmp_path_factory.mktemp("weights") / "model.gguf", seed=3)


@pytest.fixture(scope="module")
def alone(weights_gguf: Path) -> list[Alone]:
    return answers_alone(weights_gguf)


@pytest.mark.slow
def test_half_an_hour(circles_gguf: Path, weights_gguf: Path, alone: list[Alone]) -> None:
    import psutil

    sizes, told = [], Tally()
    for part in range(30):
        options = {"n_slots": 3, "draft": 6 * (part % 2)}
        tally = soak(circles_gguf, seconds=40, **options)
        tally += soak(weights_gguf, seconds=20, act=beside_others(alone), **options)
        assert not tally.wrong
        gc.collect()
        sizes.append(psutil.Process().memory_info().rss)
        told += tally
    sizes = [size >> 20 for size in sizes]
    sys.stdout.write(f"{dict(told.ended)}; MiB by the minute: {sizes}\n")
    assert max(sizes[10:]) - sizes[9] < 30, sizes


@pytest.mark.parametrize("options", [{"n_slots": 4, "draft": 6}, {"n_slots": 3}])
def test_answers_at_once_are_those_alone_or_differ_where_two_tokens_are_as_good(
    weights_gguf: Path, alone: list[Alone], options: dict[str, int]
) -> None:
    tally = soak(weights_gguf, rounds=6, act=beside_others(alone), **options)
    assert not tally.wrong and tally.ended.total() == 48
    assert tally.ended["near"] < tally.ended["same"], dict(tally.ended)


def test_deterministic_answers_are_equal_token_for_token(
    weights_gguf: Path, alone: list[Alone]
) -> None:
    act = beside_others(alone, near=0)
    tally = soak(weights_gguf, rounds=3, act=act, deterministic=True)
    assert dict(tally.ended) == {"same": 24} and not tally.wrong


def test_an_answer_that_is_another_one_is_seen(weights_gguf: Path, alone: list[Alone]) -> None:
    swapped = [replace(one, prompt=other.prompt) for one, other in pairwise(alone)]
    assert soak(weights_gguf, rounds=1, act=beside_others(swapped), n_slots=2).wrong
