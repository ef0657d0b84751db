"""What a pull will do, before it does anything: which files, how many bytes, which licence.

A reference becomes either ready GGUF files or a checkpoint to convert. The hub is asked, the disk
is looked at; nothing is downloaded but the config of a checkpoint, which says if it can be
converted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from .. import catalogue
from ..errors import ModelNotFound, UsageError
from ..library import records
from ..library.cache import repo as cached_repo
from ..library.find import expand, spelled
from ..references import Reference
from ..variants import Variant, best_type, choose, file_bytes, matching, variants
from .api import Hub, RemoteFile, Repository, read_repository
from .checkpoints import (
    adapter_alone,
    is_adapter,
    refuse_unreadable,
    wanted_files,
    weight_files,
)
from .download import Place
from .machine import memory_bytes


@dataclass(frozen=True, slots=True)
class Plan:
    """A pull that can be carried out. Sizes are in bytes.

    `files` come in order, `type` is what the model will have, `chosen` says that it was chosen by
    `memory`. With `out`, the files are a checkpoint that is converted to it.
    """

    reference: Reference
    repository: Repository
    files: tuple[RemoteFile, ...]
    type: str
    size: int
    to_download: int
    memory: int
    chosen: bool
    model: catalogue.Model | None
    out: Path | None = None

    @property
    def licence(self) -> str:
        """As the repository states it, or the catalogue."""
        return self.repository.licence or (self.model.licence if self.model else "")

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to do."""
        return self.out.is_file() if self.out else self.to_download == 0


def make_plan(hub: Hub, text: str, *, quant: str | None = None, memory: int | None = None) -> Plan:
    """What `komt-local pull` would do for a reference.

    `quant` is the type that is wanted, as is the part after the colon; without either, the best
    that fits `memory` (bytes; default this machine's) is taken.
    """
    reference = with_type(expand(text), quant)
    memory = memory or memory_bytes()
    if reference.kind == "path":
        raise UsageError(
            f"{text!r} is a path; pull takes org/repo or a name that `komt-local list --all` "
            "shows, and a file that is here already is used as it is.",
            f"{text!r}은(는) 경로입니다. pull에는 org/repo나 `komt-local list --all`에 나오는 "
            "이름을 주세요. 이미 있는 파일은 그대로 쓰면 됩니다.",
        )
    if reference.kind == "name":
        return _plan_for_model(hub, reference, memory)
    reference = replace(reference, name=spelled(reference.name))
    repository = read_repository(hub, reference.name, reference.revision)
    model = catalogue.of_repo(reference.name)
    found = variants(repository.sizes())
    if found and (matching(reference, found) or reference.file):
        return _plan_files(hub, reference, repository, found, memory, model)
    return _plan_conversion(hub, reference, repository, found, memory, model)


def with_type(reference: Reference, quant: str | None) -> Reference:
    """The reference with the type that `-q` asks for. Raises UsageError when it has another."""
    wanted = (quant or "").upper()
    if wanted and reference.type and wanted != reference.type:
        raise UsageError(
            f"{reference} asks for {reference.type} and -q for {wanted}; give one of them.",
            f"{reference}은(는) {reference.type}, -q는 {wanted}입니다. 하나만 주세요.",
        )
    return replace(reference, type=reference.type or wanted)


def _plan_for_model(hub: Hub, reference: Reference, memory: int) -> Plan:
    """For a model of the catalogue: ready files first, then its checkpoint."""
    model = catalogue.find(reference.name)
    if model is None:
        raise _no_such_model(reference.name)
    for there, repository, found in _ready(hub, reference, model):
        if matching(there, found):
            return _plan_files(hub, there, repository, found, memory, model)
    there = replace(reference, kind="repo", name=model.checkpoint)
    repository = read_repository(hub, model.checkpoint, reference.revision)
    found = variants(repository.sizes())
    return _plan_conversion(hub, there, repository, found, memory, model)


def _ready(
    hub: Hub, reference: Reference, model: catalogue.Model
) -> Iterator[tuple[Reference, Repository, list[Variant]]]:
    """The repositories with ready files that are still there."""
    for name in model.gguf:
        try:
            repository = read_repository(hub, name, reference.revision)
        except ModelNotFound:
            continue
        there = replace(reference, kind="repo", name=name)
        yield there, repository, variants(repository.sizes())


def _plan_files(
    hub: Hub,
    reference: Reference,
    repository: Repository,
    found: list[Variant],
    memory: int,
    model: catalogue.Model | None,
) -> Plan:
    variant = choose(reference, found, memory)
    files = tuple(repository.files[name] for name in variant.files)
    is_free = not reference.type and not reference.file and len(found) > 1
    return Plan(
        reference=reference,
        repository=repository,
        files=files,
        type=variant.type,
        size=variant.size,
        to_download=missing_bytes(hub, repository, files),
        memory=memory,
        chosen=is_free,
        model=model,
    )


def _plan_conversion(
    hub: Hub,
    reference: Reference,
    repository: Repository,
    found: list[Variant],
    memory: int,
    model: catalogue.Model | None,
) -> Plan:
    """Convert the checkpoint, if there is one that can be."""
    if found and not weight_files(repository):
        choose(reference, found, memory)  # says which types there are
    if is_adapter(repository):
        raise adapter_alone(repository.name)
    refuse_unreadable(hub, repository)
    weights = sum(repository.files[name].size for name in weight_files(repository))
    parameters = (model.parameters if model else 0) or repository.parameters or weights / 2
    type_ = _known(reference.type) if reference.type else best_type(parameters, memory)
    files = tuple(repository.files[name] for name in wanted_files(repository))
    name = model.name if model else repository.name
    out = records.models_folder() / f"{name.replace('/', '--')}-{type_}.gguf"
    return Plan(
        reference=reference,
        repository=repository,
        files=files,
        type=type_,
        size=file_bytes(parameters, type_),
        to_download=missing_bytes(hub, repository, files),
        memory=memory,
        chosen=not reference.type,
        model=model,
        out=out,
    )


def _known(type_: str) -> str:
    """The type's name as the converter has it. Raises QuantizationError."""
    from komt_convert.recipes import file_type

    return file_type(type_).name


def missing_bytes(hub: Hub, repository: Repository, files: tuple[RemoteFile, ...]) -> int:
    """How much is still to come."""
    there = cached_repo(repository.name, hub.cache)
    return sum(Place(there, repository.commit, file).missing_bytes() for file in files)


def _no_such_model(name: str) -> ModelNotFound:
    near = ", ".join(catalogue.near(name))
    en, ko = (f"did you mean {near}? ", f"혹시 {near}? ") if near else ("", "")
    return ModelNotFound(
        f"There is no model called {name!r} to pull; {en}`komt-local list --all` shows the names, "
        "and org/repo names any repository of the hub.",
        f"{name!r}(이)라는 받을 모델이 없습니다. {ko}`komt-local list --all`에 이름이 나오고, "
        "org/repo로 허브의 어떤 저장소든 부를 수 있습니다.",
    )
