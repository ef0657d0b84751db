"""Names of the user's own: aliases, and the model that is taken when none is named."""

from __future__ import annotations

from pathlib import Path

from ..errors import UsageError
from ..references import is_name
from . import records
from .find import EMBEDDED_NAME, existing_file, expand


def set_alias(name: str, target: str) -> None:
    """Let `name` stand for a reference or a path (kept absolute). Raises UsageError."""
    if not is_name(name) or name == EMBEDDED_NAME:
        raise UsageError(
            f"{name!r} cannot be an alias; take one word without '/', ':' and '@'.",
            f"{name!r}은(는) 별칭으로 쓸 수 없습니다. '/', ':', '@'가 없는 한 낱말로 정하세요.",
        )
    with records.editing() as state:
        state.aliases[name] = _lasting(target)


def unset_alias(name: str) -> None:
    """Raises UsageError when there is no such alias."""
    with records.editing() as state:
        if name not in state.aliases:
            raise UsageError(
                f"There is no alias {name!r}; `komt-local alias` lists them.",
                f"{name!r}(이)라는 별칭은 없습니다. `komt-local alias`로 확인하세요.",
            )
        del state.aliases[name]


def set_default(target: str | None) -> None:
    """The model that commands take when none is named; None goes back to the embedded one."""
    with records.editing() as state:
        state.default = None if target is None else _lasting(target)


def _lasting(target: str) -> str:
    """A reference as it is, a path as an absolute one, so that it holds in every folder."""
    if path := existing_file(target):
        return str(path.absolute())
    reference = expand(target)
    is_path = reference.kind == "path"
    return str(Path(reference.name).absolute()) if is_path else str(reference)
