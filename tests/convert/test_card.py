"""What a file says about its origin, from model cards as people write them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from checkpoints import write_json
from komt_convert.card import called, describe

CARD = """\
---
license: [apache-2.0, cc-by-nc-4.0]
license_name: 이름
language: ko
tags: [komt, 7]
model_creator: davidkim
base_model:
- meta-llama/Llama-2-7b-hf
- https://huggingface.co/beomi/llama-2-ko-7b
datasets: nlpai-lab/kullm-v2
---
# komt
"""


def described(folder: Path, card: str | None = None, **config: Any) -> dict[str, Any]:
    folder.mkdir()
    write_json(folder / "config.json", config)
    if card is not None:
        (folder / "README.md").write_text(card, encoding="utf-8")
    return {key: value.data for key, value in describe(folder, 6_738_415_616).items()}


def test_a_card_and_a_name_of_the_hub(tmp_path: Path) -> None:
    found = described(tmp_path / "x", CARD, _name_or_path="davidkim205/komt-llama2-7b-v1")
    assert found == {
        "general.type": "model",
        "general.name": "Komt Llama2 7b v1",
        "general.author": "davidkim",
        "general.version": "v1",
        "general.organization": "Davidkim205",
        "general.basename": "komt-llama2",
        "general.size_label": "7B",
        "general.license": "apache-2.0,cc-by-nc-4.0",
        "general.license.name": "이름",
        "general.source.repo_url": "https://huggingface.co/davidkim205/komt-llama2-7b-v1",
        "general.base_model.count": 2,
        "general.base_model.0.name": "Llama 2 7b Hf",
        "general.base_model.0.organization": "Meta Llama",
        "general.base_model.0.repo_url": "https://huggingface.co/meta-llama/Llama-2-7b-hf",
        "general.base_model.1.name": "Llama 2 Ko 7b",
        "general.base_model.1.organization": "Beomi",
        "general.base_model.1.repo_url": "https://huggingface.co/beomi/llama-2-ko-7b",
        "general.dataset.count": 1,
        "general.dataset.0.name": "Kullm v2",
        "general.dataset.0.version": "v2",
        "general.dataset.0.organization": "Nlpai Lab",
        "general.dataset.0.repo_url": "https://huggingface.co/nlpai-lab/kullm-v2",
        "general.tags": ["komt", "7"],
        "general.languages": ["ko"],
    }


def test_without_a_card_the_folder_gives_the_name(tmp_path: Path) -> None:
    found = described(tmp_path / "my-model")
    assert found["general.name"] == "My Model"
    assert found["general.size_label"] == "6.7B"
    assert "general.source.repo_url" not in found


def test_a_given_name_overrules(tmp_path: Path) -> None:
    described(tmp_path / "x", CARD)
    assert describe(tmp_path / "x", 1, name="내 모델")["general.name"].data == "내 모델"


@pytest.mark.parametrize("path", ["/home/me/models/x", "./x", "../x", "C:\\me/x", "x", "", None, 3])
def test_a_path_of_somebodys_disk_is_no_repository(path: object, tmp_path: Path) -> None:
    assert "general.source.repo_url" not in described(tmp_path / "x", _name_or_path=path)


BROKEN = [
    "",
    "---",
    "---\n: - {[\n---\n",
    "---\njust text\n---\n",
    "---\ntags: {a: 1}\nlicense: 3\n---\n",
    "---\nbase_model: [1, {2: 3}]\n---\n",
    "---\ndatasets: {a: b}\nlanguage: [ko, [en]]\n---\n",
    "---\na: &a [x]\nb: [*a, *a]\nlicense: *a\n---\n",
    "---\ndate: 2026-13-99\n---\n",
    "---\nx: !!python/object/apply:os.system ['echo no > escaped']\n---\n",
    "\ud7a3\x00---",
    "---\nlicense: " + "[" * 20_000 + "\n---\n",
    "---\nname: x\n---\n" + "a" * (5 << 20),
    "---\nname: x\n" + "- tag\n" * 20_000,
]


@pytest.mark.parametrize("card", BROKEN)
def test_a_broken_card_stops_nothing(
    card: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = described(tmp_path / "my-model", card)
    assert found["general.name"] == "My Model"
    assert [path.name for path in tmp_path.iterdir()] == ["my-model"]


BOMB = "\n".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]" for a, b in pairwise("abcdefghijkl"))


@pytest.mark.parametrize("key", ["license", "base_model", "datasets", "tags", "language", "name"])
def test_a_card_of_aliases_stops_nothing(key: str, tmp_path: Path) -> None:
    """Written out, it has 10 ** 11 letters."""
    card = f"---\na: &a [x, x]\n{BOMB}\n{key}: *l\n---\n"
    assert described(tmp_path / "my-model", card)["general.name"] == "My Model"


def test_a_card_in_another_encoding_stops_nothing(tmp_path: Path) -> None:
    described(tmp_path / "my-model")
    (tmp_path / "my-model" / "README.md").write_bytes("---\nname: 한글\n---".encode("cp949"))
    assert describe(tmp_path / "my-model", 1)["general.name"].data == "My Model"


def test_sampling_defaults_are_kept_for_other_programs(tmp_path: Path) -> None:
    described(tmp_path / "x")
    settings = {"temperature": 0.7, "top_k": 20.0, "top_p": True, "repetition_penalty": 1.1}
    write_json(tmp_path / "x" / "generation_config.json", settings)
    found = {key: value.data for key, value in describe(tmp_path / "x", 1).items()}
    assert {key: value for key, value in found.items() if ".sampling." in key} == {
        "general.sampling.top_k": 20,
        "general.sampling.temp": 0.7,
        "general.sampling.penalty_repeat": 1.1,
    }


def test_a_snapshot_is_called_what_its_repository_is(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--davidkim205--komt-mistral-7b-v1" / "snapshots" / ("5e" * 20)
    snapshot.parent.mkdir(parents=True)
    found = described(snapshot, "# komt", _name_or_path="/home/david/mistral-7b")
    assert found["general.name"] == "Komt Mistral 7b v1"
    assert found["general.organization"] == "Davidkim205"
    page = "https://huggingface.co/davidkim205/komt-mistral-7b-v1"
    assert found["general.source.repo_url"] == page
    assert called(snapshot) == "komt-mistral-7b-v1"
    assert called(tmp_path / "mine") == "mine"
