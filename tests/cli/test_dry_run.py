"""`convert --dry-run`: sizes and memory of every type, without reading a weight."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from checkpoints import write_llama_checkpoint
from komt_convert import convert, survey, tensors
from komt_convert.errors import QuantizationError
from komt_convert.file_types import FILE_TYPES
from komt_local import hardware
from komt_local.cli import run


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama_checkpoint(
        tmp_path_factory.mktemp("source") / "my-model",
        n_layers=8,
        hidden_size=256,
        intermediate_size=256,
        n_heads=4,
        n_kv_heads=2,
    )


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*arguments: Any) -> Any:
        raise AssertionError("a weight is read")

    monkeypatch.setattr(tensors, "read_at", read)


def sizes(checkpoint: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert run(["convert", str(checkpoint), "--dry-run", "--json", *options]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_all_types_are_there_with_their_sizes(
    checkpoint: Path, no_weights: None, capsys: pytest.CaptureFixture[str]
) -> None:
    found = sizes(checkpoint, capsys)
    by_name = {option["type"]: option for option in found["types"]}
    assert set(by_name) == set(FILE_TYPES)
    files = [option["file_bytes"] for option in found["types"]]
    assert files == sorted(files, reverse=True)
    assert by_name["F32"]["bits_per_weight"] == 32
    needing = {name for name, option in by_name.items() if option["needs_imatrix"]}
    assert needing == {name for name in FILE_TYPES if name[:3] in ("IQ1", "IQ2", "Q2_")} - {
        "Q2_K", "Q2_0"
    } | {"IQ3_XS", "IQ3_XXS"}  # fmt: skip


@pytest.mark.parametrize("name", ["F16", "Q4_K_M", "Q8_0"])
def test_the_sizes_are_those_of_the_files(
    name: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = convert(checkpoint, tmp_path / "model.gguf", quant=name, verify=False)
    option = next(o for o in survey(checkpoint).options if o.file_type == name)
    assert (option.out_bytes, option.bits_per_weight) == (report.out_bytes, report.bits_per_weight)


def test_the_memory_is_what_running_is_refused_by(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small, large = (sizes(checkpoint, capsys, "-c", n)["types"][0] for n in ("512", "1024"))
    shape = hardware.Shape(8, 2 * (64 + 64), 256, 256, n_vocab=0)
    assert large["kv_cache_bytes"] == hardware.kv_cache_bytes(shape, 1024, hardware.Demand())
    assert large["kv_cache_bytes"] == 2 * small["kv_cache_bytes"]
    parts = sum(large[f"{part}_bytes"] for part in ("weights", "kv_cache", "compute"))
    assert parts < large["memory_bytes"] < parts + (100 << 20)


def test_types_of_single_tensors_count(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def q4_0(*options: str) -> int:
        types = sizes(checkpoint, capsys, *options)["types"]
        return next(int(o["file_bytes"]) for o in types if o["type"] == "Q4_0")

    assert q4_0("--tensor-type", "attn_v=Q8_0") > q4_0()
    with pytest.raises(QuantizationError, match="nothing_of"):
        survey(checkpoint, tensor_types=["nothing_of_that_name=Q8_0"])


def test_the_table_says_what_does_not_fit(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "available_memory", lambda: 1 << 20)
    assert run(["convert", str(checkpoint), "--dry-run", "-c", "4096"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert "with a context of 4,096 tokens (1.0 MiB available)" in head
    assert len(lines) == len(FILE_TYPES)
    assert all("too large here" in line for line in lines)
    assert next(line for line in lines if line.startswith("IQ2_XS")).split()[-5:-3] == [
        "needs", "--imatrix,"
    ]  # fmt: skip


def test_a_file_is_asked_for_otherwise(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["convert", str(checkpoint)]) == 2
    assert "--dry-run" in capsys.readouterr().err
