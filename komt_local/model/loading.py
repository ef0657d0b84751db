"""Whether a model can be loaded as asked, and with how much context; decided before it is taken."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .. import hardware, offload
from .options import Loading
from .sizes import size_of

if TYPE_CHECKING:
    from ..engine import Engine
    from ..llama import NativeModel
    from ..offload import Plan, Share


class Note(NamedTuple):
    """Something worth telling the user that is no error, in English and in Korean."""

    en: str
    ko: str


class Started(NamedTuple):
    """A model in memory, an engine on it, and how that was planned."""

    native: NativeModel
    engine: Engine
    plan: Plan


def plan(path: Path, wanted: Loading) -> Plan:
    """How a file would be loaded. Raises InvalidModel, and OutOfMemory with what would fit."""
    from .. import llama

    size = size_of(llama.check(path))
    return offload.plan(
        size,
        _demand(wanted),
        llama.gpus(),
        hardware.available_memory(),
        n_ctx=wanted.n_ctx,
        layers=wanted.gpu_layers,
    )


def start(path: Path, wanted: Loading) -> Started:
    """Have the file in memory and an engine on it, as planned.

    Raises InvalidModel, EngineError and OutOfMemory; nothing stays in memory then.
    """
    from .. import llama
    from ..engine import Engine

    planned = plan(path, wanted)
    native = llama.load(path, n_gpu_layers=planned.n_gpu_layers)
    try:
        context = llama.Context(
            native,
            n_ctx=planned.n_ctx,
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
    return Started(native, engine, planned)


def notes_of(plan: Plan, n_ctx_train: int) -> tuple[Note, ...]:
    """What is worth telling of a plan."""
    notes = []
    if n_ctx_train and plan.n_ctx > n_ctx_train:
        notes.append(_beyond_training(n_ctx_train))
    if plan.n_ctx < plan.wanted_ctx:
        notes.append(_shrunk(plan.n_ctx, plan.wanted_ctx))
    if len(plan.shares) > 1 and not plan.is_whole:
        notes += _partly(plan)
    return tuple(notes)


def _demand(loading: Loading) -> hardware.Demand:
    n_outputs = loading.n_slots * loading.n_outputs
    return hardware.Demand(loading.n_slots, loading.n_batch, n_outputs, loading.value_bytes)


def _beyond_training(trained: int) -> Note:
    return Note(
        f"The model was trained on {trained:,} tokens; beyond that its answers get worse.",
        f"{trained:,}토큰까지 학습한 모델입니다. 그보다 길어지면 답의 질이 떨어집니다.",
    )


def _shrunk(fits: int, wanted: int) -> Note:
    return Note(
        f"The context is {fits:,} tokens instead of {wanted:,}, as memory is short.",
        f"메모리가 모자라 컨텍스트를 {wanted:,} 대신 {fits:,}토큰으로 잡았습니다.",
    )


def _partly(plan: Plan) -> list[Note]:
    better = [(f"-c {n}", f"-c {n}") for n in (plan.smaller_context,) if n]
    better += [(f"the model as {t}", f"{t} 모델") for t in (plan.smaller_type,) if t]
    en, ko = (" or ".join(b[0] for b in better), "이나 ".join(b[1] for b in better))
    return [
        Note(
            f"{plan.n_gpu_layers} of {plan.n_layers} layers are on the GPU"
            + (f"; with {en} all would be." if better else "."),
            f"{plan.n_layers}층 중 {plan.n_gpu_layers}층이 GPU에 있습니다."
            + (f" {ko}(이)라면 모두 올라갑니다." if better else ""),
        )
    ]


def describe(plan: Plan) -> list[Note]:
    """The plan in lines: what lies where, and how much of what is free there."""
    return [_describe(share, plan) for share in (*plan.shares[1:], plan.machine)]


def _describe(share: Share, plan: Plan) -> Note:
    gb = hardware.gigabytes
    where = ("machine", "시스템 메모리")
    if share.device:
        where = (f"{share.device.name} ({share.device.description})",) * 2
    sizes = (gb(share.weights), gb(share.kv_cache), gb(share.compute), gb(share.free))
    return Note(
        "{}: {}/{} layers; model {}, KV cache {} ({:,} tokens), buffers {}; {} free".format(
            where[0], share.n_layers, plan.n_layers, *sizes[:2], plan.n_ctx, *sizes[2:]
        ),
        "{}: {}/{}층, 모델 {}, KV 캐시 {}({:,}토큰), 버퍼 {}, 빈 메모리 {}".format(
            where[1], share.n_layers, plan.n_layers, *sizes[:2], plan.n_ctx, *sizes[2:]
        ),
    )
