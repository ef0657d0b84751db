"""Prompt files for tasks: a text with `{name}` variables, and how its answer ends.

A file begins with settings in TOML between two lines of `+++`; all after them is the prompt, to
the character:

    stops    texts that end the answer
    prefix   what the prompt began of the answer, put in front of it again
    source   where the prompt is from

A folder of one's own comes before the built-in files. A task's prompt is complete in itself: no
template is applied to it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import TemplateError
from .reasons import Reason, korean
from .segments import Segment

BUILT_IN = Path(__file__).parent / "tasks"
_VARIABLE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Task:
    """A prompt with variables, and what is known of its answer."""

    name: str
    text: str
    stops: tuple[str, ...] = ()
    prefix: str = ""
    source: str = ""

    @property
    def variables(self) -> tuple[str, ...]:
        """The names in the text, in the order of their first appearance."""
        return tuple(dict.fromkeys(_VARIABLE.findall(self.text)))

    def render(self, values: Mapping[str, str]) -> tuple[Segment, ...]:
        """The prompt, the values in it theirs. Raises TemplateError if the names do not match."""
        if set(values) != set(self.variables):
            raise _other_names(self, values)
        segments = []
        for index, part in enumerate(_VARIABLE.split(self.text)):
            is_name = index % 2 == 1
            segments.append(Segment(values[part] if is_name else part, ours=not is_name))
        return tuple(segment for segment in segments if segment.text)


def find_task(name: str, folders: Sequence[Path] = ()) -> Task:
    """The task of that name: from the first of `folders` that has it, else the built-in one.

    Raises TemplateError for an unknown name and for a file that is not of the form above.
    """
    for folder in (*folders, BUILT_IN):
        for path in sorted(folder.glob("*.txt")):
            if path.stem.lower() == name.lower():
                return _read(path)
    names = ", ".join(task_names(folders))
    raise TemplateError(
        f"There is no task called {name!r}; the tasks are {names}.",
        f"{name!r}(이)라는 작업은 없습니다. 있는 작업: {names}",
    )


def task_names(folders: Sequence[Path] = ()) -> list[str]:
    """The names of all tasks, one's own first."""
    paths = (path for folder in (*folders, BUILT_IN) for path in sorted(folder.glob("*.txt")))
    return list(dict.fromkeys(path.stem for path in paths))


def _read(path: Path) -> Task:
    try:
        return _parse(path.stem, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, TypeError, ValueError) as error:
        raise TemplateError(
            f"The task file {str(path)!r} cannot be used ({error}); mend it or take it away.",
            f"작업 파일 {str(path)!r}을(를) 쓸 수 없습니다({korean(error)}). 고치거나 치우세요.",
        ) from error


def _parse(name: str, content: str) -> Task:
    if not content.startswith("+++\n"):
        return Task(name, content)
    head, mark, text = content.removeprefix("+++\n").partition("\n+++\n")
    if not mark:
        raise Reason(
            "its settings have no end: a line of +++ is missing",
            "설정이 끝나는 +++ 줄이 없음",
        )
    settings = tomllib.loads(head)
    unknown = settings.keys() - {"stops", "prefix", "source"}
    if unknown:
        keys = ", ".join(sorted(unknown))
        raise Reason(f"unknown settings: {keys}", f"모르는 설정: {keys}")
    stops = settings.get("stops", [])
    return Task(
        name,
        text,
        stops=tuple(str(stop) for stop in stops),
        prefix=str(settings.get("prefix", "")),
        source=str(settings.get("source", "")),
    )


def _other_names(task: Task, values: Mapping[str, str]) -> TemplateError:
    needed = ", ".join(task.variables)
    given = ", ".join(values) or "-"
    return TemplateError(
        f"The task {task.name} needs the variables {needed} and was given {given}; "
        "name each with --var NAME=TEXT or --var NAME=@FILE.",
        f"작업 {task.name}에는 변수 {needed}이(가) 필요한데 {given}을(를) 받았습니다. "
        "--var 이름=글 또는 --var 이름=@파일로 하나씩 주세요.",
    )
