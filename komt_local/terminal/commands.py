"""What a line that begins with '/' does in the chat: a table of names, helps and functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

from ..errors import UsageError
from ..language import say
from . import services, settings
from .chat import Chat


@dataclass(frozen=True, slots=True)
class _Command:
    form: str
    en: str
    ko: str
    act: Callable[[Chat, str], None]


def obey(chat: Chat, line: str) -> None:
    """Do what the line says. Raises UsageError for a command that does not exist."""
    name, _, argument = line[1:].partition(" ")
    command = _TABLE.get(name)
    if command is None:
        near = get_close_matches(name, _TABLE, n=1) or ["help"]
        raise UsageError(
            f"There is no command /{name}; did you mean /{near[0]}? "
            "(A space in front sends a line as it is.)",
            f"/{name}(이)라는 명령은 없습니다. 혹시 /{near[0]} 인가요? "
            "(맨 앞에 빈칸을 두면 그대로 보냅니다.)",
        )
    command.act(chat, argument.strip())


def _help(chat: Chat, _: str) -> None:
    width = max(len(command.form) for command in _TABLE.values())
    seen: dict[str, _Command] = {command.form: command for command in _TABLE.values()}
    for form, command in seen.items():
        chat.screen.note(f"{form:<{width}}  {say(command.en, command.ko)}")
    chat.screen.note(
        say(
            '""" begins and ends a text of several lines; Alt-Enter breaks a line. '
            "Ctrl-C stops an answer, Ctrl-D leaves.",
            '여러 줄은 """로 시작하고 끝냅니다. Alt-Enter는 줄바꿈입니다. '
            "Ctrl-C는 답을 멈추고 Ctrl-D는 끝냅니다.",
        )
    )


def _clear(chat: Chat, _: str) -> None:
    chat.talk.clear()
    chat.screen.note(say("The dialogue begins anew.", "대화를 새로 시작합니다."))


def _undo(chat: Chat, _: str) -> None:
    text = chat.talk.undo()
    if text is None:
        raise _nothing_yet()
    chat.screen.note(say(f"Taken back: {text}", f"되돌렸습니다: {text}"))


def _retry(chat: Chat, _: str) -> None:
    text = chat.talk.undo()
    if text is None:
        raise _nothing_yet()
    chat.answer(text)


def _nothing_yet() -> UsageError:
    return UsageError(
        "There is no exchange to go back to; ask something first.",
        "되돌릴 대화가 없습니다. 먼저 물어보세요.",
    )


def _system(chat: Chat, text: str) -> None:
    if text:
        chat.talk.system = None if text in ("-", "off") else text
    shown = chat.talk.system or say("(none; /system TEXT sets one)", "(없음. /system 글)")
    chat.screen.note(f"{say('system prompt', '시스템 프롬프트')}: {shown}")


def _show(chat: Chat, _: str) -> None:
    for line in chat.about:
        chat.screen.note(line)
    for line in settings.changed(chat):
        chat.screen.note(line)
    used = chat.usage.prompt_tokens + chat.usage.completion_tokens
    exchanges = sum(message.role == "user" for message in chat.talk.messages)
    chat.screen.note(
        say(
            f"context {used}/{chat.n_ctx} tokens, {exchanges} exchanges",
            f"컨텍스트 {used}/{chat.n_ctx}토큰, 주고받은 횟수 {exchanges}",
        )
    )


def _stats(chat: Chat, _: str) -> None:
    chat.settings.stats = not chat.settings.stats
    chat.screen.note(
        say("Figures after each answer: on.", "답마다 수치를 보입니다.")
        if chat.settings.stats
        else say("Figures after each answer: off.", "수치를 더는 보이지 않습니다.")
    )


def _bye(chat: Chat, _: str) -> None:
    chat.leaving = True


_TABLE: dict[str, _Command] = {
    "help": _Command("/help", "this list", "이 목록", _help),
    "clear": _Command("/clear", "forget the dialogue", "대화를 잊고 새로 시작", _clear),
    "retry": _Command("/retry", "another answer", "다른 답을 받기", _retry),
    "undo": _Command("/undo", "take the last exchange back", "마지막 문답을 되돌리기", _undo),
    "system": _Command("/system TEXT", "set the system prompt", "시스템 프롬프트 정하기", _system),
    "set": _Command(
        "/set [NAME [X]]", "show, change settings", "설정 보고 바꾸기", settings.set_one
    ),
    "lora": _Command("/lora PATH [X]", "adapters; off", "어댑터 쓰기; off면 끔", services.lora),
    "save": _Command("/save [NAME]", "keep the dialogue", "대화 저장하기", services.save),
    "load": _Command("/load NAME", "go on with another", "다른 대화 이어 가기", services.load),
    "show": _Command("/show", "model, settings, context", "모델, 설정, 컨텍스트 보기", _show),
    "stats": _Command("/stats", "figures on or off", "수치 보기 켜고 끄기", _stats),
    "bye": _Command("/bye", "leave", "끝내기", _bye),
}
_TABLE |= {"?": _TABLE["help"], "exit": _TABLE["bye"], "quit": _TABLE["bye"]}
