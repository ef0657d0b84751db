"""`komt-local pull`: bring a model here, ready or converted on the way."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..language import say
from . import options
from .base import KomtCommand
from .output import note, print_json

if TYPE_CHECKING:
    from ..hub import Hub, Plan, Pulled


@click.command(
    cls=KomtCommand,
    help=say(
        "Bring the model REFERENCE here: org/repo, org/repo:Q4_K_M, org/repo/file.gguf, an "
        "address on huggingface.co, or a name that `komt-local list --all` shows; @REVISION pins "
        "it. Without a type, the best that fits this machine's memory is taken. A checkpoint "
        "without GGUF files is converted. What was interrupted goes on where it stopped.",
        "모델 REFERENCE를 받습니다: org/repo, org/repo:Q4_K_M, org/repo/file.gguf, "
        "huggingface.co의 주소, 또는 `komt-local list --all`에 나오는 이름. @REVISION으로 "
        "고정합니다. 타입이 없으면 이 컴퓨터의 메모리에 맞는 가장 좋은 것을 고릅니다. GGUF가 없는 "
        "체크포인트는 변환합니다. 중단된 것은 멈춘 곳부터 이어받습니다.",
    ),
)
@click.argument("reference")
@click.option(
    "-q",
    "--quantization",
    metavar="TYPE",
    help=say("The type to have, e.g. Q4_K_M.", "받을 양자화 타입(예: Q4_K_M)."),
)
@click.option(
    "--keep-source",
    is_flag=True,
    help=say(
        "Keep a checkpoint that was downloaded to be converted.",
        "변환하려고 받은 체크포인트를 지우지 않습니다.",
    ),
)
@options.offline()
@options.json_output()
@options.quiet()
def command(reference: str, **given: Any) -> None:
    from .. import hub

    there = hub.Hub.here(offline=given["offline"])
    if there.offline:
        _answer_offline(reference, given)
        return
    plan = hub.make_plan(there, reference, quant=given["quantization"])
    if not given["quiet"]:
        _announce(there, plan)
    pulled = _carry_out(there, plan, given)
    if given["json"]:
        print_json(_as_json(pulled))
        return
    click.echo(pulled.path)
    if not given["quiet"]:
        name = _name_to_use(plan, reference, given["quantization"])
        note(f"Talk with it: komt-local chat {name}", f"대화: komt-local chat {name}")


def _name_to_use(plan: Plan, reference: str, quant: str | None) -> str:
    """What names the model from now on: as it was typed, with the type if -q gave one."""
    if quant is None:
        return reference
    if plan.model and plan.out:
        return f"{plan.model.name}:{plan.type}"
    return str(plan.reference)


def _answer_offline(reference: str, given: dict[str, Any]) -> None:
    from ..hub import find_offline

    path = find_offline(reference, quant=given["quantization"])
    if given["json"]:
        print_json({"path": str(path)})
    else:
        click.echo(path)


def _carry_out(hub: Hub, plan: Plan, given: dict[str, Any]) -> Pulled:
    from ..hub import carry_out
    from .bars import bars

    try:
        with bars(hidden=given["quiet"]) as step:
            return carry_out(
                hub,
                plan,
                keep_source=given["keep_source"],
                on_progress=lambda p: step(p.stage, Path(p.file).name, p.done, p.total),
                on_convert=lambda p: step(p.stage, "", p.done, p.total),
            )
    except KeyboardInterrupt:
        note(
            "What has come is kept; the same command goes on from there.",
            "지금까지 받은 것은 남아 있습니다. 같은 명령으로 이어받을 수 있습니다.",
        )
        raise


def _announce(hub: Hub, plan: Plan) -> None:
    """One plain line on size, licence and disk; one more if the type was chosen here."""
    if plan.is_done:
        return
    if plan.chosen:
        memory = _gb(plan.memory)
        note(
            f"{plan.type or plan.files[0].name} is the best type that fits the {memory} memory of "
            "this machine; -q takes another.",
            f"{plan.type or plan.files[0].name}: 이 컴퓨터의 메모리 {memory}에 맞는 가장 좋은 "
            "타입입니다. 다른 것은 -q로 고르세요.",
        )
    note(*_sizes(hub, plan))


def _sizes(hub: Hub, plan: Plan) -> tuple[str, str]:
    name, licence = plan.repository.name, _licence(plan)
    free = _gb(shutil.disk_usage(_existing(hub.cache)).free)
    come, size = _gb(plan.to_download), _gb(plan.size)
    if plan.out is None:
        return (
            f"{name}: {come} to download; licence: {licence[0]}; {free} free on the disk.",
            f"{name}: {come} 내려받음, 라이선스: {licence[1]}, 디스크 여유 {free}.",
        )
    return (
        f"{name}: {come} to download, about {size} kept as {plan.type} after the conversion; "
        f"licence: {licence[0]}; {free} free on the disk.",
        f"{name}: {come} 내려받아 변환한 뒤 {plan.type} 약 {size}만 남김, 라이선스: {licence[1]}, "
        f"디스크 여유 {free}.",
    )


def _licence(plan: Plan) -> tuple[str, str]:
    name = plan.licence or say("not stated", "표시 없음")
    model = plan.model
    if model is None or not model.restrictions:
        return name, name
    return f"{name} ({model.restrictions})", f"{name}({model.restrictions_ko})"


def _existing(path: Path) -> Path:
    return next(p for p in (path, *path.parents) if p.is_dir())


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _as_json(pulled: Pulled) -> dict[str, Any]:
    from dataclasses import asdict

    conversion = pulled.report.as_dict() if pulled.report else None
    return asdict(pulled.record) | {"conversion": conversion}
