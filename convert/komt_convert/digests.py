"""The files that a conversion reads, and their SHA-256, which is taken while it goes on.

hashlib keeps no other thread waiting, and a conversion begins and ends, with the proof of its
tokens and the digest of its file, on one processor; hashing takes the others, and steps back in
between. It never hurries ahead by more than `LEAD`, so that what it has fetched from the disk is
still in memory when the conversion wants it. A large file in the cache of huggingface_hub is named
by its digest, and need not be read for it.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from threading import Condition, Semaphore, get_native_id
from typing import Self

from komt_convert.errors import SourceError
from komt_convert.json_file import MAX_BYTES
from komt_convert.report import OnProgress, Progress, SourceFile

LEAD = 2 << 30
"""How many bytes hashing may be ahead of the conversion."""
SMALL = 32 << 20
_BLOCK = 1 << 20

NAMES = (
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
    "adapter_config.json",
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "README.md",
)
"""What is read of a folder beside its weights."""


@dataclass(frozen=True, slots=True)
class Input:
    """A file that is read; `part` is "model", "adapter 1", ..., or "imatrix"."""

    part: str
    path: Path

    @property
    def is_weights(self) -> bool:
        return self.path.name not in NAMES


def inputs(part: str, folder: Path, weights: Iterable[Path]) -> tuple[Input, ...]:
    """The files of a folder that are read, those with its weights last."""
    named = (folder / name for name in NAMES)
    small = (path for path in named if path.is_file() and path.stat().st_size <= MAX_BYTES)
    return tuple(Input(part, path) for path in (*small, *weights))


class Digests:
    """Hashes `files` in threads of its own, at first in half of `threads`; leaving ends them.

    Without `named`, a file is read even where its name in a cache tells its digest. Without
    `large`, large files are not read, and have none. `n_read` counts bytes.
    """

    def __init__(
        self,
        files: Sequence[Input],
        *,
        threads: int,
        lead: float = LEAD,
        named: bool = True,
        large: bool = True,
    ) -> None:
        self._named, self._large = named, large
        self._allowed, self._lead, self.n_read = lead, lead, 0
        self._changed = Condition()
        self._threads, self._turns = threads, Semaphore(max(1, threads // 2))
        self._pool = ThreadPoolExecutor(threads, "komt-digest", _step_back)
        self._found = [self._pool.submit(self._look, file) for file in files]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._allow(-inf)
        self._turns.release(self._threads)
        self._pool.shutdown(cancel_futures=True)

    def following(self, on_progress: OnProgress | None) -> OnProgress:
        """`on_progress`, through which hashing is told as well how far the conversion is."""

        def move(progress: Progress) -> None:
            self._allow(progress.done + self._lead)
            if on_progress:
                on_progress(progress)

        return move

    def result(self) -> tuple[SourceFile, ...]:
        """All files in order, when the last is done. Raises SourceError for one that is gone.

        Nothing else is left to do, so all threads hash now.
        """
        self._allow(inf)
        self._turns.release(self._threads)
        return tuple(future.result() for future in self._found)

    def _allow(self, n_bytes: float) -> None:
        """So many bytes may be read; fewer than none end it."""
        with self._changed:
            self._allowed = n_bytes
            self._changed.notify_all()

    def _look(self, file: Input) -> SourceFile:
        try:
            with self._turns:
                size = file.path.stat().st_size
                digest = self._digest(file.path, is_large=size > SMALL)
        except OSError as error:
            raise SourceError(
                f"{file.path} could not be read ({error.strerror}); copy or download it again.",
                f"{file.path} 파일을 읽지 못했습니다({error.strerror}). 다시 복사하거나 "
                "내려받으세요.",
            ) from None
        return SourceFile(file.path.name, size, digest, file.part)

    def _digest(self, path: Path, *, is_large: bool) -> str | None:
        stored = path.resolve()
        is_named = stored.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", stored.name)
        if is_large and is_named and self._named:
            return stored.name
        return self._hash(path) if self._large or not is_large else None

    def _hash(self, path: Path) -> str | None:
        digest, block = hashlib.sha256(), memoryview(bytearray(_BLOCK))
        with path.open("rb", buffering=0) as file:
            while n_read := file.readinto(block):
                digest.update(block[:n_read])
                if not self._may_go_on(n_read):
                    return None
        return digest.hexdigest()

    def _may_go_on(self, n_read: int) -> bool:
        """Counts what was read and waits until more may be; False when it is to end."""
        with self._changed:
            self.n_read += n_read
            self._changed.wait_for(lambda: self.n_read <= self._allowed or self._allowed < 0)
            return self._allowed >= 0


def _step_back() -> None:
    """Leaves this thread what no other thread wants; only Linux has priorities of threads."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, get_native_id(), 19)
