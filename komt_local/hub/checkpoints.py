"""Checkpoints and adapters on the hub: which of a repository's files make one, and how it comes
here.

What converts is asked of the converter before the weights are downloaded, from the config alone.
"""

from __future__ import annotations

import json
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

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
_NOT_OURS = ("consolidated", "training_", "optimizer", "trainer_")


def is_adapter(repository: Repository) -> bool:
    """Whether it holds an adapter and no model."""
    return "adapter_config.json" in repository.files and "config.json" not in repository.files


def weight_files(repository: Repository) -> list[str]:
    """The files that transformers would load, or PEFT: safetensors before pickles."""
    stems = ("adapter_model",) * 2 if is_adapter(repository) else ("model", "pytorch_model")
    for stem, ending in zip(stems, (".safetensors", ".bin"), strict=True):
        names = [n for n in _top(repository) if n.startswith(stem) and n.endswith(ending)]
        if names:
            return names
    return []


def wanted_files(repository: Repository) -> list[str]:
    """Everything that a conversion reads, small files first."""
    not_ours = _NOT_OURS if is_adapter(repository) else (*_NOT_OURS, "adapter_")
    small = [
        name
        for name in _top(repository)
        if (name.endswith(_BESIDE) or name == "README.md") and not name.startswith(not_ours)
    ]
    return small + weight_files(repository)


def _top(repository: Repository) -> list[str]:
    return sorted(name for name in repository.files if "/" not in name)


def refuse_unreadable(
    hub: Hub, repository: Repository, wait: Wait = time.sleep, *, weights: bool = True
) -> None:
    """Say what speaks against a conversion before gigabytes are downloaded for it.

    Raises ModelError, or what the converter says of the config.
    """
    name, has_config = repository.name, "config.json" in repository.files
    if not has_config and not is_adapter(repository):
        raise _no_model(name)
    if weights:
        _refuse_weights(repository)
    if has_config:
        _look_up(name, download(hub, repository, repository.files["config.json"], wait=wait))


def _refuse_weights(repository: Repository) -> None:
    files = weight_files(repository)
    if not files:
        raise _no_weights(repository)
    if files[0].endswith(".bin") and find_spec("torch") is None:
        raise _no_torch(repository)


def _look_up(name: str, path: Path) -> None:
    """Ask the converter whether it knows such a model, and refuse one that is quantized."""
    from komt_convert import arch

    config = _read_object(path)
    if settings := config.get("quantization_config"):
        raise _quantized(name, settings)
    arch.lookup(config)


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def source(
    text: str,
    *,
    hub: Hub | None = None,
    weights: bool = True,
    on_progress: OnProgress = lambda progress: None,
    wait: Wait = time.sleep,
) -> Path:
    """The folder of the checkpoint or adapter that a reference names, downloaded if not here.

    A folder that exists is returned as it is. Without `weights`, only the config is brought.
    Raises as `download` does, and ModelError for what the converter cannot read.
    """
    if Path(text).expanduser().exists():
        return Path(text).expanduser()
    reference = _of_checkpoint(expand(text), text)
    hub = hub or Hub.here()
    if hub.offline:
        return _here(hub, reference)
    repository = read_repository(hub, reference.name, reference.revision, wait=wait)
    refuse_unreadable(hub, repository, wait, weights=weights)
    if not weights:
        return _snapshot(hub, repository)
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
    return _snapshot(hub, repository)


def _snapshot(hub: Hub, repository: Repository) -> Path:
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
    if not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise offline(reference.name)
    return folder


def carries_template(folder: Path) -> bool:
    """Whether the checkpoint's tokenizer has a chat template of its own."""
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return True
    return bool(_read_object(folder / "tokenizer_config.json").get("chat_template"))


def adapter_alone(name: str) -> ModelError:
    return ModelError(
        f"{name} is a LoRA adapter and no model; merge it into the one that it was trained on: "
        f"komt-local convert {name} -o OUT.gguf",
        f"{name}은(는) 모델이 아니라 LoRA 어댑터입니다. 학습한 기반 모델에 합치세요: "
        f"komt-local convert {name} -o OUT.gguf",
    )


def _no_model(name: str) -> ModelError:
    return ModelError(
        f"{name} holds neither a GGUF file nor a checkpoint (config.json); look at what it is on "
        "its page.",
        f"{name} 저장소에는 GGUF 파일도 체크포인트(config.json)도 없습니다. 모델 페이지에서 "
        "확인하세요.",
    )


def _no_weights(repository: Repository) -> ModelError:
    name = repository.name
    config, *files = (
        ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
        if is_adapter(repository)
        else ("config.json", "model.safetensors", "pytorch_model.bin")
    )
    return ModelError(
        f"{name} has {config}, but neither {files[0]} nor {files[1]}; look for the repository with "
        "the weights on its page.",
        f"{name} 저장소에 {config}은 있지만 {files[0]}도 {files[1]}도 없습니다. "
        "가중치가 있는 저장소를 모델 페이지에서 찾으세요.",
    )


def _no_torch(repository: Repository) -> ModelError:
    name, file = repository.name, weight_files(repository)[0]
    return ModelError(
        f"{name} has its weights as {file}, which takes torch to read; install it with "
        "pip install 'komt-local[convert]'.",
        f"{name}의 가중치는 {file} 파일이라 읽으려면 torch가 필요합니다. "
        "pip install 'komt-local[convert]'로 설치하세요.",
    )


def _quantized(name: str, settings: Any) -> ModelError:
    method = settings.get("quant_method") if isinstance(settings, dict) else None
    return ModelError(
        f"{name} is quantized already ({method or 'quantization_config'}) and cannot be converted; "
        "pull the original checkpoint.",
        f"{name}은(는) 이미 양자화되어({method or 'quantization_config'}) 변환할 수 없습니다. 원본 "
        "체크포인트를 받으세요.",
    )
