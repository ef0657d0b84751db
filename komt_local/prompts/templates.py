"""The table of prompt conventions ("templates"), each as the Jinja text that a GGUF file carries.

A template is data. The same text serves the runtime here and, written into a file as its
`tokenizer.chat_template`, every other program that reads the file. Rendering is in `jinja`.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from ..errors import TemplateError


@dataclass(frozen=True, slots=True)
class Template:
    """How messages become a prompt.

    `jinja` is rendered with `messages`, `bos_token`, `eos_token` and `add_generation_prompt`.
    `stops` are texts that end an answer. `single_turn` says that the model never saw a second
    exchange, `system_slot` that it was trained with system texts, `context_slot` that the Jinja
    text reads a variable `context`. `source` is where the convention was found.
    """

    name: str
    jinja: str
    stops: tuple[str, ...] = ()
    single_turn: bool = False
    system_slot: bool = True
    context_slot: bool = False
    source: str = ""


# A system text has no place of its own in either komt form. The Jinja text still puts it in
# front, so that programs which always send one do not fail; komt-local itself says so once.
_KOMT = """\
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{{- message['content'] + '\\n\\n' -}}
{%- elif message['role'] == 'user' -%}
{{- '### instruction: ' + message['content'] + '\\n\\n### Response: ' -}}
{%- else -%}
{{- message['content'] + eos_token -}}
{%- endif -%}
{%- endfor -%}"""

_KOMT_OUTPUT = """\
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{{- message['content'] + '\\n\\n' -}}
{%- elif message['role'] == 'user' -%}
{{- message['content'] + ' ##output:' -}}
{%- else -%}
{{- message['content'] + eos_token -}}
{%- endif -%}
{%- endfor -%}"""

_TABLE = (
    Template(
        name="komt",
        jinja=_KOMT,
        stops=("### instruction:",),
        single_turn=True,
        system_slot=False,
        source="github.com/davidkim205/komt, usage_komt_with_lora.py and README",
    ),
    Template(
        name="komt-output",
        jinja=_KOMT_OUTPUT,
        stops=("##output:",),
        single_turn=True,
        system_slot=False,
        source="github.com/davidkim205/komt, README, section llama.cpp",
    ),
)

PRESETS: dict[str, Template] = {template.name: template for template in _TABLE}


def choose(name: str | None, jinja: str | None) -> Template:
    """The template called `name`; without a name, the one whose text a file carries.

    Raises TemplateError for an unknown name, and when there is neither.
    """
    if name is not None:
        return _named(name)
    if jinja is None:
        names = ", ".join(PRESETS)
        raise TemplateError(
            f"The file carries no chat template; name one with --template ({names}).",
            f"파일에 대화 템플릿이 없습니다. --template으로 하나를 고르세요({names}).",
        )
    same = (template for template in PRESETS.values() if template.jinja == jinja)
    return next(same, Template(name="file", jinja=jinja, source="tokenizer.chat_template"))


def _named(name: str) -> Template:
    if template := PRESETS.get(name.lower()):
        return template
    near = get_close_matches(name.lower(), PRESETS, n=3) or list(PRESETS)
    raise TemplateError(
        f"There is no template called {name!r}; did you mean {', '.join(near)}?",
        f"{name!r}(이)라는 템플릿은 없습니다. 혹시 {', '.join(near)} 인가요?",
    )
