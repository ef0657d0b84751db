"""A model tells which template it was trained with; tiny models that know one each.

The models are bigrams: the logits after a token are the logarithms of how often each other one
followed it in a text, which is dialogues in the template's form.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runtime_models
from runtime_models import vocabulary

from komt_convert.ggml import Tokenizer
from komt_local import Model
from komt_local.cli import run
from komt_local.model.detect import ANSWER, QUESTION, sureness
from komt_local.prompts import PRESETS, render
from komt_local.types import Message

TALKS = [
    (QUESTION, ANSWER),
    ("인삼은 어떤 효과가 있나요?", "기력을 돕고 피로를 덜어 줍니다."),
    ("오늘 날씨는 어때요?", "맑고 따뜻합니다."),
]
N_EMBD = 192


def write_bigram(path: Path, name: str | None) -> Path:
    """A model that has read dialogues in that template, or without one, of none."""
    keys = vocabulary()
    n_vocab, random = len(keys["tokenizer.ggml.tokens"]), np.random.default_rng(0)
    embedding = random.choice([-1.0, 1.0], (n_vocab, N_EMBD))
    output = np.zeros((n_vocab, N_EMBD))
    for (a, b), share in _shares(name).items():
        # One that always follows gets a logit of 20, and others less by the logarithm.
        output[b] += embedding[a] * (20 + math.log(share)) / N_EMBD
    write = runtime_models._write  # type: ignore[attr-defined]
    return write(path, keys, 1, 2048, lambda *shape: np.zeros(shape), embedding, output, {})


def _shares(name: str | None) -> dict[tuple[int, int], float]:
    pairs: Counter[tuple[int, int]] = Counter()
    with Tokenizer(runtime_models.VOCABULARIES / "ggml-vocab-llama-spm.gguf") as tokenizer:
        for question, answer in TALKS:
            text = _dialogue(name, question, answer)
            pairs.update(pairwise([1, *tokenizer.encode(text, parse_special=True)]))
    totals: Counter[int] = Counter()
    for (first, _), count in pairs.items():
        totals[first] += count
    return {(a, b): count / totals[a] for (a, b), count in pairs.items()}


def _dialogue(name: str | None, question: str, answer: str) -> str:
    if name is None:
        return question + " " + answer
    turns = [Message("user", question), Message("assistant", answer), Message("user", question)]
    return "".join(part.text for part in render(PRESETS[name], turns, bos="", eos="</s>"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("bigrams")
    known: dict[str | None, Path] = {}
    before, runtime_models.N_EMBD = runtime_models.N_EMBD, N_EMBD

    def write(name: str | None) -> Path:
        if name not in known:
            known[name] = write_bigram(folder / f"{name}.gguf", name)
        return known[name]

    yield write
    runtime_models.N_EMBD = before


@pytest.mark.parametrize("name", ["komt", "koalpaca", "kullm-v2", "chatml", "llama-2"])
def test_a_model_knows_its_own_template(models: Any, name: str) -> None:
    with Model.load(models(name), threads=1) as model:
        fits = model.rank_templates()
    assert name in (fits[0].template, *fits[0].same)
    # KULLM's instruction has full stops of its own, so that a bigram knows no end of an answer.
    assert sureness(fits) != "unsure" or name == "kullm-v2"
    assert fits[0].total > fits[1].total
    ranked = [each for fit in fits for each in (fit.template, *fit.same)]
    assert sorted(ranked) == sorted(PRESETS)


def test_a_model_without_a_template_says_so(models: Any) -> None:
    with Model.load(models(None), threads=1) as model:
        fits = model.rank_templates(["komt", "koalpaca", "chatml", "llama-2"])
    assert sureness(fits) == "unsure"
    assert sureness([]) == "unsure"


def test_show_asks_the_model(models: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", str(models("koalpaca")), "--detect-template", "-t", "1"]) == 0
    shown = capsys.readouterr().out
    assert "koalpaca" in shown.splitlines()[1]
    assert shown.splitlines()[-1].startswith("best: ")
    assert run(["show", str(models("komt")), "--detect-template", "-t", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["templates"][0]["template"] == "komt" and told["sureness"] != "unsure"
