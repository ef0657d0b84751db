"""`show`: the template by identity, the ids, what is unconfirmed, and why an answer ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from runtime_models import byte_ids, token_ids, write_chain

from komt_local import Model
from komt_local.cli import run


def shown(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert run(["show", *arguments]) == 0
    return capsys.readouterr().out


HUB = "https://huggingface.co/"
REPOSITORY, BASE = "general.source.repo_url", "general.base_model.0"


@pytest.mark.parametrize(
    ("metadata", "template"),
    [
        ({REPOSITORY: HUB + "beomi/KoAlpaca-Polyglot-12.8B"}, "koalpaca"),
        ({"general.source.url": HUB + "davidkim205/komt-mistral-7b-v1/"}, "komt-mistral"),
        ({"general.basename": "Komt Mistral-7B_v1"}, "komt-mistral"),
        ({f"{BASE}.repo_url": HUB + "nlpai-lab/KULLM3"}, "kullm3"),
        ({f"{BASE}.name": "KULLM3", REPOSITORY: HUB + "me/x"}, "kullm3"),
        ({"general.repo_url": HUB + "me/mine"}, None),
    ],
)  # fmt: skip
def test_a_file_without_a_template_is_known_by_what_it_says(
    metadata: Any, template: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_chain(tmp_path / "model.gguf", [token_ids("▁one", "▁two")], **metadata)
    assert json.loads(shown([str(path), "--json"], capsys))["template"] == template
    if template:
        with Model.load(path, n_ctx=64) as model:
            assert model.template.name == template
    else:
        assert "--detect-template" in shown([str(path)], capsys)


def test_the_ids_are_those_that_are_sent(
    chat_gguf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = json.loads(shown([str(chat_gguf), "안녕?", "--ids", "--json"], capsys))
    with Model.load(chat_gguf, n_ctx=64) as model:
        assert told["ids"] == model.prompt_tokens("안녕?")
    assert f"token ids: {' '.join(map(str, told['ids']))}\n" in shown(
        [str(chat_gguf), "안녕?", "--ids"], capsys
    )


def test_what_is_unconfirmed_is_marked(chat_gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "korani, single turn, unconfirmed (github.com/krafton-ai" in shown(
        [str(chat_gguf), "--template", "korani"], capsys
    )
    assert "unconfirmed" not in shown([str(chat_gguf), "--template", "komt"], capsys)


@pytest.fixture(scope="module")
def runs_on(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Asked in komt's form, it answers, and then writes `###` and the rest of a new question."""
    space, hashes, end = token_ids("▁", "▁###", "▁world")
    chain = [space, *byte_ids("네"), hashes, end]
    return write_chain(tmp_path_factory.mktemp("stops") / "model.gguf", [chain])


def test_stops_says_where_an_end_was_likely_and_what_would_have_caught_it(
    runs_on: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--stops", str(runs_on), "안녕?", "--template", "komt"]
    lines = shown(arguments, capsys).splitlines()
    assert lines[0] == "end tokens of the file: '</s>' (2)"
    assert lines[1:3] == ["answer: 네 ### world", "ended by: </s>"]
    assert any("100.00%  </s>" in line and line.endswith("world|") for line in lines)
    assert "'###', a stop of kullm-v1, would end it at character 2" in lines
    told = json.loads(shown([*arguments, "--json"], capsys))
    assert (told["end_token"], told["finish_reason"]) == ("</s>", "stop")
    assert told["end_tokens"] == {"</s>": 2}
    assert told["places"][-1]["probability"] > 0.9 > told["places"][0]["probability"]


def test_an_answer_that_never_ends(chat_gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--stops", str(chat_gguf), "안녕?", "--template", "komt-output", "--json"]
    told = json.loads(shown(arguments, capsys))
    assert (told["finish_reason"], told["end_token"]) == ("length", None)
    assert all(place["probability"] < 0.01 for place in told["places"])


def test_stops_needs_a_question(chat_gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", "--stops", str(chat_gguf)]) == 2
    assert "There is no question" in capsys.readouterr().err
