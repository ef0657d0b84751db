"""What `convert` and `verify` start from: folders, or what the hub and the cache have by that name.

An adapter brings the model that it was trained on with it, if it names one and that is not here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import catalogue
from ..errors import BadReference
from ..references import parse
from .options import adapters_of
from .output import note


@dataclass(frozen=True, slots=True)
class Sources:
    """Folders (or a file of 2023), the adapters with how strongly each counts."""

    model: str
    adapters: list[tuple[str, float]]
    base: str | None


def bring(text: str, given: Any, *, weights: bool = True) -> Sources:
    """The source, and what `--lora`, `--lora-scale` and `--base` name beside it, downloaded.

    Without `weights`, of an adapter's base only the config is brought.
    """
    from komt_convert.lora_file import is_adapter

    scales = adapters_of(given)
    model, base = _brought(text, given), given["base"]
    adapters = [(_brought(path, given), scale) for path, scale in scales]
    if is_adapter(Path(model)):
        base = base or _named_base(text, Path(model), given)
        base = base and _brought(base, given, weights=weights)
    return Sources(model, adapters, base)


def _named_base(text: str, adapter: Path, given: Any) -> str | None:
    """The repository that an adapter names as its base, if that model lies nowhere near."""
    from komt_convert.errors import SourceError
    from komt_convert.lora_file import read_adapter
    from komt_convert.sources import base_of

    try:
        base_of(adapter)
    except SourceError:
        name = read_adapter(adapter).base
        if not _is_elsewhere(name):
            raise
        if not given["quiet"]:
            note(
                f"{text} was trained on {name}, which is brought as well; --base takes another.",
                f"{text} 어댑터를 학습한 {name}도 가져옵니다. 다른 모델은 --base로 정하세요.",
            )
        return name
    return None


def _brought(text: str, given: Any, *, weights: bool = True) -> str:
    """As a path: a repository or a name of the catalogue is downloaded first."""
    if not _is_elsewhere(text):
        return text
    from .. import hub
    from .bars import bars

    with bars(hidden=given["quiet"]) as step:
        folder = hub.source(
            text,
            hub=hub.Hub.here(offline=given["offline"]),
            weights=weights,
            on_progress=lambda p: step(p.stage, Path(p.file).name, p.done, p.total),
        )
    return str(folder)


def _is_elsewhere(text: str) -> bool:
    """Whether it names a repository or a model of the catalogue, and no path that is here."""
    if os.path.exists(os.path.expanduser(text)):  # Path raises for ~nobody and for endless names
        return False
    try:
        return catalogue.find(text) is not None or parse(text).kind == "repo"
    except BadReference:
        return False
