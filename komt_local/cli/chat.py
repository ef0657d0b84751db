"""`komt-local chat`: talk with a model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import library
from ..language import say
from . import options, sessions
from .base import KomtCommand
from .typed import MarkerWatch, composed

if TYPE_CHECKING:
    from ..model import Model
    from ..sessions import Keeper
    from ..terminal.chat import Chat, Screen, Settings
    from ..types import Message


@click.command(
    cls=KomtCommand,
    help=say(
        "Talk with MODEL, a GGUF file; without it, with the embedded model. /help in the chat "
        "lists its commands.",
        "GGUF 파일 MODEL과 대화합니다. 없으면 내장 모델과 대화합니다. 대화 중 /help를 치면 "
        "명령을 볼 수 있습니다.",
    ),
)
@click.argument("model", required=False)
@options.loading()
@options.answering()
@options.strict_input()
@click.option(
    "--history/--no-history",
    "history",
    default=None,
    help=say(
        "Send the dialogue so far (default: as the template was trained).",
        "지금까지의 대화를 함께 보냄(기본: 템플릿이 학습된 대로).",
    ),
)
@click.option(
    "--on-overflow",
    type=click.Choice(["drop-oldest", "refuse"]),
    default="drop-oldest",
    show_default=True,
    help=say(
        "When the context is full: forget the oldest exchange, or refuse.",
        "컨텍스트가 가득 차면 가장 오래된 문답을 잊을지, 거절할지.",
    ),
)
@sessions.options()
@options.quiet()
def command(model: str | None, **given: Any) -> None:
    people_watch = sys.stdin.isatty() and sys.stdout.isatty()
    name, model = sessions.choose(given, model)
    if given["dry_run"]:
        return options.print_plan(model, given)
    with options.load(model, given) as opened:
        chat, keeper = _open_chat(opened, given, styled=people_watch)
        if people_watch and not given["quiet"]:
            _greet(opened, chat.screen, given)
        sessions.open_session(keeper, name, chat.screen, quiet=given["quiet"])
        try:
            chat.run(_reader(people_watch))
        finally:
            keeper.remember()


def _open_chat(model: Model, given: dict[str, Any], *, styled: bool) -> tuple[Chat, Keeper]:
    from ..sessions import Keeper
    from ..terminal.chat import Chat, Screen
    from ..terminal.line import echo_off

    screen = Screen(sys.stdout, sys.stderr, styled)
    if styled:
        screen.answering = echo_off

    def say_dropped(messages: Sequence[Message]) -> None:
        first = " ".join(messages[0].content.split())[:40]
        screen.note(
            say(
                f"The context is full; the oldest exchange was forgotten ({first}…).",
                f"컨텍스트가 가득 차서 가장 오래된 문답을 잊었습니다({first}…).",
            )
        )

    system = composed(given["system"]) if given["system"] else None
    watch = MarkerWatch(
        strict=given["strict_input"],
        note=lambda text: None if given["quiet"] else screen.note(text),
    )

    def check(text: str, settings: Settings) -> None:
        template = settings.options.get("template")
        found = model.typed_markers(text, template=template)
        watch.check(model.choose_template(template).name, found)

    conversation = model.conversation(
        system,
        history=given["history"],
        on_overflow=given["on_overflow"],
        on_drop=say_dropped,
    )
    quota = given["session_quota"] << 30
    talk = Keeper(model, conversation, lambda en, ko: screen.note(say(en, ko)), quota=quota)
    settings = _settings(model, given)
    about = [
        f"{say('model', '모델')}: {model.name} ({model.path})",
        f"{say('template', '템플릿')}: {model.template.name}",
    ]
    chat = Chat(
        talk,
        settings,
        screen,
        n_ctx=model.n_ctx,
        about=about,
        check=check,
        model=model,
        sessions=talk,
    )
    return chat, talk


def _settings(model: Model, given: dict[str, Any]) -> Settings:
    from ..model.defaults import check_options, own_options
    from ..terminal.chat import Settings

    def check(wanted: dict[str, Any]) -> None:
        check_options(wanted)
        model.choose_template(wanted.get("template"))

    def own(wanted: dict[str, Any]) -> dict[str, Any]:
        return own_options(model.metadata, model.choose_template(wanted.get("template")))

    return Settings(options.answer_options(given), check=check, own=own)


def _greet(model: Model, screen: Screen, given: dict[str, Any]) -> None:
    """Name the model and, for the embedded one, say how to get a real one."""
    screen.note(f"{model.name} · {model.path.stat().st_size / 2**20:.1f} MiB")
    if model.path == library.embedded():
        screen.note(
            say(
                "The embedded model knows only how to use komt-local. For a real one: "
                "komt-local pull komt-mistral-7b-v1, then komt-local chat komt-mistral-7b-v1",
                "내장 모델은 komt-local 사용법만 압니다. 진짜 모델을 쓰려면 "
                "komt-local pull komt-mistral-7b-v1 다음에 komt-local chat komt-mistral-7b-v1",
            )
        )
    if given["history"] is None and model.template.single_turn:
        screen.note(
            say(
                "It was trained on single questions: earlier turns are not sent (--history does).",
                "문답 하나씩 학습한 모델이라 앞의 대화는 보내지 않습니다(--history로 보냄).",
            )
        )
    if given["system"] and not model.template.system_slot:
        screen.note(
            say(
                "This model was trained without system prompts; yours stands before the question.",
                "시스템 프롬프트 없이 학습한 모델입니다. 주신 글은 질문 앞에 놓습니다.",
            )
        )
    screen.note(say("/help lists the commands, Ctrl-D leaves.", "/help 명령 목록, Ctrl-D 끝내기."))


def _reader(people_watch: bool) -> Callable[[], str]:
    from ..terminal.line import read_plain, reader_at_terminal

    if not people_watch:
        return read_plain
    return reader_at_terminal(Path(click.get_app_dir("komt-local")) / "history")
