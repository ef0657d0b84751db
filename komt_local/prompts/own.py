"""Templates of one's own: TOML files in the settings folder, one template each.

The file's name is the template's; the keys are the fields of `Template`:

    jinja = '''{% for message in messages %}…'''
    stops = ["### 질문:"]
    single_turn = true
    sampling = { temperature = 0.7 }

They are rendered in the child process, within limits, as those of model files are.
"""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..errors import TemplateError
from .folders import template_folder
from .reasons import Reason, korean
from .template import Template

_KINDS: dict[str, type | tuple[type, ...]] = {
    "jinja": str,
    "stops": list,
    "single_turn": bool,
    "system_slot": bool,
    "context_slot": bool,
    "sampling": dict,
    "source": str,
    "confirmed": bool,
}


def own_names() -> list[str]:
    """The names of one's own templates."""
    return sorted(path.stem for path in template_folder().glob("*.toml"))


def read_own(name: str) -> Template | None:
    """One's own template of that name, if there is one. Raises TemplateError for a bad file."""
    for path in sorted(template_folder().glob("*.toml")):
        if path.stem.lower() == name.lower():
            return _read(path)
    return None


def _read(path: Path) -> Template:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        return Template(name=path.stem, **_fields(values, path))
    except (OSError, ValueError, TypeError) as error:
        raise TemplateError(
            f"The template file {str(path)!r} cannot be used ({error}); mend it or take it away.",
            f"템플릿 파일 {str(path)!r}을(를) 쓸 수 없습니다({korean(error)}). 고치거나 치우세요.",
        ) from error


def _fields(values: dict[str, Any], path: Path) -> dict[str, Any]:
    if unknown := values.keys() - {field.name for field in fields(Template)}:
        keys = ", ".join(sorted(unknown))
        raise Reason(f"unknown keys: {keys}", f"모르는 키: {keys}")
    if values.pop("name", path.stem) != path.stem:
        raise Reason("its name is not the file's", "이름이 파일 이름과 다름")
    for key, value in values.items():
        if not isinstance(value, _KINDS[key]):
            raise Reason(f"{key} is {value!r}", f"{key} 값이 {value!r}")
    if not values.get("jinja"):
        raise Reason("jinja is missing", "jinja가 없음")
    stops = values.get("stops", [])
    if not all(isinstance(stop, str) and stop for stop in stops):
        raise Reason(f"stops is {stops!r}", f"stops 값이 {stops!r}")
    return {**values, "stops": tuple(stops), "source": values.get("source") or str(path)}
