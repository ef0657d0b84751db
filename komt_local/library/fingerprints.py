"""The SHA-256 of a model file, without reading gigabytes again each time it is asked for.

What is recorded of a pulled or converted model counts while its size and time are those of the
record; else the file is read once, and the digest is kept under its path, size and time.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from . import records
from .digests import digest_of

_KEPT = 200


def fingerprint(path: Path) -> str:
    """The digest in hexadecimal. Raises InvalidModel when the file cannot be read."""
    path = path.absolute()
    status = path.stat()
    record = records.load().records.get(str(path))
    as_recorded = record and (record.size, record.mtime_ns) == (status.st_size, status.st_mtime_ns)
    if record and as_recorded and record.sha256:
        return record.sha256
    key = f"{path}|{status.st_size}|{status.st_mtime_ns}"
    known = _read()
    if key not in known:
        known[key] = digest_of(path)
        _write(known)
    return known[key]


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
        partial.unlink(missing_ok=True)
