"""What was said in a dialogue, one JSON object per line; a line that was cut off is no line.

    {"session": 1, "model": "/models/komt.gguf"}        first of all
    {"user": "…", "assistant": "…"}                     an exchange
    {"system": "…"}                                     from here on; null for none
    {"undo": true}    {"clear": true}                   the last exchange, or all, taken back

An exchange is one line, written at once and synced, so that a kill loses the one under way at most.
"""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import SessionError, UsageError
from ..library import data_folder
from ..types import Message

_NAME = re.compile(r"\w[\w.-]{0,63}")


def session_path(name: str) -> Path:
    """The file of the session of that name. Raises UsageError for what is no name."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for a session; take letters, digits, '-', '_' and '.'.",
            f"{name!r}은(는) 세션 이름이 될 수 없습니다. 글자, 숫자, '-', '_', '.'만 쓰세요.",
        )
    return data_folder() / "sessions" / f"{name}.jsonl"


def latest() -> Path | None:
    """The session that was opened or written to last; None without any."""
    found = (data_folder() / "sessions").glob("*.jsonl")
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)


@dataclass(slots=True)
class Said:
    """What a journal tells: the model's file, the system text, and the exchanges that hold."""

    model: str = ""
    system: str | None = None
    turns: list[Message] = field(default_factory=list)


class Journal:
    """A session's file, which need not exist yet. For one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        return self.path.stem

    def read(self) -> Said:
        """What was said; empty for a new session. Raises SessionError for what is no session."""
        said = Said()
        try:
            lines = self.path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return said
        except OSError as error:
            raise _unreadable(self.path, str(error.strerror)) from error
        for number, line in enumerate(lines):
            if line.endswith(b"\n"):
                _replay(said, self._object(line, number))
        return said

    def begin(self, model: Path) -> None:
        """Write the first line of a new session, or cut off what a kill left of the last line."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        content = self.path.read_bytes() if self.path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(self.path, len(whole))
        if whole:
            # The one that was used last; the file system's own clock ticks too slowly to tell.
            os.utime(self.path, ns=(time.time_ns(), time.time_ns()))
        else:
            self._append({"session": 1, "model": str(model)})

    def exchange(self, user: str, assistant: str) -> None:
        self._append({"user": user, "assistant": assistant})

    def undo(self) -> None:
        self._append({"undo": True})

    def clear(self) -> None:
        self._append({"clear": True})

    def system(self, text: str | None) -> None:
        self._append({"system": text})

    def _append(self, value: dict[str, Any]) -> None:
        line = json.dumps(value, ensure_ascii=False) + "\n"
        try:
            number = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(number, "wb") as file:
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise SessionError(
                f"The session {self.path} cannot be written ({error.strerror}); free the disk, or "
                "talk on without --session.",
                f"{self.path} 세션을 쓸 수 없습니다({error.strerror}). 디스크를 확인하거나 "
                "--session 없이 계속하세요.",
            ) from error

    def _object(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict) or (number == 0 and value.get("session") != 1):
            raise _unreadable(self.path, f"line {number + 1}")
        return value


def _replay(said: Said, line: dict[str, Any]) -> None:
    match line:
        case {"session": _}:
            said.model = str(line.get("model", ""))
        case {"user": str(user), "assistant": str(assistant)}:
            said.turns += [Message("user", user), Message("assistant", assistant)]
        case {"system": str() | None as system}:
            said.system = system
        case {"undo": _}:
            del said.turns[-2:]
        case {"clear": _}:
            said.turns.clear()


def _unreadable(path: Path, why: str) -> SessionError:
    return SessionError(
        f"{path} cannot be read as a session ({why}); move it away, or take another name.",
        f"{path} 파일을 세션으로 읽을 수 없습니다({why}). 파일을 옮기거나 다른 이름을 쓰세요.",
    )
