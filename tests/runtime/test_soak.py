"""Held under load: nothing is lost, nothing is mixed up, and memory stays flat."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from runtime_models import write_random
from soak import soak, write_model

from komt_local import Model

NEAR = 0.1
"""Logits that lie as close may change places in a batch of another size."""


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


@pytest.mark.slow
def test_half_an_hour(circles_gguf: Path) -> None:
    import psutil

    sizes = []
    for part in range(30):
        tally = soak(circles_gguf, seconds=60, n_slots=3, draft=6 * (part % 2))
        assert not tally.wrong
        gc.collect()
        sizes.append(psutil.Process().memory_info().rss)
    assert max(sizes[10:]) - sizes[9] < 30 << 20, sizes


def test_answers_at_once_are_those_alone_or_differ_where_two_tokens_are_as_good(
    tmp_path: Path,
) -> None:
    path = write_random(tmp_path / "model.gguf", seed=3)
    prompts = [f"{n} 옛날 옛적에 어느 마을에 {n * 7} 나무꾼이" for n in range(12)]
    with Model.load(path, n_ctx=256, threads=1, deterministic=True) as model:
        alone = [_tokens(model, prompt) for prompt in prompts]
        assert [_tokens(model, prompt) for prompt in prompts[:3]] == alone[:3]
    with Model.load(path, n_ctx=256, threads=1, n_slots=4, draft=6) as model:
        streams = [_stream(model, prompt) for prompt in prompts]
        together = [list(stream) for stream in streams]
        differing = [n for n, said in enumerate(together) if said != alone[n]]
        for n in differing:
            _assert_near(model, prompts[n], alone[n], together[n])
    assert len(differing) < len(prompts) // 2


def _stream(model: Model, prompt: str) -> Sequence[int]:
    return model._engine.submit([1, *model.tokenize(prompt)], _greedy(), max_tokens=40)  # type: ignore[return-value]


def _tokens(model: Model, prompt: str) -> list[int]:
    return list(_stream(model, prompt))


def _greedy() -> object:
    from komt_local import Sampling

    return Sampling(temperature=0)


def _assert_near(model: Model, prompt: str, one: list[int], other: list[int]) -> None:
    """Where they part, both tokens are about as likely."""
    at = next(n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    given = [1, *model.tokenize(prompt), *one[:at]]
    scores = []
    for token in (one[at], other[at]):
        request = model._engine.score([*given, token], len(given))
        list(request)
        scores.append(request.scores[0].log_likelihood)
    np.testing.assert_allclose(*scores, atol=NEAR)
