"""What `komt-local show` finds out by running the model: its template, its ids, where it stops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from ..language import say
from ..terminal.text import printable
from .output import print_json
from .typed import composed

if TYPE_CHECKING:
    from ..model import Model
    from ..model.detect import Fit
    from ..model.stops import Stops
    from ..prompts import Segment

_SURENESS = {
    "sure": ("sure", "확실함"),
    "likely": ("likely, but not certain", "그럴듯하나 확실하지 않음"),
    "unsure": ("not sure: no template stands out", "모르겠음: 두드러진 템플릿이 없음"),
}


def ids_of(path: Path, prompt: Sequence[Segment]) -> list[int]:
    """The prompt as it would be sent."""
    from .. import llama
    from ..prompts import encode

    native = llama.load(path, n_gpu_layers=0)
    try:
        return encode(prompt, native)
    finally:
        native.close()


def show(path: Path, question: str | None, template: str | None, given: dict[str, Any]) -> None:
    """Ask the model, as the options say, and print what it said."""
    from ..model import Model

    with Model.load(path, threads=given["threads"], template=template, n_ctx=2048) as model:
        if given["detect_template"]:
            _show_ranking(model, as_json=given["json"])
        else:
            _show_stops(model, question, as_json=given["json"])


def _show_ranking(model: Model, *, as_json: bool) -> None:
    from ..model.detect import sureness

    fits = model.rank_templates()
    if as_json:
        ranked = [asdict(fit) | {"total": fit.total} for fit in fits]
        print_json({"sureness": sureness(fits), "templates": ranked})
        return
    click.echo(say("fit (nats per token; 0 is best)", "적합도(토큰당 nat, 0이 최선)"))
    for fit in fits[:5]:
        click.echo(f"{fit.total:8.2f}  {_names(fit)}")
    click.echo(f"{say('best', '최선')}: {fits[0].template} ({say(*_SURENESS[sureness(fits)])})")


def _names(fit: Fit) -> str:
    return ", ".join((fit.template, *fit.same))


def _show_stops(model: Model, question: str | None, *, as_json: bool) -> None:
    if question is None:
        raise UsageError(
            'There is no question; give one: komt-local show --stops MODEL "…"',
            '질문이 없습니다. komt-local show --stops MODEL "…"처럼 주세요.',
        )
    found = model.explain_stops(composed(question), temperature=0)
    if as_json:
        print_json(asdict(found))
        return
    for line in _lines(found):
        click.echo(printable(line))


def _lines(found: Stops) -> list[str]:
    ends = ", ".join(f"{text!r} ({token})" for text, token in found.end_tokens.items())
    lines = [
        f"{say('end tokens of the file', '파일의 끝 토큰')}: {ends or say('none', '없음')}",
        f"{say('answer', '답')}: {found.text}",
        f"{say('ended by', '끝난 까닭')}: {found.end_token or found.finish_reason}",
        say("where an end was likeliest:", "끝날 확률이 가장 높았던 곳:"),
    ]
    for place in found.places:
        before = place.before.replace("\n", "\\n")
        lines.append(f"  {place.probability:7.2%}  {place.end}  …{before}|")
    for each in found.caught:
        lines.append(
            say(
                f"{each.stop!r}, a stop of {each.template}, would end it at character {each.at}",
                f"{each.template}의 멈춤 {each.stop!r}이(가) {each.at}글자 뒤에서 끝냈을 것입니다",
            )
        )
    return lines
