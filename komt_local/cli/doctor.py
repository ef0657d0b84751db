"""`komt-local doctor`: what works here, what does not, and the line that repairs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
from rich.cells import cell_len

from ..language import say
from . import options
from .base import KomtCommand
from .output import print_json

if TYPE_CHECKING:
    from ..doctor import Check, Machine, State

_MANUAL = "docs/troubleshooting"


@click.command(
    cls=KomtCommand,
    help=say(
        "Say what works on this machine and what does not, each with the line that repairs it: the "
        "processor against the build of llama.cpp, GPUs, memory, disk, models. Nothing is changed "
        "and no network is used. The exit status is 1 if something fails.",
        "이 컴퓨터에서 무엇이 되고 안 되는지, 고치는 명령과 함께 보여 줍니다: 프로세서와 "
        "llama.cpp 빌드, GPU, 메모리, 디스크, 모델. 아무것도 바꾸지 않고 네트워크도 쓰지 않습니다. "
        "안 되는 것이 있으면 종료 상태는 1입니다.",
    ),
)
@options.json_output()
@options.quiet()
def command(**given: Any) -> int:
    from ..doctor import examine, measure, worst

    machine = measure()
    checks = examine(machine)
    state = worst(checks)
    if given["json"]:
        print_json(_as_json(machine, checks, state))
    else:
        _print(checks, only_problems=given["quiet"])
    return 1 if state == "fail" else 0


def _as_json(machine: Machine, checks: Sequence[Check], state: State) -> dict[str, Any]:
    return {
        "state": state,
        "checks": [
            {
                "name": check.name,
                "state": check.state,
                "found": say(*check.found),
                "remedy": say(*check.remedy) if check.remedy else None,
            }
            for check in checks
        ],
        "machine": machine.as_dict(),
    }


def _print(checks: Sequence[Check], *, only_problems: bool) -> None:
    shown = [check for check in checks if check.state != "ok" or not only_problems]
    width = max((cell_len(_name(check.name)) for check in shown), default=0)
    for check in shown:
        name = _name(check.name)
        click.echo(f"{_mark(check.state)} {name}{' ' * (width - cell_len(name))}  ", nl=False)
        click.echo(say(*check.found))
        if check.remedy:
            click.echo(f"{' ' * (cell_len(_mark(check.state)) + width + 3)}→ {say(*check.remedy)}")
    for page in dict.fromkeys(check.page for check in shown if check.page):
        click.echo(say(f"More: {_MANUAL}.md#{page}", f"자세히: {_MANUAL}.ko.md#{page}"))


def _mark(state: State) -> str:
    marks = {"ok": ("ok  ", "정상"), "warn": ("warn", "주의"), "fail": ("FAIL", "실패")}
    return click.style(
        say(*marks[state]), fg={"ok": "green", "warn": "yellow", "fail": "red"}[state]
    )


def _name(name: str) -> str:
    names = {
        "program": say("program", "프로그램"),
        "cpu": say("processor", "프로세서"),
        "threads": say("threads", "스레드"),
        "memory": say("memory", "메모리"),
        "cache": say("model cache", "모델 캐시"),
        "data": say("data folder", "데이터 폴더"),
        "models": say("models", "모델"),
        "network": say("network", "네트워크"),
        "terminal": say("terminal", "터미널"),
        "gpu": "GPU",
        "colab": "Colab",
    }
    return names.get(name, name)
