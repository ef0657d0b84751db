"""Files of torch.save: the same values as safetensors, never all at once, and no code is run."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from checkpoints import noise, write_json, write_llama_checkpoint
from komt_convert import convert, pickled
from komt_convert.checkpoint import open_checkpoint
from komt_convert.errors import SourceError, UnsupportedError
from komt_convert.lora import merge
from komt_convert.lora_file import read_adapter
from komt_convert.pickled import read_pickled

SINGLE, INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"


def pickle_weights(folder: Path, shards: int = 1) -> Path:
    """Write the safetensors of a checkpoint as torch would have in 2023, and remove them."""
    from safetensors.torch import load_file

    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if shards == 1:
        torch.save(state, folder / SINGLE)
        return folder
    weight_map = {}
    for number in range(shards):
        file = f"pytorch_model-{number + 1:05}-of-{shards:05}.bin"
        names = sorted(state)[number::shards]
        torch.save({name: state[name] for name in names}, folder / file)
        weight_map |= dict.fromkeys(names, file)
    write_json(folder / INDEX, {"metadata": {}, "weight_map": weight_map})
    return folder


def small(folder: Path, **settings: Any) -> Path:
    return write_llama_checkpoint(folder, n_layers=1, hidden_size=64, n_heads=4, **settings)


# --- what is read --------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_the_file_is_that_of_safetensors(shards: int, dtype: Any, tmp_path: Path) -> None:
    source = small(tmp_path / "model", dtype=dtype)
    convert(source, tmp_path / "safe.gguf", quant="Q4_K_M", verify=False)
    pickle_weights(source, shards)
    report = convert(source, tmp_path / "pickled.gguf", quant="Q4_K_M")
    assert (tmp_path / "safe.gguf").read_bytes() == (tmp_path / "pickled.gguf").read_bytes()
    assert report.source_bytes == sum(file.stat().st_size for file in source.glob("*.bin"))


def test_safetensors_come_first(tmp_path: Path) -> None:
    folder = small(tmp_path / "model")
    (folder / SINGLE).write_bytes(b"never looked at")
    assert open_checkpoint(folder).tensors


def test_shards_are_held_against_their_index(tmp_path: Path) -> None:
    folder = pickle_weights(small(tmp_path / "model"), shards=2)
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    removed = index["weight_map"].pop("model.norm.weight")
    write_json(folder / INDEX, index)
    with pytest.raises(SourceError, match=rf"hold 'model\.norm\.weight', which {INDEX} does not"):
        open_checkpoint(folder)
    (folder / removed).unlink()
    with pytest.raises(SourceError, match=f"lacks '{removed}' of its 2 weight files"):
        open_checkpoint(folder)


def test_rows_of_shared_storages_parameters_and_vectors(tmp_path: Path) -> None:
    values = torch.from_numpy(noise((40, 24), 7))
    state = OrderedDict(
        whole=values,
        again=values,
        rows=values[10:20],
        half=values.to(torch.bfloat16),
        parameter=torch.nn.Parameter(values[0]),
        mask=torch.ones(3, 3, dtype=torch.bool),
    )
    torch.save(state, tmp_path / "some.bin")
    tensors = read_pickled(tmp_path / "some.bin")
    expected = values.numpy()
    np.testing.assert_array_equal(tensors["whole"].read(3, 9), expected[3:9])
    np.testing.assert_array_equal(tensors["again"].read(0, 40), expected)
    np.testing.assert_array_equal(tensors["rows"].read(1, 10), expected[11:20])
    np.testing.assert_array_equal(tensors["half"].read(5, 6), state["half"][5:6].float().numpy())
    np.testing.assert_array_equal(tensors["parameter"].read(0, 1), expected[:1])
    assert (tensors["mask"].dtype, tensors["mask"].shape) == ("BOOL", (3, 3))
    with pytest.raises(UnsupportedError, match="'mask' has the dtype BOOL"):
        tensors["mask"].read(0, 1)


def test_older_versions_of_torch_read_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = torch.arange(12, dtype=torch.float32).reshape(4, 3)
    torch.save({"a": values, "b": values[1:]}, tmp_path / "some.bin")
    monkeypatch.setattr(pickled, "shapes_alone", lambda torch: pickled.fake_tensors())
    tensors = read_pickled(tmp_path / "some.bin")
    np.testing.assert_array_equal(tensors["a"].read(0, 4), values.numpy())
    np.testing.assert_array_equal(tensors["b"].read(1, 3), values[2:].numpy())


MEASURE = """
import resource, sys
from pathlib import Path
import psutil, torch
from komt_convert.pickled import read_pickled
from komt_convert.report import peak_memory_bytes
before = peak_memory_bytes()
limit = psutil.Process().memory_info().vms + (100 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
tensor = read_pickled(Path(sys.argv[1]))["w"]
total = sum(float(tensor.read(i, i + 1024).sum()) for i in range(0, tensor.n_rows, 1024))
print(total, peak_memory_bytes() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """192 MiB are read in parts of 4 MiB, where there is room for 100 MiB, mapped pages counted."""
    torch.save({"w": torch.ones(48 * 1024, 1024)}, tmp_path / "large.bin")
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "large.bin")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    total, growth = done.stdout.split()
    assert float(total) == 48 * 1024 * 1024
    assert int(growth) < 64 << 20


def test_an_adapter_may_be_pickled(tmp_path: Path) -> None:
    base = open_checkpoint(small(tmp_path / "model")).tensors
    name = "model.layers.0.self_attn.q_proj"
    a, b = noise((4, 64), 1), noise((64, 4), 2)
    halves = {f"base_model.model.{name}.lora_{half}.weight": v for half, v in (("A", a), ("B", b))}
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    write_json(adapter / "adapter_config.json", {"peft_type": "LORA", "r": 4, "lora_alpha": 4})
    torch.save({n: torch.from_numpy(v) for n, v in halves.items()}, adapter / "adapter_model.bin")
    merged = merge(base, read_adapter(adapter))[f"{name}.weight"]
    expected = base[f"{name}.weight"].read(0, 64) + b @ a
    np.testing.assert_allclose(merged.read(0, 64), expected, rtol=0, atol=1e-6)


# --- what is refused -----------------------------------------------------------------------------

HIDE_TORCH = """
import sys
sys.modules["torch"] = None
from komt_convert.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_without_torch_it_is_said_how_to_get_it(tmp_path: Path) -> None:
    folder = pickle_weights(small(tmp_path / "model"))
    arguments = [str(folder), "-o", str(tmp_path / "out.gguf")]
    command = [sys.executable, "-c", HIDE_TORCH, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f"{folder / SINGLE} can be read with torch only, which is not installed; "
        "install it with: pip install 'komt-local[convert]'\n"
    )
    assert not (tmp_path / "out.gguf").exists()


class Runs:
    """An object whose pickle calls a function when it is loaded the ordinary way."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("place", ["value", "key", "whole"])
def test_code_is_refused_by_name_and_not_run(place: str, tmp_path: Path) -> None:
    marker = tmp_path / "it ran"
    runs = Runs(Path.mkdir, marker)
    tensor = torch.ones(2)
    states: dict[str, object] = {
        "value": {"weight": tensor, "other": runs},
        "key": {"weight": tensor, (runs,): tensor},
        "whole": runs,
    }
    torch.save(states[place], tmp_path / SINGLE)
    with pytest.raises(UnsupportedError) as error:
        read_pickled(tmp_path / SINGLE)
    assert "getattr to be run" in str(error.value) or "mkdir to be run" in str(error.value)
    assert str(tmp_path / SINGLE) in error.value.ko
    assert not marker.exists()


STATES: dict[str, tuple[object, str]] = {
    "a list": ([torch.ones(2)], "holds no tensors by name"),
    "a number": ({"step": 3}, "holds int 'step'"),
    "a nested state": ({"state_dict": {"weight": torch.ones(2)}}, "holds dict 'state_dict'"),
    "a transposed view": ({"w": torch.ones(2, 3).T}, "'w', whose values do not lie row by row"),
    "an expanded view": ({"w": torch.ones(1, 3).expand(4, 3)}, "do not lie row by row"),
    "sparse": ({"w": torch.ones(2, 3).to_sparse()}, "do not lie row by row"),
}


@pytest.mark.parametrize("name", STATES)
def test_what_is_no_plain_state_is_refused(name: str, tmp_path: Path) -> None:
    state, sentence = STATES[name]
    torch.save(state, tmp_path / SINGLE)
    with pytest.raises(UnsupportedError) as error:
        read_pickled(tmp_path / SINGLE)
    assert sentence in str(error.value)
    assert "save_pretrained()" in error.value.ko


def test_the_format_before_torch_1_6_is_named(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / SINGLE, _use_new_zipfile_serialization=False)
    with pytest.raises(UnsupportedError, match="saved as torch before 1.6 did"):
        read_pickled(tmp_path / SINGLE)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / SINGLE).write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(SourceError, match="no file of torch.save"):
        read_pickled(tmp_path / SINGLE)
    torch.save({"w": torch.ones(2)}, tmp_path / SINGLE)
    whole = (tmp_path / SINGLE).read_bytes()
    (tmp_path / SINGLE).write_bytes(whole[:-40])
    with pytest.raises(SourceError, match="no file of torch.save"):
        read_pickled(tmp_path / SINGLE)


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    """Its values would be read as they lie in the file."""
    torch.save({"w": torch.ones(1000)}, tmp_path / "plain.bin")
    with (
        zipfile.ZipFile(tmp_path / "plain.bin") as plain,
        zipfile.ZipFile(tmp_path / SINGLE, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with pytest.raises(SourceError, match="archive is compressed"):
        read_pickled(tmp_path / SINGLE)
