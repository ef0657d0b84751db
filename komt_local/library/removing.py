"""Taking models away again: what was brought here, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelNotFound, UsageError
from ..references import Reference
from ..variants import matching, variants
from . import cache, records
from .find import expand
from .proofs import report_path
from .records import Record


@dataclass(frozen=True, slots=True)
class Removal:
    """What `remove` does: `files` are deleted; `kept` are not ours, and only forgotten."""

    name: str
    files: tuple[Path, ...]
    kept: tuple[Path, ...]
    size: int


def plan_removal(text: str) -> Removal:
    """What a reference names among what is here and may be removed.

    Raises ModelNotFound when that is nothing, UsageError when it is more than one model.
    """
    reference = expand(text)
    state = records.load()
    if record := _record_called(text, reference, state.records):
        path = Path(record.path)
        ours = (path, report_path(path)) if record.owned else ()
        files = tuple(file for file in ours if file.exists())
        return Removal(record.title, files, () if record.owned else (path,), _total(files))
    if reference.kind == "repo":
        return _plan_in_cache(reference)
    raise ModelNotFound(
        f"{text!r} is nothing that komt-local brought here; `komt-local list` shows what is, and "
        "a file of your own is yours to delete.",
        f"{text!r}은(는) komt-local이 가져온 것이 아닙니다. `komt-local list`로 확인하세요. "
        "직접 둔 파일은 직접 지우면 됩니다.",
    )


def _record_called(text: str, reference: Reference, known: Mapping[str, Record]) -> Record | None:
    wanted = {text.lower(), str(reference).lower()}
    found = [
        record
        for record in known.values()
        if record.origin != "pulled"
        and (record.title.lower() in wanted or record.path == str(Path(text).absolute()))
    ]
    return found[0] if found else None


def _plan_in_cache(reference: Reference) -> Removal:
    repo = cache.repo(reference.name)
    files = repo.files(reference.revision)
    found = matching(reference, variants({n: p.stat().st_size for n, p in files.items()}))
    if len(found) > 1:
        choices = ", ".join(f"{reference.name}:{v.type or v.files[0]}" for v in found)
        raise UsageError(
            f"{reference} names {len(found)} models; say which: {choices}.",
            f"{reference}에 해당하는 모델이 {len(found)}개입니다. 하나를 고르세요: {choices}.",
        )
    paths = tuple(files[file] for variant in found for file in variant.files)
    plain = not reference.type and not reference.file
    partials = tuple(repo.partials()) if plain else ()
    if not paths and not partials:
        raise ModelNotFound(
            f"Nothing of {reference} is on this machine; `komt-local list` shows what is.",
            f"{reference} 모델이 이 컴퓨터에 없습니다. `komt-local list`로 확인하세요.",
        )
    return Removal(str(reference), paths + partials, (), _total(paths + partials))


def _total(files: tuple[Path, ...]) -> int:
    return sum(path.stat().st_size for path in files)


def remove(removal: Removal) -> None:
    """Carry it out. A file of the cache goes with its blob, unless another revision needs it."""
    try:
        for path in removal.files:
            if cache.is_in_cache(path):
                cache.remove(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            f"{error.filename} cannot be removed ({error.strerror}); check whose it is.",
            f"{error.filename}을(를) 지울 수 없습니다({error.strerror}). 소유자를 확인하세요.",
        ) from error
    for path in (*removal.files, *removal.kept):
        records.forget(path)
