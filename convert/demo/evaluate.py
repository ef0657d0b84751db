"""Asks the embedded model every held-out question in both prompt forms, greedily, and counts.

    python convert/demo/evaluate.py MODEL.gguf

It asks through komt-local itself, as users do. An answer counts when it is the intent's answer to
the letter and ended by itself.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from forms import FORMS
from intents import Corpus, load

MAX_TOKENS = 240
Prompt = tuple[str, str]
"""A question and a form."""
Said = tuple[str, bool]
"""An answer, and whether it ended by itself."""


@dataclass(frozen=True)
class Case:
    """One held-out question; `kind` is `key word`, `no key word` or `other matters`."""

    kind: str
    intent: str
    question: str
    answer: str


@dataclass(frozen=True)
class Outcome:
    case: Case
    form: str
    said: str
    ended: bool

    @property
    def right(self) -> bool:
        return self.said == self.case.answer and self.ended


def cases(corpus: Corpus) -> Iterator[Case]:
    for intent in corpus.intents:
        for question in intent.held_out:
            yield Case("key word", intent.id, question, intent.answer)
        for question in intent.held_out_free:
            yield Case("no key word", intent.id, question, intent.answer)
    for question in corpus.other.held_out:
        yield Case("other matters", "other", question, corpus.other.answer)


def answers_of(path: Path, prompts: list[Prompt]) -> list[Said]:
    """The instruction form by the `komt` template, the other one as a raw text."""
    from komt_local import Model

    said = []
    with Model.load(str(path), n_ctx=512) as model:
        for question, form in prompts:
            if form == "komt":
                answer = model.chat(question, template=form, temperature=0, max_tokens=MAX_TOKENS)
            else:
                text = FORMS[form].format(question=question)
                answer = model.complete(text, temperature=0, max_tokens=MAX_TOKENS)
            said.append((answer.text, answer.finish_reason == "stop"))
    return said


def outcomes_of(corpus: Corpus, model: Path) -> list[Outcome]:
    asked = [(case, form) for case in cases(corpus) for form in FORMS]
    answers = answers_of(model, [(case.question, form) for case, form in asked])
    return [Outcome(*a, text, ended) for a, (text, ended) in zip(asked, answers, strict=True)]


def figures(outcomes: list[Outcome]) -> dict[str, object]:
    """Right answers per kind and form, and how many ended by themselves."""
    groups = {
        kind: [outcome for outcome in outcomes if outcome.case.kind == kind]
        for kind in dict.fromkeys(outcome.case.kind for outcome in outcomes)
    }
    english = [outcome for outcome in groups["key word"] if outcome.case.intent.endswith(".en")]
    groups["key word, English alone"] = english
    return {
        "right": {
            kind: {form: _rate([o for o in group if o.form == form]) for form in FORMS}
            for kind, group in groups.items()
        },
        "ended_by_themselves": sum(outcome.ended for outcome in outcomes),
        "answers": len(outcomes),
    }


def _rate(outcomes: list[Outcome]) -> dict[str, float]:
    right = sum(outcome.right for outcome in outcomes)
    return {"right": right, "of": len(outcomes), "percent": round(100 * right / len(outcomes), 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--json", type=Path, help="also write figures and misses to this file")
    parser.add_argument("--misses", action="store_true", help="print what was answered wrongly")
    chosen = parser.parse_args()
    outcomes = outcomes_of(load(), chosen.model)
    result = figures(outcomes)
    print(json.dumps(result, indent=2, ensure_ascii=False))
    wrong = [outcome for outcome in outcomes if not outcome.right]
    if chosen.misses:
        for outcome in wrong:
            case = outcome.case
            print(f"{outcome.form}\t{case.kind}\t{case.intent}\t{case.question}\t{outcome.said}")
    if chosen.json:
        result["misses"] = [asdict(outcome) for outcome in wrong]
        chosen.json.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
