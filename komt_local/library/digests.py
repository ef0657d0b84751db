"""SHA-256 of model files: what it should be, and whether it still is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import InvalidModel
from . import cache, records

OnBytes = Callable[[int, int], None]
"""Called with the bytes that are done and all bytes."""

_BLOCK = 1 << 22


@dataclass(frozen=True, slots=True)
class Digest:
    """What a file's SHA-256 is, and what it was when it came; `expected` is empty if unknown."""

    actual: str
    expected: str

    @property
    def ok(self) -> bool | None:
        """Whether they agree; None where nothing is known to compare with."""
        return self.actual == self.expected if self.expected else None


def expected(path: Path) -> str:
    """The recorded SHA-256, or that which the Hugging Face cache names the file by; else empty."""
    record = records.load().records.get(str(path.absolute()))
    return (record.sha256 if record else "") or cache.sha256_by_name(path)


def digest_of(path: Path, on_bytes: OnBytes | None = None) -> str:
    """The SHA-256 of a file, in hexadecimal. Raises InvalidModel when it cannot be read."""
    hasher = hashlib.sha256()
    try:
        with path.open("rb") as file:
            total = path.stat().st_size
            while block := file.read(_BLOCK):
                hasher.update(block)
                if on_bytes:
                    on_bytes(file.tell(), total)
    except OSError as error:
        raise InvalidModel(
            f"{path} cannot be read ({error.strerror}); check the path and the disk.",
            f"{path} 파일을 읽을 수 없습니다({error.strerror}). 경로와 디스크를 확인하세요.",
        ) from error
    return hasher.hexdigest()


def check_digest(path: Path, on_bytes: OnBytes | None = None) -> Digest:
    """Read the whole file again, and compare with what is known of it."""
    return Digest(digest_of(path, on_bytes), expected(path))
