"""Whether a model can be loaded as asked, and with how much context; decided before it is taken."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .. import hardware
from .options import Loading

if TYPE_CHECKING:
    from ..engine import Engine
    from ..llama import NativeModel


class Note(NamedTuple):
    """Something worth telling the user that is no error, in English and in Korean."""

    en: str
    ko: str


def start(path: Path, wanted: Loading) -> tuple[NativeModel, Engine, int, tuple[Note, ...]]:
    """Have the file in memory and an engine on it; the context's size, and what to tell.

    Raises InvalidModel, EngineError and OutOfMemory; nothing stays in memory then.
    """
    from .. import llama
    from ..engine import Engine

    available = hardware.available_memory()
    native = llama.load(path, gpu_layers=wanted.gpu_layers)
    try:
        n_ctx, notes = fit_context(native, wanted, available)
        context = llama.Context(
            native,
            n_ctx=n_ctx,
            n_slots=wanted.n_slots,
            n_batch=wanted.n_batch,
            n_outputs=wanted.n_outputs,
            threads=wanted.threads or hardware.physical_cores(),
            cache_types=(wanted.cache_type_k, wanted.cache_type_v),
        )
    except BaseException:
        native.close()
        raise
    engine = Engine(
        context,
        lambda sampling, prompt: llama.Sampler(native, sampling, prompt),
        deterministic=wanted.deterministic,
        draft=wanted.draft,
        on_end=native.close,
    )
    return native, engine, n_ctx, notes


def fit_context(
    native: NativeModel, loading: Loading, available: int
) -> tuple[int, tuple[Note, ...]]:
    """The context to take, and what to tell about it. Raises OutOfMemory with what would fit.

    Without a wish: what the model was trained on, up to `hardware.DEFAULT_CONTEXT` and to what
    fits. A larger one than trained is granted, with a note.
    """
    shape, demand = _shape(native), _demand(loading)
    trained = native.n_ctx_train or hardware.DEFAULT_CONTEXT
    wanted = loading.n_ctx or min(trained, hardware.DEFAULT_CONTEXT)
    fits = hardware.largest_context(shape, native.size, wanted, demand, available)
    if fits >= wanted:
        return wanted, _beyond_training(wanted, trained)
    if loading.n_ctx is None and fits:
        return fits, (_shrunk(fits, wanted),)
    needed = hardware.need(shape, native.size, wanted, demand)
    raise hardware.too_large(wanted, loading.n_slots, needed, available, fits)


def _demand(loading: Loading) -> hardware.Demand:
    n_outputs = loading.n_slots * loading.n_outputs
    return hardware.Demand(loading.n_slots, loading.n_batch, n_outputs, loading.value_bytes)


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
