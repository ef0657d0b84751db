"""The Hugging Face cache as it lies on the disk, to look things up in and to remove them from.

    models--org--repo/blobs/<digest>               the bytes; <digest>.incomplete while partial
                      refs/<branch or tag>         the commit that it was last seen at
                      snapshots/<commit>/<file>    a link to the blob, or the file itself

Every program on huggingface_hub shares it. Filling it is the business of `komt_local.hub`.
https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHORT_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PREFIX = "models--"


def cache_folder() -> Path:
    """Where the cache is, as HF_HUB_CACHE and HF_HOME say."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


@dataclass(frozen=True, slots=True)
class CachedRepo:
    """One model repository in the cache; it need not exist."""

    name: str
    folder: Path

    @property
    def blobs(self) -> Path:
        return self.folder / "blobs"

    def commit(self, revision: str) -> str | None:
        """The commit that a branch, a tag or the beginning of a commit stands for here."""
        if _COMMIT.fullmatch(revision):
            return revision
        try:
            return (self.folder / "refs" / revision).read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            pass
        if not _SHORT_COMMIT.fullmatch(revision):
            return None
        found = [path.name for path in self.snapshots() if path.name.startswith(revision)]
        return found[0] if len(found) == 1 else None

    def snapshots(self) -> list[Path]:
        """The snapshots that are here, that of `main` first, then the newest."""
        try:
            found = [path for path in (self.folder / "snapshots").iterdir() if path.is_dir()]
        except OSError:
            return []
        main = self.folder / "refs" / "main"
        first = main.read_text(encoding="utf-8").strip() if main.is_file() else ""
        return sorted(found, key=lambda path: (path.name != first, -path.stat().st_mtime))

    def files(self, revision: str = "") -> dict[str, Path]:
        """Whole files by name: of one revision, or without one, each from the best snapshot."""
        snapshots = self.snapshots()
        if revision:
            commit = self.commit(revision)
            snapshots = [path for path in snapshots if path.name == commit]
        found: dict[str, Path] = {}
        for snapshot in snapshots:
            for path in sorted(snapshot.rglob("*")):
                if path.is_file():
                    found.setdefault(path.relative_to(snapshot).as_posix(), path)
        return found

    def partials(self) -> list[Path]:
        """Downloads that have begun and not ended."""
        return sorted(self.blobs.glob("*.incomplete"))


def repo(name: str, cache: Path | None = None) -> CachedRepo:
    """The repository `org/repo` in the cache."""
    return CachedRepo(name, (cache or cache_folder()) / (_PREFIX + name.replace("/", "--")))


def repos(cache: Path | None = None) -> Iterator[CachedRepo]:
    """All model repositories in the cache, by name."""
    try:
        folders = sorted((cache or cache_folder()).glob(f"{_PREFIX}*"))
    except OSError:
        return
    for folder in folders:
        name = folder.name.removeprefix(_PREFIX).replace("--", "/")
        if folder.is_dir() and name.count("/") == 1:
            yield CachedRepo(name, folder)


def sha256_by_name(path: Path) -> str:
    """The SHA-256 that the cache vouches for by a blob's name; empty for other files."""
    blob = path.resolve()
    is_blob = blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name)
    return blob.name if is_blob else ""


def remove(path: Path) -> int:
    """Remove one file of a snapshot, and its blob unless another snapshot needs it.

    Returns the bytes that were freed. Snapshots that are left empty go as well.
    """
    blob = path.resolve()
    snapshot = next(parent for parent in path.parents if parent.parent.name == "snapshots")
    size = blob.stat().st_size
    path.unlink()
    freed = size if blob == path else 0
    if blob != path and not _is_needed(blob, snapshot.parent):
        blob.unlink(missing_ok=True)
        freed = size
    _prune(path.parent, snapshot)
    return freed


def repo_of(path: Path) -> str:
    """The repository that a file of the cache belongs to; empty for other files."""
    inside = _inside(path)
    return inside[0].removeprefix(_PREFIX).replace("--", "/") if inside else ""


def commit_of(path: Path) -> str:
    """The commit of the snapshot that a file belongs to; empty for files outside of the cache."""
    inside = _inside(path)
    return inside[2] if inside else ""


def is_in_cache(path: Path) -> bool:
    """Whether the path is a file of some snapshot in the cache."""
    return bool(_inside(path))


def _inside(path: Path) -> tuple[str, ...]:
    """Repository, `snapshots`, commit and what follows; empty for files outside of the cache."""
    try:
        parts = path.absolute().relative_to(cache_folder().absolute()).parts
    except ValueError:
        return ()
    is_file = len(parts) > 3 and parts[0].startswith(_PREFIX) and parts[1] == "snapshots"
    return parts if is_file else ()


def _is_needed(blob: Path, snapshots: Path) -> bool:
    return any(link.is_symlink() and link.resolve() == blob for link in snapshots.rglob("*"))


def _prune(folder: Path, last: Path) -> None:
    """Remove empty folders from `folder` up to and with `last`."""
    while not any(folder.iterdir()):
        folder.rmdir()
        if folder == last:
            return
        folder = folder.parent
