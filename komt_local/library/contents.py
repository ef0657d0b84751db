"""Everything that is on this machine, as a list."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import InvalidModel, KomtError
from ..variants import variants
from . import cache, records
from .facts import Facts, describe, type_known
from .find import EMBEDDED_NAME, embedded, resolve_text


@dataclass(frozen=True, slots=True)
class Entry:
    """One model on this machine. `template` is the text it carries; `problem` if it is unusable."""

    name: str
    path: Path
    origin: str
    type: str
    size: int
    chat_template: str | None
    last_used: str
    aliases: tuple[str, ...]
    is_default: bool
    problem: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"path": str(self.path)}


def contents() -> list[Entry]:
    """The embedded model, then what was made or imported, then the Hugging Face cache."""
    state = records.load()
    called = _called(state.aliases)
    default = _where(state.default) if state.default else embedded()
    return [
        Entry(
            name=name,
            path=paths[0],
            origin=origin,
            size=sum(part.stat().st_size for part in paths if part.is_file()),
            last_used=state.used.get(str(paths[0]), ""),
            aliases=tuple(called.get(paths[0], ())),
            is_default=paths[0] == default,
            **_header(paths[0]),
        )
        for name, paths, origin in _places(state)
    ]


def names() -> list[str]:
    """What everything on this machine is called, for completion."""
    state = records.load()
    return [*state.aliases, *(name for name, _, _ in _places(state))]


def _called(aliases: dict[str, str]) -> dict[Path, list[str]]:
    """The aliases of each file."""
    called: dict[Path, list[str]] = {}
    for alias, target in sorted(aliases.items()):
        if path := _where(target):
            called.setdefault(path, []).append(alias)
    return called


def _where(target: str) -> Path | None:
    """The file that a reference names; None for one that is gone."""
    try:
        return resolve_text(target)
    except KomtError:
        return None


def _header(path: Path) -> dict[str, Any]:
    """What the file's header says of type and template, or what is wrong with it."""
    facts, problem = _facts(path)
    return {
        "type": type_known(path, facts),
        "chat_template": facts.chat_template if facts else None,
        "problem": problem,
    }


def _facts(path: Path) -> tuple[Facts | None, str]:
    if not path.is_file():
        return None, "missing"
    try:
        return describe(path), ""
    except InvalidModel:
        return None, "invalid"


def _places(state: records.State) -> Iterator[tuple[str, list[Path], str]]:
    if embedded().is_file():
        yield EMBEDDED_NAME, [embedded()], "embedded"
    for record in state.records.values():
        path = Path(record.path)
        if record.origin != "pulled" and not cache.is_in_cache(path):
            yield record.title, [path], record.origin
    for repo in cache.repos():
        for name, paths in _in_cache(repo):
            yield name, paths, "cache"


def _in_cache(repo: cache.CachedRepo) -> Iterator[tuple[str, list[Path]]]:
    files = repo.files()
    found = variants({name: path.stat().st_size for name, path in files.items()})
    types = [variant.type for variant in found]
    for variant in found:
        unique = variant.type and types.count(variant.type) == 1
        name = f"{repo.name}:{variant.type}" if unique else f"{repo.name}/{variant.files[0]}"
        yield name, [files[file] for file in variant.files]
