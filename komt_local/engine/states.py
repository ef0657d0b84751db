"""A slot's memory as a file, and back. Runs in the worker, between two steps."""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Sequence
from pathlib import Path

from ..scheduler import Scheduler
from .steps import Backend


def save(
    backend: Backend,
    scheduler: Scheduler,
    tokens: Sequence[int],
    path: Path,
    adapters: Hashable,
    limit: int,
) -> int:
    slot, n_shared = scheduler.holder(array("i", tokens), adapters)
    if not n_shared or backend.state_bytes(slot.index) > limit:
        return 0
    return n_shared if backend.save(slot.index, path, slot.tokens) else 0


def load(backend: Backend, scheduler: Scheduler, path: Path, adapters: Hashable) -> list[int]:
    slot = scheduler.least_used()
    if slot is None:
        return []
    slot.tokens, slot.adapters = array("i"), adapters
    tokens = backend.load(slot.index, path)
    if tokens is not None:
        slot.tokens = tokens
    return slot.tokens.tolist()
