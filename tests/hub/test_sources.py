"""`convert` and `verify` with what the hub has: checkpoints, adapters, and what these name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from hub_server import CHECKPOINT, LoopbackHub, Repo

from checkpoints import noise, write_json, write_safetensors
from komt_local import library
from komt_local.cli import run
from komt_local.hub import Hub, checkpoints

ADAPTER = "org/tiny-lora"
MODULE = "base_model.model.model.layers.0.mlp.down_proj"


@pytest.fixture
def adapter(
    server: LoopbackHub, checkpoint: dict[str, bytes], tiny_checkpoint: Path, tmp_path: Path
) -> Path:
    """The folder of an adapter that the hub has as well, trained on the checkpoint of the hub."""
    config = json.loads((tiny_checkpoint / "config.json").read_text())
    shape = config["hidden_size"], config["intermediate_size"]
    folder = tmp_path / "adapter"
    folder.mkdir()
    write_json(
        folder / "adapter_config.json",
        {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": CHECKPOINT},
    )
    weights = {
        f"{MODULE}.lora_A.weight": noise((4, shape[1]), 1),
        f"{MODULE}.lora_B.weight": noise((shape[0], 4), 2),
    }
    write_safetensors(folder / "adapter_model.safetensors", weights, "F32")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    server.repos[ADAPTER] = Repo(files | {"training_args.bin": b"x" * 9000})
    return folder


def made(out: Path, *arguments: Any) -> dict[str, np.ndarray]:
    """The tensors of what `convert` makes."""
    command = ["convert", *map(str, arguments), "-o", str(out), "-q", "F16"]
    assert run(command) == 0
    return {tensor.name: tensor.data.copy() for tensor in GGUFReader(out).tensors}


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(map(np.array_equal, one.values(), other.values()))


def test_convert_takes_a_repository_as_its_source(
    here: Hub, checkpoint: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made.gguf"
    arguments = ["convert", CHECKPOINT, "-o", str(out), "-q", "Q8_0", "--quiet"]
    assert run([*arguments, "--offline"]) == 1
    assert "offline was asked for" in capsys.readouterr().err
    assert run(arguments) == 0
    assert library.describe(out).file_type == "Q8_0"
    out.unlink()
    assert run([*arguments, "--offline"]) == 0


def test_an_adapter_brings_the_model_that_it_names(
    here: Hub,
    adapter: Path,
    tiny_checkpoint: Path,
    tmp_path: Path,
    server: LoopbackHub,
    capsys: pytest.CaptureFixture[str],
) -> None:
    expected = made(tmp_path / "expected.gguf", tiny_checkpoint, "--lora", adapter)
    plain = made(tmp_path / "plain.gguf", tiny_checkpoint)
    assert server.log == [] and not same(expected, plain)
    capsys.readouterr()

    out = tmp_path / "merged.gguf"
    assert same(made(out, ADAPTER), expected)
    assert f"{ADAPTER} was trained on {CHECKPOINT}, which is brought as well" in (
        capsys.readouterr().err
    )
    assert library.describe(out).name == "tiny-lora"
    assert not list(here.cache.rglob("training_args.bin"))

    asked = len(server.log)
    assert same(made(tmp_path / "again.gguf", ADAPTER, "--offline"), expected)
    assert run(["verify", str(out), "--against", ADAPTER, "--offline"]) == 0
    assert run(["verify", str(out), "--against", CHECKPOINT, "--lora", ADAPTER, "--offline"]) == 0
    assert run(["verify", str(out), "--against", CHECKPOINT, "--offline"]) == 1
    assert len(server.log) == asked


def test_adapters_and_bases_are_repositories_or_folders(
    here: Hub, adapter: Path, tiny_checkpoint: Path, tmp_path: Path, server: LoopbackHub
) -> None:
    expected = made(tmp_path / "expected.gguf", tiny_checkpoint, "--lora", adapter)
    assert same(made(tmp_path / "1.gguf", tiny_checkpoint, "--lora", ADAPTER), expected)
    assert same(made(tmp_path / "2.gguf", ADAPTER, "--base", tiny_checkpoint), expected)
    assert not [request for request in server.log if f"/{CHECKPOINT}/" in request.path]
    assert same(made(tmp_path / "3.gguf", adapter, "--base", CHECKPOINT), expected)


def test_an_adapter_by_itself_needs_no_weights_of_its_base(
    here: Hub,
    adapter: Path,
    checkpoint: dict[str, bytes],
    tmp_path: Path,
    server: LoopbackHub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checkpoints, "find_spec", lambda name: None)  # no torch for the pickle
    base = {"config.json": checkpoint["config.json"], "pytorch_model.bin": b"x" * 9000}
    server.repos[CHECKPOINT] = Repo(base)
    made(tmp_path / "adapter.gguf", ADAPTER, "--as-adapter")
    assert list(here.cache.rglob("adapter_model.safetensors"))
    assert not list(here.cache.rglob("pytorch_model.bin"))


def test_nothing_is_downloaded_for_what_is_refused(
    here: Hub, adapter: Path, tmp_path: Path, server: LoopbackHub, capsys: Any
) -> None:
    out = tmp_path / "out.gguf"
    for options, sentence in {
        ("--lora-scale", "2"): "There are 0 --lora and 1 --lora-scale",
        ("-q", "Q4_Z"): "Q4_Z",
        ("--imatrix", "nowhere"): "nowhere",
    }.items():
        assert run(["convert", ADAPTER, "-o", str(out), *options]) in (1, 2)
        assert sentence in capsys.readouterr().err
    out.write_bytes(b"mine")
    assert run(["convert", ADAPTER, "-o", str(out)]) == 1
    assert "exists" in capsys.readouterr().err
    assert server.log == []


def test_a_base_that_is_no_repository_is_asked_for(
    here: Hub, adapter: Path, tmp_path: Path, server: LoopbackHub, capsys: Any
) -> None:
    for name in (
        "/home/david/llama-2",
        "C:\\models\\llama",
        "내 모델",
        "../llama",
        "~nobody/x",
        "a" * 5000,
    ):
        settings = {"peft_type": "LORA", "lora_alpha": 8, "base_model_name_or_path": name}
        write_json(adapter / "adapter_config.json", settings)
        assert run(["convert", str(adapter), "-o", str(tmp_path / "out.gguf")]) == 1
        assert "give its folder with --base" in capsys.readouterr().err
    assert server.log == []
