"""Writes the Jinja text of a prompt convention from its parts, as the model cards give them.

A part is the literal text of a turn with `{}` where the content goes (`{trimmed}`: without the
white space at its ends), `{context}`, `{bos}` and `{eos}` where those go. The result is plain Jinja
of the kind that every GGUF reader understands: a loop over the messages, string literals, and
nothing else.
"""

from __future__ import annotations

import json
import re

_EXPRESSIONS = {
    "{}": "message['content']",
    "{trimmed}": "message['content'] | trim",
    "{system}": "loop.previtem['content'] | trim",
    "{context}": "context",
    "{bos}": "bos_token",
    "{eos}": "eos_token",
}
_AFTER_SYSTEM = "not loop.first and loop.previtem['role'] == 'system'"


def turns(
    *,
    user: str,
    assistant: str,
    answer: str = "",
    system: str = "{}\n\n",
    default_system: str = "",
    user_with_context: str = "",
    user_with_system: str = "",
    begin: str = "",
) -> str:
    """The Jinja text for a convention whose turns stand one after another.

    `answer` opens the model's turn; `default_system` stands where no system message is given;
    `user_with_context` takes the place of `user` in the last turn when there is a context, and
    `user_with_system` (with `{system}`) in the first one when a system text goes into it. The
    system text of a convention without either is put in front, so that programs which always send
    one do not fail.
    """
    said = _write(user)
    if user_with_context:
        said = _if("context and loop.last", _write(user_with_context), said)
    if user_with_system:
        said = _if(_AFTER_SYSTEM, _write(user_with_system), said)
    loop = (
        "{%- for message in messages -%}\n"
        + "{%- if message['role'] == 'system' -%}\n"
        + ("" if user_with_system else _write(system))
        + "{%- elif message['role'] == 'user' -%}\n"
        + said
        + "{%- else -%}\n"
        + _write(assistant)
        + "{%- endif -%}\n{%- endfor -%}\n"
    )
    head = _write(begin) if begin else ""
    if default_system:
        opening = system.replace("{}", default_system)
        head += _if("messages[0]['role'] != 'system'", _write(opening), "")
    tail = _if("add_generation_prompt", _write(answer), "") if answer else ""
    return (head + loop + tail).rstrip("\n")


def _write(form: str) -> str:
    """The statement that writes a part: literals and expressions, added up."""
    pieces = (
        piece for piece in re.split(r"(\{(?:trimmed|system|context|bos|eos)?\})", form) if piece
    )
    terms = (_EXPRESSIONS.get(piece) or literal(piece) for piece in pieces)
    return "{{- " + " + ".join(terms) + " -}}\n"


def literal(text: str) -> str:
    """A string literal of Jinja, whose escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False)


def _if(condition: str, then: str, otherwise: str) -> str:
    middle = "{%- else -%}\n" + otherwise if otherwise else ""
    return "{%- if " + condition + " -%}\n" + then + middle + "{%- endif -%}\n"
