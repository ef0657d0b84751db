"""The Korean models that komt-local knows by name: a data file, read when it is asked for.

Facts and their sources are in `catalogue.toml` beside this module. What could not be confirmed is
listed there as such; the file that is downloaded decides in any case.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class Model:
    """One checkpoint, or with `adapter_of` a LoRA adapter on that one.

    `gguf` are repositories with ready files, the best first; `ggufs` names files known in them.
    `copies` are repositories with the same checkpoint once more.
    `parameters` and `context` (tokens) are 0 where unknown. `licence` is an SPDX name or the
    publisher's own, `restrictions` what it forbids, in English and Korean. `unconfirmed` names the
    fields that no source at hand states.
    """

    name: str
    title: str
    checkpoint: str
    architecture: str
    template: str
    licence: str
    parameters: float
    context: int
    aliases: tuple[str, ...] = ()
    adapter_of: str = ""
    gguf: tuple[str, ...] = ()
    ggufs: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    restrictions: str = ""
    restrictions_ko: str = ""
    note: str = ""
    note_ko: str = ""
    unconfirmed: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def names(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)

    def memory(self) -> dict[str, int]:
        """By type, the bytes of memory of the smallest machine that it fits; {} for an adapter."""
        from .variants import BITS_PER_WEIGHT, file_bytes, needed

        if not self.parameters:
            return {}
        return {type_: needed(file_bytes(self.parameters, type_)) for type_ in BITS_PER_WEIGHT}

    def repos(self) -> tuple[str, ...]:
        """Where its files may lie, ready ones first."""
        return (*self.gguf, self.checkpoint, *self.copies)


@cache
def models() -> tuple[Model, ...]:
    """All models, in the order of the data file."""
    import tomllib

    text = files(__package__).joinpath("catalogue.toml").read_text(encoding="utf-8")
    return tuple(_model(entry) for entry in tomllib.loads(text)["model"])


def find(name: str) -> Model | None:
    """The model of that name or alias, in any case."""
    return _by_name().get(name.lower())


def of_repo(repo: str) -> Model | None:
    """The model whose checkpoint or GGUF files lie in `org/repo`."""
    wanted = repo.lower()
    return next((m for m in models() if wanted in (r.lower() for r in m.repos())), None)


def of_identity(said: Mapping[str, Any]) -> Model | None:
    """The model that a file's metadata names: by its repository, its name, or its base model.

    `said` are keys `general.…` of a GGUF. A base model counts last: a fine-tune often keeps the
    prompt of what it was made from, but not always.
    """
    texts = {key: value for key, value in said.items() if isinstance(value, str)}
    own = [texts[key] for key in _REPOSITORY_KEYS if key in texts]
    names = [texts[key] for key in ("general.name", "general.basename") if key in texts]
    bases = [value for key, value in sorted(texts.items()) if _BASE_REPOSITORY.match(key)]
    base_names = [value for key, value in sorted(texts.items()) if _BASE_NAME.match(key)]
    found = (*map(_of_url, own), *map(_of_title, names), *map(_of_url, bases))
    return next(filter(None, (*found, *map(_of_title, base_names))), None)


_REPOSITORY_KEYS = (
    "general.source.huggingface.repository",
    "general.source.repo_url",
    "general.source.url",
    "general.repo_url",
    "general.url",
)
_BASE_REPOSITORY = re.compile(r"general\.base_model\.\d+\.repo_url$")
_BASE_NAME = re.compile(r"general\.base_model\.\d+\.name$")
_NO_LETTER = re.compile(r"[\W_]+")


def _of_url(text: str) -> Model | None:
    """By the `org/repo` at the end of an address of a hub, or by that alone."""
    parts = text.rstrip("/").split("/")
    return of_repo("/".join(parts[-2:])) if len(parts) >= 2 else None


def _of_title(text: str) -> Model | None:
    """By a name or title that is the same but for case and punctuation."""
    wanted = _NO_LETTER.sub("", text).lower()
    return next((m for m in models() if wanted in _titles(m)), None)


def _titles(model: Model) -> set[str]:
    own = (*model.names(), model.title, *(repo.split("/")[-1] for repo in model.repos()))
    return {_NO_LETTER.sub("", text).lower() for text in own}


def near(name: str) -> list[str]:
    """Names that look like it."""
    from difflib import get_close_matches

    return get_close_matches(name.lower(), _by_name(), n=3)


@cache
def _by_name() -> dict[str, Model]:
    return {name: model for model in models() for name in model.names()}


def _model(entry: dict[str, Any]) -> Model:
    known = {item.name for item in fields(Model)}
    if unknown := entry.keys() - known:
        raise ValueError(f"catalogue.toml: {entry.get('name')} has unknown keys {unknown}")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    return Model(**values)
