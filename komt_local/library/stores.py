"""Model files that other programs keep: the folders of LM Studio and the store of Ollama.

Ollama keeps blobs named by their SHA-256 and says in JSON manifests which one is which model;
LM Studio keeps `publisher/repository/file.gguf`. Both are only read.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelNotFound
from ..variants import type_of

_MODEL_LAYER = "application/vnd.ollama.image.model"
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Found:
    """A GGUF file somewhere: what to call it, and its SHA-256 where the store knows it."""

    path: Path
    name: str
    sha256: str = ""
    repo: str = ""


def find(source: str) -> list[Found]:
    """What `source` names: a file, a folder, `ollama`, `ollama:NAME`, or `lm-studio`.

    Raises ModelNotFound when there is no GGUF file in it.
    """
    found = sorted(_look(source), key=lambda item: item.name)
    if not found:
        raise ModelNotFound(
            f"There is no GGUF file in {source!r}; give a file, a folder, `ollama` or `lm-studio`.",
            f"{source!r}에 GGUF 파일이 없습니다. 파일이나 폴더, `ollama`, `lm-studio`를 주세요.",
        )
    return found


def _look(source: str) -> Iterator[Found]:
    program, _, wanted = source.partition(":")
    if program == "ollama":
        models = _in_ollama(ollama_folder())
        yield from (m for m in models if not wanted or m.name == _without_latest(wanted))
    elif source in ("lm-studio", "lmstudio"):
        for folder in lm_studio_folders():
            yield from _in_folder(folder)
    else:
        path = Path(source).expanduser()
        yield from _in_path(path)


def _in_path(path: Path) -> Iterator[Found]:
    if path.is_file():
        yield Found(path.absolute(), path.stem)
    elif (path / "manifests").is_dir() and (path / "blobs").is_dir():
        yield from _in_ollama(path)
    elif path.is_dir():
        yield from _in_folder(path)


def ollama_folder() -> Path:
    """Where Ollama keeps its models, as OLLAMA_MODELS says, or for a user, or as a service."""
    if folder := os.environ.get("OLLAMA_MODELS"):
        return Path(folder).expanduser()
    own = Path.home() / ".ollama" / "models"
    service = Path("/usr/share/ollama/.ollama/models")
    return service if service.is_dir() and not own.is_dir() else own


def lm_studio_folders() -> list[Path]:
    """Where LM Studio keeps its models: today's folder and that of older versions."""
    home = Path.home()
    return [home / ".lmstudio" / "models", home / ".cache" / "lm-studio" / "models"]


def _in_folder(folder: Path) -> Iterator[Found]:
    """GGUF files in a folder and below; two folders deep, they are named as LM Studio does."""
    for path in sorted(folder.rglob("*.[gG][gG][uU][fF]")):
        parts = path.relative_to(folder).parts
        type_ = type_of(path.name)
        if "mmproj" in path.name.lower():
            continue
        if len(parts) == 3 and type_:
            repo = "/".join(parts[:2])
            yield Found(path.absolute(), f"{repo}:{type_}", repo=repo)
        else:
            yield Found(path.absolute(), path.stem)


def _in_ollama(folder: Path) -> Iterator[Found]:
    for manifest in sorted((folder / "manifests").rglob("*")):
        if not manifest.is_file():
            continue
        digest = _model_digest(manifest)
        blob = folder / "blobs" / f"sha256-{digest}"
        if digest and blob.is_file():
            yield Found(blob.absolute(), _ollama_name(folder, manifest), digest)


def _ollama_name(folder: Path, manifest: Path) -> str:
    """`manifests/registry.ollama.ai/library/NAME/TAG` is NAME:TAG to Ollama's users."""
    *place, name, tag = manifest.relative_to(folder / "manifests").parts
    owner = place[-1] if place and place[-1] != "library" else ""
    return _without_latest(f"{owner}-{name}:{tag}" if owner else f"{name}:{tag}")


def _without_latest(name: str) -> str:
    """One word that can be an alias: the tag joined by a dash, and left out when it is `latest`."""
    return name.removesuffix(":latest").replace(":", "-")


def _model_digest(manifest: Path) -> str:
    """The SHA-256 of the layer that holds the weights; empty for what is no such manifest."""
    try:
        value: Any = json.loads(manifest.read_text(encoding="utf-8"))
        layers = [item for item in value["layers"] if item["mediaType"] == _MODEL_LAYER]
        match = _DIGEST.fullmatch(layers[0]["digest"])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return ""
    return match[1] if match else ""
