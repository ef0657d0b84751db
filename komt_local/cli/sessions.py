"""The chat's options for dialogues that are kept, and what they choose."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from ..language import say
from .options import Decorator, stack

if TYPE_CHECKING:
    from ..sessions import Keeper
    from ..terminal.chat import Screen


def options() -> Decorator:
    return stack(
        click.option(
            "--session",
            metavar="NAME",
            help=say(
                "Keep the dialogue under NAME, and go on with it if it is there.",
                "대화를 NAME으로 저장하고, 있으면 이어 갑니다.",
            ),
        ),
        click.option(
            "--continue",
            "go_on",
            is_flag=True,
            help=say("Go on with the last session.", "마지막 세션을 이어 갑니다."),
        ),
        click.option(
            "--session-quota",
            type=click.IntRange(min=0),
            default=4,
            show_default=True,
            metavar="GIB",
            help=say(
                "Disk for what is kept of all sessions besides their text.",
                "모든 세션의 메모리에 쓸 디스크(글은 따로).",
            ),
        ),
    )


def choose(given: dict[str, Any], model: str | None) -> tuple[str | None, str | None]:
    """The session to open, if any, and the model: where none is named, the session's own."""
    from ..sessions import Journal, latest, session_path

    name = given["session"]
    if given["go_on"]:
        last = latest()
        if name or last is None:
            raise _nothing_to_continue(name)
        name = last.stem
    if name and model is None:
        said = Journal(session_path(name)).read().model
        model = said if Path(said).is_file() else None
    return name, model


def open_session(keeper: Keeper, name: str | None, screen: Screen, *, quiet: bool) -> None:
    if name is None:
        return
    was_there = keeper.open(name)
    n_exchanges = sum(message.role == "user" for message in keeper.messages)
    if was_there and not quiet:
        screen.note(
            say(
                f"Session {name} goes on after {n_exchanges} exchanges.",
                f"{name} 세션을 이어 갑니다(주고받은 횟수 {n_exchanges}).",
            )
        )


def _nothing_to_continue(name: str | None) -> UsageError:
    if name:
        return UsageError(
            "--session and --continue both choose a session; give one of them.",
            "--session과 --continue는 둘 다 세션을 고릅니다. 하나만 주세요.",
        )
    return UsageError(
        "There is no session to continue; begin one with --session NAME.",
        "이어 갈 세션이 없습니다. --session 이름으로 시작하세요.",
    )
