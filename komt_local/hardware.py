"""What this machine has, and what a model needs of it, so that too much is refused beforehand.

The arithmetic is pure functions over numbers of bytes; `available_memory` and `physical_cores`
measure. It knows nothing of llama.cpp, and loads nothing but psutil.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import OutOfMemory

DEFAULT_CONTEXT = 8192
"""Tokens, where the model was trained on that many and the memory holds them."""
_CELL_PADDING = 256  # llama.cpp rounds a context up to whole blocks of cells
RESERVE = 64 << 20  # the interpreter, the tokenizer, scratch of other parts


@dataclass(frozen=True, slots=True)
class Shape:
    """What the size of a context depends on; `kv_row` is n_head_kv x head size, for K and V."""

    n_layer: int
    kv_row: int
    n_embd: int
    n_ff: int
    n_vocab: int


@dataclass(frozen=True, slots=True)
class Demand:
    """What a context is to hold besides its length.

    `n_outputs` logits of a batch, `value_bytes` for each key and value.
    """

    n_slots: int = 1
    n_batch: int = 512
    n_outputs: int = 1
    value_bytes: float = 2.0


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that a loaded model takes: its weights, its KV cache, its compute buffers."""

    weights: int
    kv_cache: int
    compute: int

    @property
    def total(self) -> int:
        return self.weights + self.kv_cache + self.compute + RESERVE


def kv_cache_bytes(shape: Shape, n_ctx: int, demand: Demand) -> int:
    """Keys and values of every layer for `n_slots` times `n_ctx` tokens."""
    n_cells = -(-n_ctx // _CELL_PADDING) * _CELL_PADDING
    n_values = shape.n_layer * shape.kv_row * n_cells * demand.n_slots
    return int(n_values * demand.value_bytes)


def compute_bytes(shape: Shape, n_ctx: int, demand: Demand) -> int:
    """About what llama.cpp's compute buffers take, with flash attention.

    The activations of the widest layer, the attention mask (f16), and the logits.
    Within 2 % of what llama.cpp reports for a Llama of 134 M from 2,048 to 32,768 tokens.
    """
    activations = 4 * demand.n_batch * (4 * shape.n_embd + 3 * shape.n_ff)
    mask = 2 * demand.n_batch * n_ctx
    logits = 2 * 4 * demand.n_outputs * shape.n_vocab
    return activations + mask + logits


def input_bytes(shape: Shape, demand: Demand) -> int:
    """About what the machine's buffers take where every layer is on a GPU: input and logits."""
    return 4 * demand.n_batch * shape.n_embd + 4 * demand.n_outputs * shape.n_vocab


def need(shape: Shape, weights: int, n_ctx: int, demand: Demand) -> Need:
    """What a model with this context takes, in bytes."""
    cache = kv_cache_bytes(shape, n_ctx, demand)
    return Need(weights, cache, compute_bytes(shape, n_ctx, demand))


def largest_context(shape: Shape, weights: int, limit: int, demand: Demand, available: int) -> int:
    """The largest context up to `limit` that fits, in steps of 256 tokens; 0 if none does."""
    low, high = 0, -(-limit // _CELL_PADDING)
    while low < high:
        middle = (low + high + 1) // 2
        asked = need(shape, weights, middle * _CELL_PADDING, demand)
        low, high = (middle, high) if asked.total <= available else (low, middle - 1)
    return min(low * _CELL_PADDING, limit)


def too_large(n_ctx: int, n_slots: int, asked: Need, available: int, fits: int) -> OutOfMemory:
    """The refusal of a context that the memory does not hold; `fits` tokens would."""
    remedy_en, remedy_ko = _remedy(fits)
    slots_en, slots_ko = (f" x {n_slots}", f" x {n_slots}개") if n_slots > 1 else ("", "")
    return OutOfMemory(
        f"A context of {n_ctx:,} tokens{slots_en} needs about {gigabytes(asked.total)} "
        f"({gigabytes(asked.weights)} model, {gigabytes(asked.kv_cache)} KV cache, "
        f"{gigabytes(asked.compute)} buffers) and {gigabytes(available)} are available; "
        + remedy_en,
        f"컨텍스트 {n_ctx:,}토큰{slots_ko}에는 약 {gigabytes(asked.total)}"
        f"(모델 {gigabytes(asked.weights)}, KV 캐시 {gigabytes(asked.kv_cache)}, "
        f"버퍼 {gigabytes(asked.compute)})가 필요한데 쓸 수 있는 메모리는 "
        f"{gigabytes(available)}입니다. " + remedy_ko,
    )


def _remedy(fits: int) -> tuple[str, str]:
    if fits:
        return (
            f"give a context of at most {fits:,} tokens with -c/--ctx-size (n_ctx).",
            f"-c/--ctx-size(n_ctx)를 {fits:,} 이하로 주세요.",
        )
    return (
        "free some memory, or take a smaller model or quantization type.",
        "메모리를 비우거나 더 작은 모델이나 양자화 유형을 쓰세요.",
    )


def gigabytes(n_bytes: int) -> str:
    """A number of bytes for people: `4.1 GB`, `850 MB`."""
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:,.0f} MB"


def physical_cores() -> int:
    """Cores to compute on: no hyperthreads, nor what this process may not use."""
    import psutil

    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = min(cores, len(os.sched_getaffinity(0)))
    return max(1, min(cores, cgroup_cores() or cores))


def available_memory() -> int:
    """Bytes that this process can still take, within the limits of its control groups."""
    import psutil

    return min([int(psutil.virtual_memory().available), *cgroup_room()])


def cgroup_cores(root: Path = Path("/")) -> int | None:
    """Cores that a container's quota amounts to, rounded up; threads beyond it stand in line."""
    for mount, controller, path in _cgroups(root):
        if controller == "":
            for folder in _ancestors(mount, path):
                quota, period = (_read(folder / "cpu.max") or "max 1").split()
                if quota != "max":
                    return -(-int(quota) // int(period))
    return None


def cgroup_room(root: Path = Path("/")) -> list[int]:
    """Bytes that each control group above this process leaves it; empty where there are none."""
    rooms: list[int | None] = []
    for mount, controller, path in _cgroups(root):
        for folder in _ancestors(mount, path):
            if controller == "":
                rooms.append(_room(folder, "memory.max", "memory.current", "inactive_file"))
            elif controller == "memory":
                names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
                rooms.append(_room(folder, *names))
    return [room for room in rooms if room is not None]


def _cgroups(root: Path) -> Iterator[tuple[Path, str, str]]:
    """Mount point, controller ("" for version 2) and path of each group this process is in."""
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            yield root / "sys/fs/cgroup" / controller, controller, path


def _ancestors(mount: Path, path: str) -> list[Path]:
    """From the process's group up to the mount point, which in a container is its own group."""
    group = mount / path.strip("/")
    groups = [group, *group.parents]
    return groups[: groups.index(mount) + 1]


def _room(group: Path, limit: str, usage: str, reclaimable: str) -> int | None:
    """What a group may still take; page cache that it could let go of is not taken."""
    allowed, used = _read(group / limit), _read(group / usage)
    if allowed is None or used is None or allowed == "max":
        return None
    fields = dict(line.split() for line in (_read(group / "memory.stat") or "").splitlines())
    return max(0, int(allowed) - int(used) + int(fields.get(reclaimable, 0)))


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
