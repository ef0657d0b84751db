"""One file from the hub into the Hugging Face cache: resumed, proven by its digest, or not there.

huggingface_hub's own transfer forgets a partial file when its process ends, and compares sizes
only; so the bytes are streamed here, into the same layout and under the same locks.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import DownloadError
from ..library.cache import CachedRepo, repo
from .api import Hub, RemoteFile, Repository, utils
from .failures import offline, unreachable
from .partial import Partial
from .transfer import Changed, Passing, open_stream
from .waiting import Patience, Wait

Stage = Literal["wait", "check", "download"]

_MARGIN = 64 << 20
"""Bytes of the disk that stay free."""
_FRESH_STARTS = 2


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a file is, in bytes. `wait`: for another process that downloads the same file."""

    stage: Stage
    file: str
    done: int
    total: int


OnProgress = Callable[[Progress], None]


def download(
    hub: Hub,
    repository: Repository,
    file: RemoteFile,
    *,
    on_progress: OnProgress = lambda progress: None,
    wait: Wait = time.sleep,
) -> Path:
    """Bring one file here and return its path in the cache; at once, if it is here already.

    Raises DownloadError, GatedError or OfflineError. What came before a failure is kept.
    """
    place = Place(repo(repository.name, hub.cache), repository.commit, file)
    if place.is_filled():
        return place.pointer
    if hub.offline:
        raise offline(repository.name)
    job = _Job(hub, repository, file, on_progress, wait)
    try:
        place.make_folders()
        with _lock(place.lock, lambda: job.tell("wait", 0)):
            if not place.has_blob():
                job.fill(place.partial)
                os.replace(place.partial, place.blob)
            place.link()
        place.note_revision(repository.revision)
    except OSError as error:
        raise _disk_error(error, hub.cache) from error
    return place.pointer


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file goes in the cache; see `komt_local.library.cache`."""

    repo: CachedRepo
    commit: str
    file: RemoteFile

    @property
    def blob(self) -> Path:
        return self.repo.blobs / self.file.digest

    @property
    def partial(self) -> Path:
        return self.repo.blobs / f"{self.file.digest}.incomplete"

    @property
    def pointer(self) -> Path:
        return self.repo.folder / "snapshots" / self.commit / self.file.name

    @property
    def lock(self) -> Path:
        """The lock that huggingface_hub takes for the same blob."""
        folder = self.repo.folder
        return folder.parent / ".locks" / folder.name / f"{self.file.digest}.lock"

    def is_filled(self) -> bool:
        """Whether the file is here, and as long as it should be."""
        return _size(self.pointer) == self.file.size

    def has_blob(self) -> bool:
        """Whether its bytes are here, under whatever name in whatever revision."""
        return _size(self.blob) == self.file.size

    def missing_bytes(self) -> int:
        """How much is still to come."""
        if self.is_filled() or self.has_blob():
            return 0
        return max(0, self.file.size - (_size(self.partial) or 0))

    def make_folders(self) -> None:
        for path in (self.blob, self.pointer, self.lock):
            path.parent.mkdir(parents=True, exist_ok=True)

    def link(self) -> None:
        """Give the blob its name in the snapshot; where there are no links, it moves there."""
        from huggingface_hub import constants

        self.pointer.unlink(missing_ok=True)
        try:
            if getattr(constants, "HF_HUB_DISABLE_SYMLINKS", False):
                raise NotImplementedError
            self.pointer.symlink_to(os.path.relpath(self.blob, self.pointer.parent))
        except (OSError, NotImplementedError):
            shutil.move(self.blob, self.pointer)

    def note_revision(self, revision: str) -> None:
        """Which commit the branch or tag is at, as huggingface_hub notes it."""
        if revision == self.commit:
            return
        note = self.repo.folder / "refs" / revision
        note.parent.mkdir(parents=True, exist_ok=True)
        draft = note.with_name(f"{note.name}.{os.getpid()}.tmp")
        draft.write_text(self.commit, encoding="utf-8")
        os.replace(draft, note)


@dataclass(slots=True)
class _Job:
    """One download under way."""

    hub: Hub
    repository: Repository
    file: RemoteFile
    on_progress: OnProgress
    wait: Wait
    etag: str = ""
    """Of the storage host's last answer; the next goes on only with the same."""

    def tell(self, stage: Stage, done: int) -> None:
        self.on_progress(Progress(stage, self.file.name, done, self.file.size))

    def fill(self, path: Path) -> None:
        """Write the partial file until it is whole and right, however many tries it takes."""
        with Partial(path, self.file) as partial:
            partial.take_up(lambda done: self.tell("check", done))
            _check_disk(path, self.file.size - partial.size)
            for _ in range(_FRESH_STARTS + 1):
                if self._complete(partial) and partial.is_right:
                    partial.sync()
                    return
                partial.restart()
                self.etag = ""
        path.unlink()
        raise DownloadError(
            f"{self.hub.host} serves {self.file.name} of {self.repository.name} with other bytes "
            "than its digest says, each time; nothing of it was kept, try again later.",
            f"{self.hub.host}이(가) {self.repository.name}의 {self.file.name}을(를) 다이제스트와 "
            "다르게 계속 보냅니다. 받은 것은 지웠습니다. 나중에 다시 해 보세요.",
        )

    def _complete(self, partial: Partial) -> bool:
        """Try until all bytes are here; False when what is served is another file."""
        patience = Patience(self.wait)
        while not partial.is_whole:
            before = partial.size
            try:
                self._receive(partial)
            except Changed:
                return False
            except Passing as failure:
                if partial.size > before:
                    patience.progress()
                if not patience.again(failure.seconds):
                    raise unreachable(self.hub, self.repository.name, str(failure)) from failure
        return True

    def _receive(self, partial: Partial) -> None:
        """One request: everything that it brings is written."""
        with open_stream(self.hub, self.repository, self.file, partial.size, self.etag) as stream:
            self.etag = stream.etag
            if stream.start != partial.size:
                partial.restart()
            for chunk in stream.chunks:
                if partial.size + len(chunk) > self.file.size:
                    raise Changed("more bytes than the file has")
                partial.write(chunk)
                self.tell("download", partial.size)
        if not partial.is_whole:
            raise Passing("the connection ended early")


@contextmanager
def _lock(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the file's lock; `on_wait` is told once if another process has it."""
    from filelock import Timeout

    lock = utils().WeakFileLock
    try:
        with lock(path, timeout=0.1):
            yield
        return
    except Timeout:
        on_wait()
    with lock(path):
        yield


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _check_disk(path: Path, missing: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < missing + _MARGIN:
        raise _full(path, missing, free)


def _full(path: Path, missing: int, free: int) -> DownloadError:
    return DownloadError(
        f"{path.parent} has {free / 1e9:.1f} GB free and {missing / 1e9:.1f} GB are to come; free "
        "some space, or set HF_HOME to a larger disk.",
        f"{path.parent}의 빈 공간은 {free / 1e9:.1f}GB인데 {missing / 1e9:.1f}GB를 더 받아야 "
        "합니다. 공간을 비우거나 HF_HOME을 더 큰 디스크로 정하세요.",
    )


def _disk_error(error: OSError, cache: Path) -> DownloadError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DownloadError(
            f"The disk of {cache} is full; free some space and pull again, what has come is kept.",
            f"{cache}의 디스크가 가득 찼습니다. 공간을 비우고 다시 받으세요. 지금까지 받은 것은 "
            "남아 있습니다.",
        )
    return DownloadError(
        f"The cache {cache} cannot be written ({error.strerror or error}); check its permissions, "
        "or set HF_HOME to a folder of your own.",
        f"캐시 {cache}에 쓸 수 없습니다({error.strerror or error}). 권한을 확인하거나 HF_HOME을 "
        "자신의 폴더로 정하세요.",
    )
