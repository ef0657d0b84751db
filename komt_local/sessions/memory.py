"""What llama.cpp holds of a dialogue, as a file: bound to a model and its settings, and checked.

Beside the file lies what it belongs to and its SHA-256. llama.cpp takes a state's word for what is
in it, so one that is not whole never reaches it. All such files together stay within a quota; the
oldest ones go first.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

DEFAULT_QUOTA = 4 << 30
_ABANDONED_SECONDS = 3600


class Remembering(Protocol):
    """What has a memory that can be saved; `komt_local.Model` is one."""

    @property
    def memory_key(self) -> Mapping[str, Any]: ...
    def save_memory(
        self, tokens: list[int], path: Path, *, limit: int
    ) -> tuple[int, ...] | None: ...
    def load_memory(self, path: Path, unshown: tuple[int, ...]) -> int: ...


def save(model: Remembering, tokens: list[int], path: Path, quota: int = DEFAULT_QUOTA) -> bool:
    """Write what the model holds of these tokens; False where it holds nothing, or too much.

    The file appears whole, and what describes it only after it.
    """
    limit = min(quota, shutil.disk_usage(path.parent).free * 9 // 10)
    partial = path.with_suffix(".kv.part")
    try:
        unshown = model.save_memory(tokens, partial, limit=limit)
        if unshown is None:
            return False
        about = {"sha256": _sha256(partial), "key": dict(model.memory_key), "unshown": unshown}
        _about(path).unlink(missing_ok=True)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    _write(_about(path), json.dumps(about, ensure_ascii=False))
    _keep_within(quota, path)
    return True


def load(model: Remembering, path: Path) -> int | None:
    """How many tokens the model took from the file; None without a file, 0 if it did not fit."""
    if not path.is_file():
        return None
    try:
        about = json.loads(_about(path).read_text(encoding="utf-8"))
        fits = about["key"] == json.loads(json.dumps(dict(model.memory_key)))
        if fits and about["sha256"] == _sha256(path):
            return model.load_memory(path, tuple(map(int, about["unshown"])))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return 0


def drop(path: Path) -> None:
    for file in (path, _about(path)):
        file.unlink(missing_ok=True)


def _about(path: Path) -> Path:
    return path.with_suffix(".kv.json")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".part")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def _keep_within(quota: int, newest: Path) -> None:
    """Remove the oldest files, but never the one that was just written; and what kills left."""
    for path in newest.parent.glob("*.part"):
        if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
            path.unlink(missing_ok=True)
    found = sorted(newest.parent.glob("*.kv"), key=lambda path: path.stat().st_mtime_ns)
    total = sum(path.stat().st_size for path in found)
    for path in found:
        if total > quota and path != newest:
            total -= path.stat().st_size
            drop(path)
