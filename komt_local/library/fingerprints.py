"""The SHA-256 of a model file, without reading gigabytes again each time it is asked for.

What is recorded of a pulled or converted model counts while its size and time are those of the
record, then the name that the Hugging Face cache gives a blob; else the file is read once, and the
digest is kept under its path, size and time.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from . import cache, records
from .digests import OnBytes, digest_of

_KEPT = 200


def fingerprint(path: Path, on_bytes: OnBytes | None = None) -> str:
    """The digest in hexadecimal. Raises InvalidModel when the file cannot be read."""
    path = path.absolute()
    if known := known_fingerprint(path):
        return known
    key = _key(path)
    digest = digest_of(path, on_bytes)
    _write(_read() | {key: digest})
    return digest


def known_fingerprint(path: Path) -> str:
    """The digest if it is known without reading the file; else empty."""
    path = path.absolute()
    return _recorded(path) or cache.sha256_by_name(path) or _read().get(_key(path), "")


def _recorded(path: Path) -> str:
    record = records.load().records.get(str(path))
    status = path.stat()
    if record and (record.size, record.mtime_ns) == (status.st_size, status.st_mtime_ns):
        return record.sha256
    return ""


def _key(path: Path) -> str:
    status = path.stat()
    return f"{path}|{status.st_size}|{status.st_mtime_ns}"


def _file() -> Path:
    return records.data_folder() / "digests.json"


def _read() -> dict[str, str]:
    try:
        value = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _write(known: dict[str, str]) -> None:
    """Losing this file, or one of two writers' lines, costs no more than reading a model again."""
    target = _file()
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(dict(list(known.items())[-_KEPT:])), encoding="utf-8")
        os.replace(partial, target)
    except OSError:
        with suppress(OSError):
            partial.unlink()
