"""What a user typed on the command line: texts, files named with '@', standard input.

Hangul comes composed (NFC) from here: file names and pastes of a Mac bring it decomposed, which a
model has hardly seen and which costs it several times the tokens.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ..errors import UsageError
from ..language import say_error


def composed(text: str) -> str:
    """The text in NFC."""
    return unicodedata.normalize("NFC", text)


def read_prompt(prompt: str | None) -> str:
    """The prompt as it stands: the argument, or standard input when it is absent or '-'."""
    if prompt is not None and prompt != "-":
        return prompt
    if prompt is None and sys.stdin.isatty():
        raise UsageError(
            'There is no prompt; give one (komt-local run "…"), or pipe it in.',
            '프롬프트가 없습니다. komt-local run "…"처럼 주거나 파이프로 넘기세요.',
        )
    try:
        text = sys.stdin.read().rstrip("\n")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"Standard input is no {error.encoding} text; convert it to UTF-8 first.",
            f"표준 입력이 {error.encoding} 글이 아닙니다. 먼저 UTF-8로 바꾸세요.",
        ) from error
    if not text:
        raise UsageError(
            "Standard input holds no prompt; give it some text.",
            "표준 입력이 비어 있습니다. 프롬프트를 넣으세요.",
        )
    return text


def text_or_file(value: str, option: str) -> str:
    """The text itself, or with a leading '@' what the file of that name holds; composed."""
    if not value.startswith("@"):
        return composed(value)
    return composed(read_file(value[1:], option))


def read_file(path: str, option: str) -> str:
    """What a text file holds. Raises UsageError, which names the option that asked for it."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"The file {path!r} of {option} cannot be read as UTF-8 text ({error}); "
            "check its path.",
            f"{option}의 파일 {path!r}을(를) UTF-8 글로 읽을 수 없습니다({error}). "
            "경로를 확인하세요.",
        ) from error


def read_variables(given: Iterable[str]) -> dict[str, str]:
    """NAME=TEXT and NAME=@FILE as a mapping. Raises UsageError for what is neither."""
    found: dict[str, str] = {}
    for pair in given:
        name, mark, value = pair.partition("=")
        if not mark or not name:
            raise UsageError(
                f"--var {pair!r} has no name; write NAME=TEXT or NAME=@FILE.",
                f"--var {pair!r}에 이름이 없습니다. 이름=글 또는 이름=@파일로 쓰세요.",
            )
        found[name.strip()] = text_or_file(value, f"--var {name.strip()}")
    return found


class MarkerWatch:
    """Notices typed lines that begin like the template's own: an error if strict, else a note.

    The note is given once, by the function that is handed over.
    """

    def __init__(self, *, strict: bool, note: Callable[[str], None]) -> None:
        self._strict, self._note, self._was_said = strict, note, False

    def check(self, template: str, found: Sequence[str]) -> None:
        """Raises UsageError if strict and anything was found."""
        from ..prompts.markers import marker_error

        if not found:
            return
        error = marker_error(template, found)
        if self._strict:
            raise error
        if not self._was_said:
            self._note(say_error(error))
        self._was_said = True
