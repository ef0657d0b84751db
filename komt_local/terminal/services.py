"""Commands that need more than the dialogue: adapters of the model, sessions on the disk.

Where the chat runs on something without these, the commands say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..errors import UsageError
from ..language import say

if TYPE_CHECKING:
    from .chat import Chat


class Adaptable(Protocol):
    """What runs with LoRA adapters; `komt_local.Model` is one."""

    @property
    def adapters(self) -> Sequence[tuple[Path, float]]: ...
    def set_adapters(self, adapters: Sequence[tuple[Path, float]]) -> None: ...


class Keeping(Protocol):
    """What keeps dialogues; `komt_local.sessions.Keeper` is one."""

    def open(self, name: str) -> bool: ...
    def save(self, name: str | None = None) -> str | None: ...


def lora(chat: Chat, argument: str) -> None:
    """`/lora PATH [SCALE]` adds an adapter or changes its scale, `/lora off` drops all."""
    if chat.model is None:
        raise _not_here("/lora")
    if argument == "off":
        chat.model.set_adapters([])
    elif argument:
        path, scale = _path_and_scale(argument)
        kept = [pair for pair in chat.model.adapters if pair[0] != path]
        chat.model.set_adapters([*kept, (path, scale)])
    shown = [f"{path} × {scale:g}" for path, scale in chat.model.adapters]
    none = say("(none; /lora PATH [SCALE] adds one)", "(없음. /lora 경로 [배율])")
    chat.screen.note(f"{say('adapters', '어댑터')}: {', '.join(shown) or none}")


def save(chat: Chat, name: str) -> None:
    """`/save` writes the dialogue down, `/save NAME` under that name from now on."""
    if chat.sessions is None:
        raise _not_here("/save")
    kept = chat.sessions.save(name or None)
    if kept is None:
        raise UsageError(
            "The dialogue has no name yet; give one, as in /save tuesday.",
            "대화에 아직 이름이 없습니다. /save 화요일처럼 이름을 주세요.",
        )
    chat.screen.note(say(f"Kept as {kept}.", f"{kept}(으)로 저장했습니다."))


def load(chat: Chat, name: str) -> None:
    """`/load NAME` leaves this dialogue, which is kept if it has a name, for another."""
    if chat.sessions is None:
        raise _not_here("/load")
    if not name:
        raise UsageError(
            "/load needs the name of a session, as in /load tuesday.",
            "/load에는 세션 이름이 필요합니다. 예: /load 화요일",
        )
    chat.sessions.save()
    was_there = chat.sessions.open(name)
    exchanges = sum(message.role == "user" for message in chat.talk.messages)
    chat.screen.note(
        say(f"{name}: {exchanges} exchanges.", f"{name}: 주고받은 횟수 {exchanges}.")
        if was_there
        else say(f"{name} begins anew.", f"{name} 세션을 새로 시작합니다.")
    )


def _path_and_scale(argument: str) -> tuple[Path, float]:
    """The last word is a scale if it reads as a number; paths may hold spaces."""
    path, _, last = argument.rpartition(" ")
    try:
        scale = float(last) if path else 1.0
    except ValueError:
        path, scale = argument, 1.0
    return Path(path or argument).expanduser().absolute(), scale


def _not_here(command: str) -> UsageError:
    return UsageError(
        f"{command} does nothing here; start the chat with komt-local chat.",
        f"{command}은(는) 여기서 쓸 수 없습니다. komt-local chat으로 시작하세요.",
    )
