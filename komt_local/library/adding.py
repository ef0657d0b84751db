"""Model files from elsewhere: checked, and remembered under a name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ..errors import InvalidModel, ModelNotFound
from .digests import OnBytes, digest_of
from .facts import describe, type_known
from .proofs import report_path
from .records import Record, models_folder, now, remember
from .stores import Found


def add(found: Found, *, name: str = "", copy: bool, on_bytes: OnBytes | None = None) -> Record:
    """Record a file from elsewhere under a name; with `copy`, into the data folder first.

    The file is checked as GGUF and its digest taken; raises InvalidModel when it is none, or when
    the digest differs from what its store says.
    """
    facts = describe(found.path)
    sha256 = digest_of(found.path, on_bytes)
    if found.sha256 and sha256 != found.sha256:
        raise InvalidModel(
            f"{found.path} is damaged: its SHA-256 is {sha256}; get it again in the program that "
            "it belongs to.",
            f"{found.path} 파일이 손상되었습니다(SHA-256 {sha256}). 그 파일을 관리하는 "
            "프로그램에서 다시 받으세요.",
        )
    name = name or found.name
    path = _copied(found.path, name) if copy else found.path
    status = path.stat()
    record = Record(
        path=str(path),
        name=name,
        origin="imported",
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        sha256=sha256,
        repo=found.repo,
        type=type_known(found.path, facts).upper(),
        licence=facts.licence,
        owned=copy,
        added=now(),
    )
    remember(record)
    return record


def _copied(source: Path, name: str) -> Path:
    """A copy in the models folder, whole or not at all; the report of its conversion goes along."""
    target = models_folder() / f"{name.replace('/', '--').replace(':', '-')}.gguf"
    _copy(source, target)
    if report_path(source).is_file():
        _copy(report_path(source), report_path(target))
    return target


def _copy(source: Path, target: Path) -> None:
    draft = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, draft)
        os.replace(draft, target)
    except OSError as error:
        raise ModelNotFound(
            f"{source} cannot be copied to {target} ({error.strerror}); check the disk.",
            f"{source} 파일을 {target}(으)로 복사할 수 없습니다({error.strerror}). 디스크를 "
            "확인하세요.",
        ) from error
    finally:
        draft.unlink(missing_ok=True)
