"""`verify` on the command line: what it says of a file that is whole, damaged, or another model."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from checkpoints import noise, write_json, write_llama_checkpoint, write_safetensors
from komt_convert import convert
from komt_convert.gguf_file import read_header
from komt_local.cli import run
from komt_local.library import records

SIZE = {"n_layers": 1, "hidden_size": 64, "intermediate_size": 96, "n_heads": 4}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama_checkpoint(tmp_path_factory.mktemp("source") / "model", **SIZE)


@pytest.fixture
def made(source: Path, tmp_path: Path) -> Path:
    return convert(source, tmp_path / "made.gguf", quant="Q8_0").out


def damage(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[read_header(path).tensors[0].offset + 1] ^= 0x40  # the exponent of a scale
    path.write_bytes(raw)


def test_a_file_alone(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", str(made)]) == 0
    captured = capsys.readouterr()
    assert re.match(
        rf"{made}\n  the header and \d+ tensors are sound; no digest is known .*\n"
        r"  sha256 [0-9a-f]{64}\n$",
        captured.out,
    )
    made.write_bytes(made.read_bytes()[:-100])
    assert run(["verify", str(made)]) == 1
    assert re.match(r"Error: .*it ends within tensor", capsys.readouterr().err)


@pytest.mark.parametrize("where", ["library", "report"])
def test_a_known_digest_is_compared(
    where: str, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["verify", str(made), "--json"]) == 0
    digest = json.loads(capsys.readouterr().out)["sha256"]
    if where == "library":
        stat = made.stat()
        records.remember(
            records.Record(
                str(made), "made", "converted", stat.st_size, stat.st_mtime_ns, sha256=digest
            )
        )
    else:
        write_json(made.with_name("made.gguf.report.json"), {"sha256": digest})
    assert run(["verify", str(made)]) == 0
    assert "the digest is the known one" in capsys.readouterr().out
    damage(made)
    assert run(["verify", str(made)]) == 1
    assert re.match(rf"Error: .*should be {digest}; download", capsys.readouterr().err)


def test_against_the_source(
    made: Path, source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["verify", str(made), "--against", str(source)]) == 0
    captured = capsys.readouterr()
    assert re.match(
        rf"{made}\n  \d+ tensors and [\d,]+ token ids agree with {source}\n"
        r"(  \d+ tensors of \w+: largest error (?:0|\d+\.\d\d% \([\w.]+\))\n)+"
        r"  sha256 [0-9a-f]{64}\n$",
        captured.out,
    )
    damage(made)
    monkeypatch.setenv("KOMT_LOCAL_LANG", "ko")
    assert run(["verify", str(made), "--against", str(source)]) == 1
    assert "원본을" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")
def test_with_logits(made: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", str(made), "--against", str(source), "--logits", "-t", "1"]) == 0
    assert re.search(
        r"  KL divergence over 4,096 predictions: mean \S+, 99 % \S+, max \S+; same first choice",
        capsys.readouterr().out,
    )


@pytest.mark.parametrize("option", [["--logits"], ["--lora", "x"], ["--base", "x"]])
def test_what_belongs_to_a_source(
    option: list[str], made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["verify", str(made), *option]) == 2
    assert "go with --against SOURCE" in capsys.readouterr().err


# --- adapters as sources -------------------------------------------------------------------------


@pytest.fixture
def adapter(source: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    weights = {f"{name}A.weight": noise((4, 64), 1), f"{name}B.weight": noise((64, 4), 2)}
    write_json(folder / "adapter_config.json", {"peft_type": "LORA", "lora_alpha": 8})
    write_safetensors(folder / "adapter_model.safetensors", weights, "F32")
    return folder


def test_an_adapter_is_converted_and_verified_with_its_base(
    adapter: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "merged.gguf")
    assert run(["convert", str(adapter), "-o", out, "-q", "F16"]) == 1
    assert "give its folder with --base" in capsys.readouterr().err
    base = ["--base", str(source)]
    assert run(["convert", str(adapter), "-o", out, "-q", "F16", *base, "--quiet"]) == 0
    assert run(["verify", out, "--against", str(adapter), *base]) == 0
    assert run(["verify", out, "--against", str(source), "--lora", str(adapter)]) == 0
    capsys.readouterr()
    assert run(["verify", out, "--against", str(source)]) == 1
    assert "attn_q" in capsys.readouterr().err


def test_an_adapter_becomes_a_file_of_its_own(
    adapter: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "adapter.gguf"
    arguments = ["convert", str(adapter), "-o", str(out), "--as-adapter", "--base", str(source)]
    assert run(arguments) == 0
    assert f"{out}\n  2 tensors for llama" in capsys.readouterr().out
    assert read_header(out).metadata["general.type"] == "adapter"
    assert run([*arguments, "--force", "--lora", str(adapter)]) == 2
    assert "leave --lora out" in capsys.readouterr().err
