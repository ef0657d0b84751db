"""Whether a model can be loaded as asked, and with how much context; decided before it is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from .. import hardware
from ..errors import UsageError

if TYPE_CHECKING:
    from ..llama import NativeModel

MAX_SLOTS = 256  # llama_max_parallel_sequences()
BATCH = 512
"""Tokens evaluated at once, as llama.cpp's own default: more is not faster, and takes memory."""


class Note(NamedTuple):
    """Something worth telling the user that is no error, in English and in Korean."""

    en: str
    ko: str


def check_request(
    n_ctx: int | None,
    gpu_layers: int | Literal["auto", "all"],
    threads: int | None,
    n_slots: int,
    deterministic: bool,
) -> None:
    """Raises UsageError for what cannot be right, whatever the model."""
    for name, value in (("n_ctx", n_ctx), ("threads", threads), ("n_slots", n_slots)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise UsageError(
                f"{name} is {value!r}; give a whole number of at least 1.",
                f"{name} 값이 {value!r}입니다. 1 이상의 정수를 주세요.",
            )
    if n_slots > MAX_SLOTS:
        raise UsageError(
            f"n_slots is {n_slots}; llama.cpp runs at most {MAX_SLOTS} sequences at once.",
            f"n_slots 값이 {n_slots}입니다. llama.cpp는 최대 {MAX_SLOTS}개까지 동시에 처리합니다.",
        )
    if deterministic and n_slots > 1:
        raise UsageError(
            "deterministic=True runs one request at a time; leave n_slots at 1.",
            "deterministic=True는 요청을 하나씩만 처리합니다. n_slots를 1로 두세요.",
        )
    if gpu_layers not in ("auto", "all") and not (isinstance(gpu_layers, int) and gpu_layers >= 0):
        raise UsageError(
            f"gpu_layers is {gpu_layers!r}; give 'auto', 'all' or a number of layers.",
            f"gpu_layers 값이 {gpu_layers!r}입니다. 'auto', 'all' 또는 층 수를 주세요.",
        )


def fit_context(
    native: NativeModel, n_ctx: int | None, n_slots: int, available: int
) -> tuple[int, tuple[Note, ...]]:
    """The context to take, and what to tell about it. Raises OutOfMemory with what would fit.

    Without a wish: what the model was trained on, up to `hardware.DEFAULT_CONTEXT` and to what
    fits. A larger one than trained is granted, with a note.
    """
    shape = _shape(native)
    trained = native.n_ctx_train or hardware.DEFAULT_CONTEXT
    wanted = n_ctx or min(trained, hardware.DEFAULT_CONTEXT)
    fits = hardware.largest_context(shape, native.size, wanted, n_slots, BATCH, available)
    if fits >= wanted:
        return wanted, _beyond_training(wanted, trained)
    if n_ctx is None and fits:
        return fits, (_shrunk(fits, wanted),)
    needed = hardware.need(shape, native.size, wanted, n_slots, BATCH)
    raise hardware.too_large(wanted, n_slots, needed, available, fits)


def _shape(native: NativeModel) -> hardware.Shape:
    def of_architecture(key: str, default: int) -> int:
        value = native.metadata.get(f"{native.metadata.get('general.architecture')}.{key}", "")
        return int(value) if value.isdigit() else default

    n_layer, n_embd, n_head, n_head_kv = native.dimensions
    head = n_embd // max(n_head, 1)
    keys = of_architecture("attention.key_length", head)
    values = of_architecture("attention.value_length", head)
    n_ff = of_architecture("feed_forward_length", 4 * n_embd)
    return hardware.Shape(n_layer, n_head_kv * (keys + values), n_embd, n_ff, native.n_vocab)


def _beyond_training(wanted: int, trained: int) -> tuple[Note, ...]:
    if wanted <= trained:
        return ()
    note = Note(
        f"The model was trained on {trained:,} tokens; beyond that its answers get worse.",
        f"{trained:,}토큰까지 학습한 모델입니다. 그보다 길어지면 답의 질이 떨어집니다.",
    )
    return (note,)


def _shrunk(fits: int, wanted: int) -> Note:
    return Note(
        f"The context is {fits:,} tokens instead of {wanted:,}, as memory is short.",
        f"메모리가 모자라 컨텍스트를 {wanted:,} 대신 {fits:,}토큰으로 잡았습니다.",
    )
