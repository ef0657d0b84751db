"""How a model is loaded, as its caller wishes it; checked before anything is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from ..errors import UsageError

MAX_SLOTS = 256  # llama_max_parallel_sequences()
BATCH = 512
"""Tokens evaluated at once, as llama.cpp's own default: more is not faster, and takes memory."""
MAX_DRAFT = 64
_SCORED_AT_ONCE = 32


CACHE_TYPES: Mapping[str, float] = {
    "f32": 4.0,
    "f16": 2.0,
    "bf16": 2.0,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
    "iq4_nl": 18 / 32,
}
"""Types that keys and values may be kept in, and the bytes that a value takes."""


@dataclass(frozen=True, slots=True)
class Loading:
    """How a model is loaded.

    `n_ctx` is what each of the `n_slots` requests that run at once may use, in tokens; None takes
    what the model was trained on, at most 8,192, and less where memory is short. `gpu_layers`
    counts nothing on a build without a GPU. `threads` None takes the physical cores.
    `deterministic` gives the same request the same answer to the last bit, at the price of reading
    every prompt from its start. `draft` is how many tokens may be guessed at a time from what the
    prompt and the answer say already: 0 for none; answers that quote come faster with 16.
    `cache_type_k` and `cache_type_v` are what keys and values are kept in: `q8_0` takes half the
    memory of `f16`, and on a CPU more time.
    """

    n_ctx: int | None = None
    gpu_layers: int | Literal["auto", "all"] = "auto"
    threads: int | None = None
    n_slots: int = 1
    deterministic: bool = False
    draft: int = 0
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"

    @property
    def n_outputs(self) -> int:
        """Logits that one step may give for each slot: for guesses, and for scoring texts."""
        return max(1 + self.draft, _SCORED_AT_ONCE // self.n_slots, 1)

    @property
    def n_batch(self) -> int:
        return max(BATCH, 2 * self.n_slots * (1 + self.draft))

    @property
    def value_bytes(self) -> float:
        return (CACHE_TYPES[self.cache_type_k] + CACHE_TYPES[self.cache_type_v]) / 2


def read_loading(given: Mapping[str, Any]) -> Loading:
    """The settings that a caller's keywords ask for. Raises UsageError for what cannot be right."""
    known = [field.name for field in fields(Loading)]
    for name in given:
        if name not in known:
            raise UsageError(
                f"There is no option {name!r}; a model is loaded with {', '.join(known)}.",
                f"{name!r} 옵션은 없습니다. 모델을 여는 옵션: {', '.join(known)}",
            )
    wanted = Loading(**given)
    _check_counts(wanted)
    _check_kinds(wanted)
    return wanted


def _check_counts(wanted: Loading) -> None:
    counts: dict[str, tuple[Any, int]] = {
        "n_ctx": (wanted.n_ctx, 1),
        "threads": (wanted.threads, 1),
        "n_slots": (wanted.n_slots, 1),
        "draft": (wanted.draft, 0),
    }
    for name, (value, least) in counts.items():
        may_be_none = name in ("n_ctx", "threads") and value is None
        if not may_be_none and (not isinstance(value, int) or value < least):
            raise UsageError(
                f"{name} is {value!r}; give a whole number of at least {least}.",
                f"{name} 값이 {value!r}입니다. {least} 이상의 정수를 주세요.",
            )
    if wanted.n_slots > MAX_SLOTS:
        raise UsageError(
            f"n_slots is {wanted.n_slots}; llama.cpp runs at most {MAX_SLOTS} sequences at once.",
            f"n_slots 값이 {wanted.n_slots}입니다. llama.cpp는 최대 {MAX_SLOTS}개까지 동시에 "
            "처리합니다.",
        )
    if wanted.draft > MAX_DRAFT:
        raise UsageError(
            f"draft is {wanted.draft}; at most {MAX_DRAFT} tokens are guessed at a time.",
            f"draft 값이 {wanted.draft}입니다. 한 번에 최대 {MAX_DRAFT}토큰까지 추측합니다.",
        )


def _check_kinds(wanted: Loading) -> None:
    if wanted.deterministic and (wanted.n_slots > 1 or wanted.draft):
        raise UsageError(
            "deterministic=True runs one request at a time, without guesses; leave n_slots at 1 "
            "and draft at 0.",
            "deterministic=True는 요청을 하나씩, 추측 없이 처리합니다. n_slots는 1, draft는 0으로 "
            "두세요.",
        )
    layers = wanted.gpu_layers
    if layers not in ("auto", "all") and not (isinstance(layers, int) and layers >= 0):
        raise UsageError(
            f"gpu_layers is {layers!r}; give 'auto', 'all' or a number of layers.",
            f"gpu_layers 값이 {layers!r}입니다. 'auto', 'all' 또는 층 수를 주세요.",
        )
    for name in ("cache_type_k", "cache_type_v"):
        if (value := getattr(wanted, name)) not in CACHE_TYPES:
            raise UsageError(
                f"{name} is {value!r}; the types are {', '.join(CACHE_TYPES)}.",
                f"{name} 값이 {value!r}입니다. 가능한 유형: {', '.join(CACHE_TYPES)}",
            )
