"""The bytes of a file that are here already: kept over kills, hashed as they come.

The partial file lies beside the blobs of the cache as `<digest>.incomplete`. Every write goes to
its own place, unbuffered, so that what the operating system has is what the next run finds; and
where a file system's locks do not hold, two processes write the same bytes to the same places.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from .api import RemoteFile

OnBytes = Callable[[int], None]
"""Called with the bytes that are done."""

_BLOCK = 1 << 22


class Partial:
    """An open partial file, and the digest of what it holds."""

    def __init__(self, path: Path, file: RemoteFile) -> None:
        self.path = path
        self._wanted = file
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        self.size = 0
        self._hasher = self._new_hasher()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._fd)

    def take_up(self, on_bytes: OnBytes) -> None:
        """Hash what an earlier run has left; too much of it is nothing."""
        if os.fstat(self._fd).st_size > self._wanted.size:
            self.restart()
        os.lseek(self._fd, 0, os.SEEK_SET)
        while block := os.read(self._fd, _BLOCK):
            self._hasher.update(block)
            self.size += len(block)
            on_bytes(self.size)

    def write(self, chunk: bytes) -> None:
        os.lseek(self._fd, self.size, os.SEEK_SET)
        rest = memoryview(chunk)
        while rest:
            written = os.write(self._fd, rest)
            self._hasher.update(rest[:written])
            self.size += written
            rest = rest[written:]

    def restart(self) -> None:
        """Drop everything."""
        os.ftruncate(self._fd, 0)
        self.size = 0
        self._hasher = self._new_hasher()

    @property
    def is_whole(self) -> bool:
        return self.size == self._wanted.size

    @property
    def is_right(self) -> bool:
        return self.is_whole and self._hasher.hexdigest() == self._wanted.digest

    def sync(self) -> None:
        """Have it on the disk before it gets its final name."""
        os.fsync(self._fd)

    def _new_hasher(self) -> hashlib._Hash:
        """SHA-256 for large files; git's blob hash, which counts the size in, for the others."""
        if len(self._wanted.digest) == 64:
            return hashlib.sha256()
        hasher = hashlib.sha1(usedforsecurity=False)
        hasher.update(b"blob %d\0" % self._wanted.size)
        return hasher
