"""Who made a model and from what: the `general.` keys, from its model card and configs.

The guesses (a name from the folder, the size and base model from names) are those of the gguf
package, which llama.cpp's own converter uses, so that programs which list GGUF files show this one
alike. What a file computes is not described here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

from komt_convert.checkpoint import read_json
from komt_convert.metadata import Metadata, f32, i32, text, texts, u32

TEXTS = {
    "name": "name",
    "author": "author",
    "version": "version",
    "organization": "organization",
    "finetune": "finetune",
    "basename": "basename",
    "description": "description",
    "size_label": "size_label",
    "license": "license",
    "license_name": "license.name",
    "license_link": "license.link",
    "url": "url",
    "doi": "doi",
    "uuid": "uuid",
    "repo_url": "repo_url",
    "source_url": "source.url",
    "source_doi": "source.doi",
    "source_uuid": "source.uuid",
    "source_repo_url": "source.repo_url",
}
"""Attribute of gguf.Metadata → key below `general.`, in the order of llama.cpp's converter."""

PARTS = ("name", "author", "version", "organization", "description", "url", "doi", "repo_url")

SAMPLING = {
    "top_k": ("top_k", int),
    "top_p": ("top_p", float),
    "min_p": ("min_p", float),
    "temperature": ("temp", float),
    "repetition_penalty": ("penalty_repeat", float),
}
"""Entry of generation_config.json → key below `general.sampling.`, for llama.cpp's own tools."""

MAX_CARD_BYTES = 4 << 20
MAX_FRONT_MATTER = 1 << 16
"""In letters; the YAML package reads that many in a second."""


def describe(folder: Path, n_parameters: int, *, name: str | None = None) -> Metadata:
    """The `general.` keys for the checkpoint in `folder`; `name` overrules what is found.

    A model card that cannot be parsed counts as absent: nothing depends on it.
    """
    import gguf

    folder = folder.resolve()
    repository = repository_of(folder)
    model_id = repository or read_json(folder / "config.json").get("_name_or_path")
    found = _load(folder, Path(repository or folder), model_id, n_parameters)
    found.name = name or found.name or folder.name
    found.size_label = found.size_label or gguf.size_label(n_parameters, n_parameters, 0, 0)
    found.source_repo_url = found.source_repo_url or _page(model_id)
    keys = {"general.type": text("model")}
    for attribute, key in TEXTS.items():
        if value := _text(getattr(found, attribute)):
            keys[f"general.{key}"] = text(value)
    keys |= _numbered("base_model", found.base_models or ())
    keys |= _numbered("dataset", found.datasets or ())
    for key in ("tags", "languages"):
        if values := [str(value) for value in getattr(found, key) or ()]:
            keys[f"general.{key}"] = texts(values)
    return keys | _sampling(read_json(folder / "generation_config.json"))


def repository_of(folder: Path) -> str:
    """org/repo, if it is a snapshot in the cache of huggingface_hub, which a commit gives its name.

    https://huggingface.co/docs/huggingface_hub/guides/manage-cache
    """
    owner, _, name = folder.parent.parent.name.removeprefix("models--").partition("--")
    return f"{owner}/{name}" if folder.parent.name == "snapshots" and name else ""


def called(folder: Path) -> str:
    """What a model is called after where it lies."""
    folder = folder.resolve()
    return repository_of(folder).rpartition("/")[2] or folder.name


def _load(folder: Path, place: Path, model_id: object, n_parameters: int) -> Any:
    """What the card in `folder` and the names tell; the last name of `place` is one of them."""
    import gguf

    config = {"_name_or_path": model_id} if isinstance(model_id, str) else {}

    def known(card: dict[str, Any]) -> Any:
        return gguf.Metadata.apply_metadata_heuristic(
            gguf.Metadata(), card, config, place, n_parameters
        )

    try:
        _refuse_endless(folder / "README.md")
        return known(gguf.Metadata.load_model_card(folder))
    except Exception:  # whatever YAML people write by hand, it is no reason to stop
        return known({})


def _refuse_endless(card: Path) -> None:
    """Raises ValueError for a card that takes no end of time or memory to read.

    YAML may name a list within another, and again: a few lines of aliases are gigabytes as text.
    """
    import yaml

    if not card.is_file():
        return
    if card.stat().st_size > MAX_CARD_BYTES:
        raise ValueError("too large")
    first, *lines = card.read_text(encoding="utf-8").splitlines() or [""]
    front = "\n".join(takewhile("---".__ne__, lines)) if first == "---" else ""
    if len(front) > MAX_FRONT_MATTER:
        raise ValueError("too long")
    if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(front.replace("\t", "  "))):
        raise ValueError("has aliases")


def _text(value: Any) -> str:
    """Cards hold texts, and lists of them for `license`."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value or "")


def _numbered(what: str, entries: Iterable[Mapping[str, Any]]) -> Metadata:
    entries = list(entries)
    if not entries:
        return {}
    keys: Metadata = {f"general.{what}.count": u32(len(entries))}
    for i, entry in enumerate(entries):
        for part in PARTS:
            if value := _text(entry.get(part)):
                keys[f"general.{what}.{i}.{part}"] = text(value)
    return keys


def _page(model_id: object) -> str | None:
    """The page of a model on the hub, if it is called like one there."""
    if not isinstance(model_id, str) or model_id.count("/") != 1 or "\\" in model_id:
        return None
    owner, name = model_id.split("/")
    return f"https://huggingface.co/{owner}/{name}" if owner.strip(".~") and name else None


def _sampling(config: Mapping[str, Any]) -> Metadata:
    found: Metadata = {}
    for entry, (key, kind) in SAMPLING.items():
        number = config.get(entry)
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            found[f"general.sampling.{key}"] = i32(int(number)) if kind is int else f32(number)
    return found
