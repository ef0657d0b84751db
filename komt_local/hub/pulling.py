"""Carrying out a plan: files come here, a checkpoint is converted; both are proven and noted."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DownloadError, ModelNotFound
from ..library import cache, describe, records
from ..library.digests import expected
from ..library.find import expand, resolve_text
from ..library.records import Record
from .api import Hub
from .checkpoints import bring, carries_template, weight_files
from .download import OnProgress, download
from .failures import offline as offline_error
from .plan import Plan, make_plan, with_type
from .waiting import Wait

if TYPE_CHECKING:
    from komt_convert import Report

_MARGIN = 64 << 20


@dataclass(frozen=True, slots=True)
class Pulled:
    """A model that is here now; `report` is there when it was converted."""

    record: Record
    report: Report | None = None

    @property
    def path(self) -> Path:
        return Path(self.record.path)


def carry_out(
    hub: Hub,
    plan: Plan,
    *,
    keep_source: bool = False,
    on_progress: OnProgress = lambda progress: None,
    on_convert: Callable[[Any], None] | None = None,
    wait: Wait = time.sleep,
) -> Pulled:
    """Do what the plan says. What came before a failure is kept, and the next pull goes on.

    Raises DownloadError and its kinds, InvalidModel for a file that is no GGUF, and what a
    conversion raises.
    """
    _refuse_full_disks(hub, plan)
    if plan.out is None:
        return _download(hub, plan, on_progress, wait)
    return _convert(hub, plan, plan.out, keep_source, on_progress, on_convert, wait)


def _download(hub: Hub, plan: Plan, on_progress: OnProgress, wait: Wait) -> Pulled:
    paths = [
        download(hub, plan.repository, file, on_progress=on_progress, wait=wait)
        for file in plan.files
    ]
    facts = describe(paths[0])
    record = _record(plan, paths[0], origin="pulled", licence=facts.licence)
    records.remember(record)
    return Pulled(record)


def _convert(
    hub: Hub,
    plan: Plan,
    out: Path,
    keep_source: bool,
    on_progress: OnProgress,
    on_convert: Callable[[Any], None] | None,
    wait: Wait,
) -> Pulled:
    from komt_convert import convert

    known = records.load().records.get(str(out))
    if known and out.is_file() and known.revision == plan.repository.commit:
        return Pulled(known)
    _mark_source(hub, plan)
    folder = bring(hub, plan.repository, on_progress=on_progress, wait=wait)
    out.parent.mkdir(parents=True, exist_ok=True)
    report = convert(
        folder,
        out,
        quant=plan.type,
        chat_template=_template(plan, folder),
        force=True,
        save_report=True,
        progress=on_convert,
    )
    record = _record(plan, out, origin="converted", licence=plan.licence, sha256=report.sha256)
    records.remember(record)
    _settle_source(plan, folder, keep_source)
    return Pulled(record, report)


def _template(plan: Plan, folder: Path) -> str | None:
    """The catalogue's template for checkpoints that carry none of their own."""
    from ..prompts import PRESETS

    name = plan.model.template if plan.model else ""
    return None if carries_template(folder) or name not in PRESETS else PRESETS[name].jinja


def _record(plan: Plan, path: Path, *, origin: Any, licence: str, sha256: str = "") -> Record:
    status = path.stat()
    name = plan.model.name if plan.model and plan.out else plan.repository.name
    return Record(
        path=str(path),
        name=name,
        origin=origin,
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        sha256=sha256 or expected(path),
        repo=plan.repository.name,
        revision=plan.repository.commit,
        file="" if plan.out else plan.files[0].name,
        type=plan.type,
        licence=plan.licence or licence,
        owned=plan.out is not None,
        added=records.now(),
    )


# --- the checkpoint, once it is converted --------------------------------------------------------


def _mark_source(hub: Hub, plan: Plan) -> None:
    """Note that this checkpoint comes only to be converted, unless part of it is here already."""
    there = cache.repo(plan.repository.name, hub.cache)
    weights = set(weight_files(plan.repository))
    if not weights & there.files().keys():
        with records.editing() as state:
            state.sources = sorted({*state.sources, _source(plan)})


def _settle_source(plan: Plan, folder: Path, keep: bool) -> None:
    """Remove a checkpoint that was downloaded for this conversion, or keep it from now on."""
    if _source(plan) not in records.load().sources:
        return
    if not keep:
        for path in [path for path in folder.rglob("*") if path.is_file()]:
            cache.remove(path)
    with records.editing() as state:
        state.sources.remove(_source(plan))


def _source(plan: Plan) -> str:
    return f"{plan.repository.name}@{plan.repository.commit}"


# --- room ----------------------------------------------------------------------------------------


def _refuse_full_disks(hub: Hub, plan: Plan) -> None:
    """Hold what will be written against what is free, before the first byte."""
    wanted = {_existing(hub.cache): plan.to_download}
    if plan.out is not None and not plan.is_done:
        folder = _existing(plan.out)
        wanted[folder] = wanted.get(folder, 0) + plan.size
    by_disk: dict[int, tuple[Path, int]] = {}
    for folder, size in wanted.items():
        disk = folder.stat().st_dev
        by_disk[disk] = (folder, by_disk.get(disk, (folder, 0))[1] + size)
    for folder, size in by_disk.values():
        free = shutil.disk_usage(folder).free
        if size and free < size + _MARGIN:
            raise DownloadError(
                f"The disk of {folder} has {free / 1e9:.1f} GB free and {size / 1e9:.1f} GB are "
                "needed; free some space, or set HF_HOME and KOMT_LOCAL_HOME to a larger disk.",
                f"{folder}이(가) 있는 디스크의 빈 공간은 {free / 1e9:.1f}GB인데 "
                f"{size / 1e9:.1f}GB가 필요합니다. 공간을 비우거나 HF_HOME과 KOMT_LOCAL_HOME을 더 "
                "큰 디스크로 정하세요.",
            )


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(p for p in (path, *path.parents) if p.is_dir())


def pull(reference: str, *, quant: str | None = None, offline: bool = False) -> Path:
    """Bring a model here, and return its file; offline, only look whether it is here."""
    hub = Hub.here(offline=offline)
    if hub.offline:
        return find_offline(reference, quant=quant)
    return carry_out(hub, make_plan(hub, reference, quant=quant)).path


def find_offline(reference: str, *, quant: str | None = None) -> Path:
    """The model's file, if it is here. Raises OfflineError."""
    wanted = with_type(expand(reference), quant)
    try:
        return resolve_text(str(wanted))
    except ModelNotFound as error:
        raise offline_error(str(wanted)) from error
