"""Checkpoints on the hub: which of a repository's files make one, and how it comes here.

What converts is asked of the converter before the weights are downloaded, from the config alone.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from .. import catalogue
from ..errors import ModelError, UsageError
from ..library.cache import repo as cached_repo
from ..library.find import expand
from ..references import Reference
from .api import Hub, Repository, read_repository
from .download import OnProgress, download
from .failures import offline
from .waiting import Wait

_BESIDE = (".json", ".model", ".txt", ".jinja")
_NOT_OURS = ("consolidated", "adapter_", "training_", "optimizer", "trainer_")


def weight_files(repository: Repository) -> list[str]:
    """The safetensors of the model: those called `model…` where there are such."""
    found = [name for name in _top(repository) if name.endswith(".safetensors")]
    return [name for name in found if name.startswith("model")] or found


def wanted_files(repository: Repository) -> list[str]:
    """Everything that a conversion reads, small files first."""
    small = [name for name in _top(repository) if name.endswith(_BESIDE) or name == "README.md"]
    return small + weight_files(repository)


def _top(repository: Repository) -> list[str]:
    return sorted(
        name for name in repository.files if "/" not in name and not name.startswith(_NOT_OURS)
    )


def refuse_unreadable(hub: Hub, repository: Repository, wait: Wait = time.sleep) -> None:
    """Say what speaks against a conversion before gigabytes are downloaded for it.

    Raises ModelError, or what the converter says of the config.
    """
    name = repository.name
    if "config.json" not in repository.files:
        raise _adapter(name) if "adapter_config.json" in repository.files else _no_model(name)
    if not weight_files(repository):
        raise _no_safetensors(name)
    config = download(hub, repository, repository.files["config.json"], wait=wait)
    _look_up(config)


def _look_up(config: Path) -> None:
    from komt_convert import arch
    from komt_convert.checkpoint import read_json

    arch.lookup(read_json(config))


def checkpoint(
    text: str,
    *,
    hub: Hub | None = None,
    on_progress: OnProgress = lambda progress: None,
    wait: Wait = time.sleep,
) -> Path:
    """The folder of the checkpoint that a reference names, downloaded if it is not here.

    A folder that exists is returned as it is. Raises as `download` does, and ModelError for what
    the converter cannot read.
    """
    if Path(text).expanduser().exists():
        return Path(text).expanduser()
    reference = _of_checkpoint(expand(text), text)
    hub = hub or Hub.here()
    if hub.offline:
        return _here(hub, reference)
    repository = read_repository(hub, reference.name, reference.revision, wait=wait)
    refuse_unreadable(hub, repository, wait)
    return bring(hub, repository, on_progress=on_progress, wait=wait)


def bring(
    hub: Hub,
    repository: Repository,
    *,
    on_progress: OnProgress = lambda progress: None,
    wait: Wait = time.sleep,
) -> Path:
    """Download everything that a conversion reads; the folder of the snapshot."""
    for name in wanted_files(repository):
        download(hub, repository, repository.files[name], on_progress=on_progress, wait=wait)
    return cached_repo(repository.name, hub.cache).folder / "snapshots" / repository.commit


def _of_checkpoint(reference: Reference, text: str) -> Reference:
    """The repository with the weights; for a name of the catalogue, its checkpoint."""
    model = catalogue.find(reference.name) if reference.kind == "name" else None
    if model is not None:
        return Reference("repo", model.checkpoint, revision=reference.revision)
    if reference.kind != "repo" or reference.file:
        raise UsageError(
            f"{text!r} is no checkpoint; give the folder of one, org/repo, or a name that "
            "`komt-local list --all` shows.",
            f"{text!r}은(는) 체크포인트가 아닙니다. 체크포인트 폴더나 org/repo, 또는 "
            "`komt-local list --all`에 나오는 이름을 주세요.",
        )
    return reference


def _here(hub: Hub, reference: Reference) -> Path:
    """The snapshot in the cache, if it has a config; the converter checks the rest."""
    there = cached_repo(reference.name, hub.cache)
    commit = there.commit(reference.revision or "main")
    folder = there.folder / "snapshots" / (commit or "-")
    if not (folder / "config.json").is_file():
        raise offline(reference.name)
    return folder


def carries_template(folder: Path) -> bool:
    """Whether the checkpoint's tokenizer has a chat template of its own."""
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return True
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        return bool(settings.get("chat_template"))
    except (OSError, ValueError, AttributeError):
        return False


def _adapter(name: str) -> ModelError:
    return ModelError(
        f"{name} is a LoRA adapter, not a model; convert its base model.",
        f"{name}은(는) 모델이 아니라 LoRA 어댑터입니다. 기반 모델을 변환하세요.",
    )


def _no_model(name: str) -> ModelError:
    return ModelError(
        f"{name} holds neither a GGUF file nor a checkpoint (config.json); look at what it is on "
        "its page.",
        f"{name} 저장소에는 GGUF 파일도 체크포인트(config.json)도 없습니다. 모델 페이지에서 "
        "확인하세요.",
    )


def _no_safetensors(name: str) -> ModelError:
    return ModelError(
        f"{name} has its weights not as safetensors, which is all that is read from the hub; load "
        "it with transformers and save it again with save_pretrained().",
        f"{name}의 가중치가 safetensors가 아니라 읽지 않습니다. transformers로 불러와 "
        "save_pretrained()로 다시 저장하세요.",
    )
