"""Which files a conversion read: names, sizes and, where they cost nothing to know, digests.

Hashing 13 GB takes as long as quantizing them to Q8_0. So a large file has a digest only where it
lies in the cache of huggingface_hub, which names it by its SHA-256; small files are hashed.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from komt_convert.report import SourceFile

SMALL = 32 << 20
_SUFFIXES = (".safetensors", ".bin", ".pth", ".json", ".model", ".jinja")


def source_files(source: Path) -> tuple[SourceFile, ...]:
    """The files of a checkpoint folder that say something, or the one file that a source is."""
    if source.is_dir():
        paths = sorted(path for path in source.iterdir() if path.suffix in _SUFFIXES)
    else:
        paths = [source]
    return tuple(
        SourceFile(path.name, path.stat().st_size, _digest(path))
        for path in paths
        if path.is_file()
    )


def _digest(path: Path) -> str | None:
    if path.stat().st_size <= SMALL:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    stored = path.resolve()
    is_named = stored.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", stored.name)
    return stored.name if is_named else None
