"""What a request gets where it says nothing: from the file, then from the template."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from runtime_models import write_random

from komt_local import Model
from komt_local.model.defaults import default_sampling
from komt_local.prompts import PRESETS


def test_the_file_comes_before_the_template() -> None:
    metadata = {"general.sampling.temp": "0.000000", "general.sampling.top_k": "7"}
    assert default_sampling(metadata, PRESETS["komt"]) == {
        "temperature": 0.0,
        "top_k": 7,
        "top_p": 0.8,
    }
    assert default_sampling(metadata, None) == {"temperature": 0.0, "top_k": 7}


@pytest.mark.parametrize("value", ["-1.0", "nan", "warm", "", "1e999"])
def test_nonsense_in_a_file_is_passed_over(value: str) -> None:
    assert default_sampling({"general.sampling.temp": value}, None) == {}


def test_a_file_that_wants_the_likeliest_gets_it(tmp_path: Path) -> None:
    path = write_random(tmp_path / "greedy.gguf", **{"general.sampling.temp": "0"})
    with Model.load(path, n_ctx=128, threads=1) as model:
        answers = {model.chat("안녕", template="komt", max_tokens=8).text for _ in range(3)}
        assert len(answers) == 1
        assert answers == {model.chat("안녕", template="komt", max_tokens=8, top_k=1).text}


def test_a_text_is_prepared_as_the_source_tokenizer_does(tmp_path: Path) -> None:
    keys = {"komt.tokenizer.normal_form": "NFC", "komt.tokenizer.absorbs_space": True}
    path = write_random(tmp_path / "prepared.gguf", **keys)
    with Model.load(path, n_ctx=128, threads=1) as model:
        decomposed = unicodedata.normalize("NFD", "한글")
        assert model.tokenize(decomposed) == model.tokenize("한글")
        assert model.tokenize(" 한글") == model.tokenize("한글")
