"""A file that appears whole or not at all.

`replacing` gives a temporary file beside the target, `.<name>.<process id>.partial`. What was
written into it takes the target's place in one step when `commit` is called; otherwise it is
removed, on errors and on Ctrl-C. A process that is killed leaves it behind, under a name that no
program takes for a model, and the next one to write the same target clears it away. Nothing here
knows GGUF.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from komt_convert.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be removed and needs no lock
    fcntl = None  # type: ignore[assignment]


class Output:
    """The temporary file at `path`; several threads may write to it at once."""

    def __init__(self, target: Path, *, force: bool) -> None:
        self.target, self.force = target, force
        self.path = target.with_name(f".{target.name}.{os.getpid()}.partial")
        self._lock = threading.Lock()
        self._begun: Future[None] | None = None
        self._descriptor = os.open(
            self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666
        )
        if fcntl is not None:
            with suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def resize(self, size: int) -> None:
        """Makes the file `size` bytes long; what is not written reads as zeros.

        Its room on the disk is taken at once: so a disk that is too full says so before the first
        byte, and writing is three to six times as fast as into holes (3 GB on ext4).
        """
        with _explained(self.target):
            os.ftruncate(self._descriptor, size)
            _reserve(self._descriptor, size)

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Writes all of `data` at `offset`.

        File systems let one write at a time into a file, and who comes second spins for it, where
        it could leave the processor to others.
        """
        view = memoryview(data).cast("B")
        with _explained(self.target), self._lock:
            while view:
                n_written = self._write_some(offset, view)
                offset, view = offset + n_written, view[n_written:]

    def _write_some(self, offset: int, data: memoryview) -> int:
        if hasattr(os, "pwrite"):
            return os.pwrite(self._descriptor, data, offset)
        os.lseek(self._descriptor, offset, os.SEEK_SET)
        return os.write(self._descriptor, data)

    def begin_sync(self) -> None:
        """Lets the disk begin with what was written, so that `commit` has less to wait for."""
        pool = ThreadPoolExecutor(1, "komt-sync")
        self._begun = pool.submit(_sync_and_close, os.dup(self._descriptor))
        pool.shutdown(wait=False)

    def commit(self, *, outdated: Path | None = None) -> None:
        """Puts the file in the target's place; it is on the disk when this returns.

        `outdated` is a file about the target's former content. It goes first, so that it never
        lies beside the new one, whenever this is killed.
        """
        with _explained(self.target):
            if self._begun:
                self._begun.result()  # the system tells of an error once only
            os.fsync(self._descriptor)
        self.close()
        refuse_target(self.target, force=self.force)
        with _explained(self.target):
            if outdated is not None:
                outdated.unlink(missing_ok=True)
            os.replace(self.path, self.target)
            _sync_folder(self.target.parent)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def refuse_target(target: Path, *, force: bool) -> None:
    """Raises OutputError if nothing can be written at `target`, or nothing may be."""
    folder = target.parent
    if target.is_dir():
        problem = f"{target} is a folder", f"{target}: 폴더입니다"
    elif not folder.is_dir():
        problem = f"There is no folder {folder}", f"{folder} 폴더가 없습니다"
    elif not os.access(folder, os.W_OK):
        problem = f"The folder {folder} cannot be written to", f"{folder} 폴더에 쓸 수 없습니다"
    elif target.exists() and not target.is_file():
        problem = f"{target} is not a regular file", f"{target}: 일반 파일이 아닙니다"
    elif os.path.lexists(target) and not force:
        raise OutputError(
            f"{target} exists already; choose another name, or replace it with --force.",
            f"{target} 파일이 이미 있습니다. 다른 이름을 고르거나 --force로 덮어쓰세요.",
        )
    else:
        return
    raise OutputError(
        f"{problem[0]}; give another path for the output.",
        f"{problem[1]}. 출력 경로를 다른 곳으로 지정하세요.",
    )


def refuse_full_disk(target: Path, size: int) -> None:
    """Raises OutputError if `size` bytes do not fit beside `target`."""
    free = shutil.disk_usage(target.parent).free
    if free < size:
        raise OutputError(
            f"{target} takes {_gigabytes(size)} and its disk has {_gigabytes(free)} free; "
            "make room, or choose another disk or a smaller type.",
            f"{target} 파일에는 {_gigabytes(size)}가 필요한데 디스크에 {_gigabytes(free)}만 "
            "남았습니다. 공간을 비우거나 다른 디스크나 더 작은 타입을 고르세요.",
        )


@contextmanager
def replacing(target: Path, *, force: bool) -> Iterator[Output]:
    """A temporary file for `target`, which is removed at the end unless it was committed."""
    refuse_target(target, force=force)
    _clear_abandoned(target)
    with _explained(target):
        output = Output(target, force=force)
    try:
        yield output
    finally:
        output.close()
        with suppress(OSError):
            output.path.unlink(missing_ok=True)


def _clear_abandoned(target: Path) -> None:
    """Removes temporary files for `target` whose process is gone."""
    beginning = f".{target.name}."
    for path in target.parent.iterdir():
        middle = path.name.removeprefix(beginning).removesuffix(".partial")
        if path.name == f"{beginning}{middle}.partial" and middle.isdecimal():
            with suppress(OSError):
                _remove_unless_locked(path)


def _remove_unless_locked(path: Path) -> None:
    if fcntl is not None:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    path.unlink()


def _reserve(descriptor: int, size: int) -> None:
    """Linux's fallocate, where the file system has it; raises OSError if there is no room.

    Not `os.posix_fallocate`: elsewhere that would write a byte to every block.
    """
    if not sys.platform.startswith("linux") or sys.maxsize < 1 << 32:
        return
    fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    if fallocate(descriptor, 0, 0, size) and ctypes.get_errno() == errno.ENOSPC:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _sync_and_close(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Makes the new name last through a power failure; Windows has nothing of the kind."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _explained(target: Path) -> Iterator[None]:
    """Turns the system's errors into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
            raise OutputError(
                f"The disk is full: {target} could not be written; make room and convert again.",
                f"디스크가 가득 차서 {target} 파일을 쓰지 못했습니다. "
                "공간을 비우고 다시 변환하세요.",
            ) from None
        raise OutputError(
            f"{target} could not be written ({error.strerror}); give another path.",
            f"{target} 파일을 쓰지 못했습니다({error.strerror}). 다른 경로를 지정하세요.",
        ) from None


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.2f} GB"
