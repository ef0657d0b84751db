"""`/set`: the settings of the next answers, by the names of the command line's options or Python's.

Each is read, and shown with the value that counts: what was set (marked with a star), else the
model's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..language import say

if TYPE_CHECKING:
    from .chat import Chat

_BACK = "-"
"""As a value: what the model has itself counts again."""


@dataclass(frozen=True, slots=True)
class _Setting:
    option: str
    read: Callable[[str], object]
    en: str
    ko: str


def set_one(chat: Chat, argument: str) -> None:
    """`/set` lists all, `/set NAME` shows one, `/set NAME VALUE` sets it, `-` takes that back."""
    name, _, value = argument.partition(" ")
    if not name:
        for each in _SETTINGS:
            chat.screen.note(_line(chat, each))
        return
    name = _NAMES.get(name, name)
    if name not in _SETTINGS:
        names = ", ".join(_SETTINGS)
        raise UsageError(
            f"There is no setting {name!r}; the settings are {names}. /set shows their values.",
            f"{name!r}(이)라는 설정은 없습니다. 설정: {names}. /set으로 값을 볼 수 있습니다.",
        )
    if value.strip():
        _change(chat, name, value.strip())
    chat.screen.note(f"{name} = {_shown(_value(chat, _SETTINGS[name].option))}")


def changed(chat: Chat) -> list[str]:
    """A line for each setting that was given or set."""
    options = chat.settings.options.items()
    return [
        f"{_NAMES[key]} = {_shown(value)}"
        for key, value in options
        if key in _NAMES and value != ()
    ]


def _change(chat: Chat, name: str, value: str) -> None:
    setting, options = _SETTINGS[name], dict(chat.settings.options)
    if value == _BACK:
        options.pop(setting.option, None)
    else:
        options[setting.option] = _read(name, setting, value)
    chat.settings.check(options)
    chat.settings.options = options


def _read(name: str, setting: _Setting, value: str) -> object:
    try:
        return setting.read(value)
    except ValueError:
        raise UsageError(
            f"{value!r} is no value for {name} ({setting.en}).",
            f"{value!r}은(는) {name}의 값이 될 수 없습니다({setting.ko}).",
        ) from None


def _line(chat: Chat, name: str) -> str:
    setting = _SETTINGS[name]
    value = _shown(_value(chat, setting.option))
    mark = "*" if chat.settings.options.get(setting.option, ()) != () else " "
    return f"{mark} {name:<18} {value:<12} {say(setting.en, setting.ko)}"


def _value(chat: Chat, option: str) -> Any:
    options = chat.settings.options
    return options[option] if option in options else chat.settings.own(options).get(option)


def _shown(value: Any) -> str:
    if value is None or value == ():
        return "-"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (tuple, list)):
        return ", ".join(map(repr, value))
    return str(value)


def _on_or_off(value: str) -> bool:
    if value not in ("on", "off"):
        raise ValueError(value)
    return value == "on"


def _stop(value: str) -> tuple[str, ...]:
    return (value.replace("\\n", "\n"),)


_SETTINGS: dict[str, _Setting] = {
    "temp": _Setting(
        "temperature", float, "a number; 0 = always the likeliest", "숫자, 0이면 늘 최선"
    ),
    "top-k": _Setting(
        "top_k", int, "keep the K likeliest; 0 = off", "가장 그럴듯한 K개만, 0이면 끔"
    ),
    "top-p": _Setting("top_p", float, "keep a mass of P; 1 = off", "확률의 합 P까지만, 1이면 끔"),
    "min-p": _Setting(
        "min_p", float, "drop below P x best; 0 = off", "최고 확률의 P배 미만은 버림, 0이면 끔"
    ),
    "repeat-penalty": _Setting("repeat_penalty", float, "a number; 1 = off", "숫자, 1이면 끔"),
    "repeat-last-n": _Setting(
        "repeat_last_n", int, "tokens that the penalties look back on", "벌점이 돌아보는 토큰 수"
    ),
    "frequency-penalty": _Setting(
        "frequency_penalty", float, "a number; 0 = off", "숫자, 0이면 끔"
    ),
    "presence-penalty": _Setting("presence_penalty", float, "a number; 0 = off", "숫자, 0이면 끔"),
    "dry-multiplier": _Setting(
        "dry_multiplier",
        float,
        "against repeated sequences; 0 = off, 0.8 is usual",
        "되풀이되는 구절을 막음. 0이면 끔, 보통 0.8",
    ),
    "dry-base": _Setting("dry_base", float, "growth with length", "길이에 따른 증가율"),
    "dry-allowed-length": _Setting(
        "dry_allowed_length", int, "a whole number; free up to here", "정수, 여기까지는 허용"
    ),
    "seed": _Setting(
        "seed", int, "same seed, same answer; - = by chance", "같은 값이면 같은 답, -이면 임의"
    ),
    "stop-loops": _Setting(
        "stop_loops",
        _on_or_off,
        "on or off: end an answer that loops",
        "on 또는 off: 되풀이하면 끝냄",
    ),
    "stop": _Setting(
        "stop", _stop, "a text that ends the answer; - = none", "답을 끝낼 글, -이면 없음"
    ),
    "max-tokens": _Setting("max_tokens", int, "longest answer in tokens", "답의 최대 길이(토큰)"),
    "template": _Setting("template", str, "prompt convention", "프롬프트 형식"),
}

_NAMES = {setting.option: name for name, setting in _SETTINGS.items()}
