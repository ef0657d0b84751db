"""What komt-local remembers about models: one small JSON file in its data folder.

For each file that was pulled, made or imported: its digest, origin, licence and type, and when it
was last used; besides, the user's aliases and the default model. The Hugging Face cache is left as
huggingface_hub has it: nothing of ours lies in it. Writing is atomic and under a lock.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from ..errors import LibraryError

Origin = Literal["pulled", "converted", "imported"]

_FILE = "library.json"


@dataclass(frozen=True, slots=True)
class Record:
    """One model file. Times are ISO 8601 in UTC; texts are empty where nothing is known.

    `name` is what `komt-local list` calls it, `repo`, `revision` (a commit) and `file` say where it
    came from, `mtime_ns` belongs to the file when `sha256` was taken. `owned` files lie in the data
    folder, and go when the record goes.
    """

    path: str
    name: str
    origin: Origin
    size: int
    mtime_ns: int
    sha256: str = ""
    repo: str = ""
    revision: str = ""
    file: str = ""
    type: str = ""
    licence: str = ""
    owned: bool = False
    added: str = ""

    @property
    def title(self) -> str:
        """What it is called where several types of one model may stand side by side."""
        return f"{self.name}:{self.type}" if self.origin == "converted" else self.name


@dataclass(slots=True)
class State:
    """Everything in the file: records by path, alias → reference, seconds of last use by path."""

    records: dict[str, Record] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    default: str | None = None
    used: dict[str, str] = field(default_factory=dict)
    sources: list[str] = field(default_factory=list)
    """Snapshots of checkpoints that were downloaded only to be converted, `repo@commit`."""


def data_folder() -> Path:
    """Where komt-local keeps its own: `KOMT_LOCAL_HOME`, else the platform's place for data."""
    if home := os.environ.get("KOMT_LOCAL_HOME"):
        return Path(home).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home()) / "komt-local"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "komt-local"
    data = os.environ.get("XDG_DATA_HOME", "")
    return (Path(data) if data else Path.home() / ".local" / "share") / "komt-local"


def models_folder() -> Path:
    """Where files that were made or copied here lie."""
    return data_folder() / "models"


def load() -> State:
    """What is remembered; nothing when there is no file yet. Raises LibraryError."""
    path = data_folder() / _FILE
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return _from_json(value)
    except FileNotFoundError:
        return State()
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise LibraryError(
            f"The list of models {path} cannot be read ({error}); repair it, or move it away to "
            "begin a new one.",
            f"모델 목록 {path}을(를) 읽을 수 없습니다({error}). 고치거나, 다른 곳으로 옮겨 새로 "
            "시작하세요.",
        ) from error


@contextmanager
def editing() -> Iterator[State]:
    """Change what is remembered: under a lock, and written whole or not at all."""
    from filelock import FileLock

    folder = data_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "library.lock"):
            state = load()
            before = _to_json(state)
            yield state
            if _to_json(state) != before:
                _write(folder / _FILE, _to_json(state))
    except OSError as error:
        raise LibraryError(
            f"The data folder {folder} cannot be written ({error.strerror or error}); set "
            "KOMT_LOCAL_HOME to a folder that can.",
            f"데이터 폴더 {folder}에 쓸 수 없습니다({error.strerror or error}). KOMT_LOCAL_HOME을 "
            "쓸 수 있는 폴더로 정하세요.",
        ) from error


def remember(record: Record) -> None:
    """Add a record, in place of what was known about the same path."""
    with editing() as state:
        state.records[record.path] = record


def forget(path: Path) -> None:
    """Drop everything about a path."""
    with editing() as state:
        state.records.pop(str(path), None)
        state.used.pop(str(path), None)


def touch(path: Path) -> None:
    """Note that a model is used now; never an error, for a model runs from a read-only disk too."""
    try:
        with editing() as state:
            state.used[str(path.absolute())] = now()
    except LibraryError:
        pass


def now() -> str:
    """This second, as records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _to_json(state: State) -> dict[str, Any]:
    records = [asdict(state.records[path]) for path in sorted(state.records)]
    return {"version": 1} | asdict(state) | {"records": records}


def _from_json(value: dict[str, Any]) -> State:
    """Keys of later versions are passed over."""
    known = {item.name for item in fields(Record)}
    records = [
        Record(**{key: item[key] for key in item if key in known}) for item in value["records"]
    ]
    return State(
        records={record.path: record for record in records},
        aliases=dict(value.get("aliases", {})),
        default=value.get("default"),
        used=dict(value.get("used", {})),
        sources=list(value.get("sources", [])),
    )


def _write(path: Path, value: dict[str, Any]) -> None:
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("w", encoding="utf-8") as file:
            json.dump(value, file, ensure_ascii=False, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
