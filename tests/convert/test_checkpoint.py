"""Opening a folder: what is a checkpoint, and one sentence for each thing that is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from checkpoints import write_json, write_llama_checkpoint, write_safetensors
from komt_convert.checkpoint import open_checkpoint, read_json
from komt_convert.errors import SourceError, UnsupportedError

INDEX = "model.safetensors.index.json"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.fixture
def single(tmp_path: Path) -> Path:
    return write_llama_checkpoint(tmp_path / "single", n_layers=1, hidden_size=64)


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return write_llama_checkpoint(tmp_path / "sharded", n_layers=1, hidden_size=64, shards=2)


def test_one_file_and_shards_hold_the_same(single: Path, sharded: Path) -> None:
    one, two = open_checkpoint(single), open_checkpoint(sharded)
    assert one.tensors.keys() == two.tensors.keys()
    assert one.config["hidden_size"] == 64
    assert one.size_bytes == (single / "model.safetensors").stat().st_size
    assert two.size_bytes == sum(file.stat().st_size for file in sharded.glob("*.safetensors"))


def test_shards_without_an_index_are_read(sharded: Path) -> None:
    names = open_checkpoint(sharded).tensors.keys()
    (sharded / INDEX).unlink()
    assert open_checkpoint(sharded).tensors.keys() == names


def test_other_files_do_not_matter(single: Path) -> None:
    (single / "consolidated.safetensors").write_bytes(b"what Mistral publishes beside it")
    (single / "pytorch_model.bin").write_bytes(b"the same again")
    assert open_checkpoint(single).tensors


# --- what is refused, and the words in which -----------------------------------------------------

Change = Callable[[Path], object]


def config_with(key: str, value: object) -> Change:
    def change(folder: Path) -> None:
        write_json(folder / "config.json", {**read_json(folder / "config.json"), key: value})

    return change


def without_weights(*others: str) -> Change:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        for name in others:
            (folder / name).write_bytes(b"x")

    return change


def only(*names: str) -> Change:
    def change(folder: Path) -> None:
        for file in folder.iterdir():
            file.unlink()
        for name in names:
            (folder / name).write_bytes(b"{}")

    return change


REFUSED: dict[str, tuple[Change, type[SourceError], str]] = {
    "empty folder": (only(), SourceError, "has no config.json, so it is no checkpoint"),
    "Meta's format": (
        only("consolidated.00.pth", "params.json"),
        UnsupportedError,
        "use the Hugging Face version",
    ),
    "Meta's format, weights only": (only("consolidated.00.pth"), UnsupportedError, "Meta's own"),
    "an adapter": (only("adapter_config.json"), UnsupportedError, "is a LoRA adapter"),
    "an adapter with a config": (
        without_weights("adapter_config.json", "adapter_model.safetensors"),
        UnsupportedError,
        "is a LoRA adapter",
    ),
    "no weights": (without_weights(), SourceError, "has no model.safetensors"),
    "weights under another name": (
        without_weights("weights.pth"),
        UnsupportedError,
        "save it again with save_pretrained",
    ),
    "a config that is no JSON": (
        lambda folder: (folder / "config.json").write_text("{", encoding="utf-8"),
        SourceError,
        "config.json is not a JSON object",
    ),
    "a config that is a list": (
        lambda folder: (folder / "config.json").write_text("[]", encoding="utf-8"),
        SourceError,
        "config.json is not a JSON object",
    ),
    "AWQ": (
        config_with("quantization_config", {"quant_method": "awq", "bits": 4}),
        UnsupportedError,
        "quantized already (awq)",
    ),
    "GPTQ by its file": (
        lambda folder: write_json(folder / "quantize_config.json", {"bits": 4}),
        UnsupportedError,
        "quantized already (quantize_config.json)",
    ),
    "bitsandbytes": (
        config_with("quantization_config", {"quant_method": "bitsandbytes"}),
        UnsupportedError,
        "quantized already (bitsandbytes)",
    ),
    "cut short": (
        lambda folder: (folder / "model.safetensors").write_bytes(
            (folder / "model.safetensors").read_bytes()[:-5]
        ),
        SourceError,
        "lies beyond its end",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_checkpoint_is_refused(name: str, single: Path) -> None:
    change, kind, sentence = REFUSED[name]
    change(single)
    with pytest.raises(kind) as error:
        open_checkpoint(single)
    assert type(error.value) is kind
    assert sentence in str(error.value)
    assert str(single) in str(error.value)
    assert str(single) in error.value.ko


def test_a_path_that_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        open_checkpoint(tmp_path / "nothing")
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(SourceError, match="is a file"):
        open_checkpoint(tmp_path / "model.gguf")


def test_packed_weights_are_known_by_their_names(single: Path) -> None:
    from checkpoints import noise

    name = "model.layers.0.mlp.up_proj.qweight"
    write_safetensors(single / "model.safetensors", {name: noise((2, 2), 0)}, "F32")
    with pytest.raises(UnsupportedError, match="qweight"):
        open_checkpoint(single)


def test_a_missing_shard_is_named(sharded: Path) -> None:
    (sharded / SECOND).unlink()
    with pytest.raises(SourceError, match=f"lacks '{SECOND}' of its 2 weight files"):
        open_checkpoint(sharded)
    (sharded / INDEX).unlink()
    with pytest.raises(SourceError, match=f"lacks '{SECOND}' of its 2 weight files"):
        open_checkpoint(sharded)


def change_index(folder: Path, change: Callable[[dict[str, str]], object]) -> None:
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    change(index["weight_map"])
    write_json(folder / INDEX, index)


def test_a_missing_tensor_is_named(sharded: Path) -> None:
    change_index(sharded, lambda names: names.update({"model.extra.weight": FIRST}))
    with pytest.raises(SourceError, match=r"lack 'model\.extra\.weight'"):
        open_checkpoint(sharded)


def test_an_extra_tensor_is_named(sharded: Path) -> None:
    change_index(sharded, lambda names: names.pop("model.norm.weight"))
    with pytest.raises(SourceError, match=r"hold 'model\.norm\.weight'"):
        open_checkpoint(sharded)


def test_a_tensor_in_two_shards_is_named(sharded: Path) -> None:
    (sharded / SECOND).write_bytes((sharded / FIRST).read_bytes())
    with pytest.raises(SourceError, match="holds 'lm_head.weight'.* again"):
        open_checkpoint(sharded)


@pytest.mark.parametrize("name", ["../escape.safetensors", "/etc/passwd", "", 7, None])
def test_an_index_names_files_of_the_folder_only(name: object, sharded: Path) -> None:
    change_index(sharded, lambda names: names.update({"model.norm.weight": name}))  # type: ignore[dict-item]
    with pytest.raises(SourceError, match="does not say which file holds which tensor"):
        open_checkpoint(sharded)
