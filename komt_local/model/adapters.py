"""LoRA adapters of a loaded model: read once, chosen anew as often as one likes."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError

if TYPE_CHECKING:
    from ..engine import Engine
    from ..llama import Adapter, NativeModel

AdapterSource = str | PathLike[str] | tuple[str | PathLike[str], float]
"""A path of a GGUF adapter or of a folder that PEFT saved, or such a path and a scale."""


class Adapters:
    """Those that are read, and those that the next request is to have. For many threads."""

    def __init__(self, native: NativeModel, engine: Engine) -> None:
        self._native, self._engine = native, engine
        self._lock = threading.Lock()
        self._known: dict[tuple[Path, int, int], Adapter] = {}
        self._sources: dict[Adapter, Path] = {}
        self.current: tuple[tuple[Adapter, float], ...] = ()

    @property
    def named(self) -> tuple[tuple[Path, float], ...]:
        return tuple((self._sources[adapter], scale) for adapter, scale in self.current)

    @property
    def key(self) -> list[tuple[str, float]]:
        """What the current ones are, wherever they lie: digests and scales."""
        from .. import library

        return [(library.fingerprint(adapter.path), scale) for adapter, scale in self.current]

    def set(self, sources: Sequence[AdapterSource]) -> None:
        wanted: dict[Path, float] = {}
        for source in sources:
            path, scale = _read_source(source)
            wanted[path] = wanted.get(path, 0.0) + scale
        with self._lock:
            found = [(self._find(path), scale) for path, scale in sorted(wanted.items())]
            self.current = tuple(pair for pair in found if pair[1])

    def _find(self, source: Path) -> Adapter:
        """By the worker, as llama.cpp keeps adapters in a list that an evaluation looks at."""
        from .. import library, llama

        path = library.adapter_file(source)
        status = path.stat()
        key = (source, status.st_size, status.st_mtime_ns)
        if key not in self._known:
            self._known[key] = self._engine.call(lambda: llama.load_adapter(self._native, path))
            self._sources[self._known[key]] = source
        return self._known[key]


def _read_source(source: Any) -> tuple[Path, float]:
    path, scale = source if isinstance(source, tuple) and len(source) == 2 else (source, 1.0)
    is_number = isinstance(scale, int | float) and not isinstance(scale, bool)
    if not isinstance(path, str | PathLike) or not is_number or not math.isfinite(scale):
        raise UsageError(
            f"{source!r} is no adapter; give a path, or a path and a scale.",
            f"{source!r}은(는) 어댑터가 아닙니다. 경로, 또는 경로와 배율을 주세요.",
        )
    return Path(path).absolute(), float(scale)
