"""The child process in which templates that came with a file are rendered; see `child`.

Run by its path, it imports nothing of this project. Each line of standard input is a JSON object
with `template` and `variables`; each line of standard output one with `text`, or `error` and `ko`.
"""

from __future__ import annotations

import json
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import jinja2


def render(template: str, variables: dict[str, Any]) -> str:
    """Render in jinja2's immutable sandbox, with what transformers gives to chat templates.

    Raises jinja2.TemplateError, or whatever else the template brings about.
    """
    return compile_template(template).render(variables)


@lru_cache(maxsize=8)
def compile_template(text: str) -> jinja2.Template:
    """Compile with the switches that transformers uses.

    https://github.com/huggingface/transformers/blob/main/src/transformers/utils/chat_template_utils.py
    """
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _strftime_now
    environment.filters["tojson"] = _to_json
    return environment.from_string(text)


def _refuse(message: str) -> NoReturn:
    import jinja2

    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    from datetime import datetime

    return datetime.now().strftime(form)


def _to_json(value: Any, indent: int | None = None, **_: Any) -> str:
    """Without HTML escapes, unlike jinja2's own."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _limit_memory(n_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limit; the time limit stands.
        return
    resource.setrlimit(resource.RLIMIT_AS, (n_bytes, n_bytes))


def _answer(line: str, most: int) -> dict[str, str]:
    request = json.loads(line)
    try:
        text = render(request["template"], request["variables"])
    except MemoryError:
        return {"error": "out of memory", "ko": "메모리 부족"}
    except Exception as error:
        why = f"{error}" or type(error).__name__
        return {"error": why, "ko": why}
    if len(text) > most:
        return {"error": "its text is too long", "ko": "결과가 너무 긺"}
    return {"text": text}


def main() -> None:
    """Answer requests until standard input ends; arguments: bytes of memory, length of texts."""
    import jinja2.ext
    import jinja2.sandbox  # noqa: F401  Before the limit, which modules count against.

    memory, most = int(sys.argv[1]), int(sys.argv[2])
    _limit_memory(memory)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_answer(line, most)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
