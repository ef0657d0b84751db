"""The report that a conversion leaves beside its file."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from checkpoints import write_json, write_llama_checkpoint
from komt_convert import console, convert, decisions, quantize
from komt_convert.corpus import corpus
from komt_convert.errors import OutputError, VerificationError
from komt_convert.report import Report


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_llama_checkpoint(tmp_path / "my-model", n_layers=2, shards=2)


def saved(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"{out}.report.json").read_text(encoding="utf-8"))
    return found


def test_it_is_the_report_that_was_returned(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "모델.gguf"
    report = convert(checkpoint, out, quant="Q4_K_M", save_report=True)
    assert saved(out) == json.loads(json.dumps(report.as_dict()))
    assert saved(out)["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert saved(out)["texts_compared"] == sum(1 for _ in corpus()) > 1500
    assert not list(tmp_path.glob(".*partial"))


def test_it_is_left_out_unless_asked_for(checkpoint: Path, tmp_path: Path) -> None:
    convert(checkpoint, tmp_path / "model.gguf", quant="Q8_0", verify=False)
    assert not list(tmp_path.glob("*.report.json"))


def test_a_new_file_has_a_new_report(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.gguf"
    convert(checkpoint, out, quant="Q8_0", save_report=True)
    convert(checkpoint, out, quant="F16", save_report=True, force=True)
    assert saved(out)["file_type"] == "F16"


def test_the_worst_tensors_are_named(checkpoint: Path, tmp_path: Path) -> None:
    report = convert(checkpoint, tmp_path / "model.gguf", quant="Q4_0")
    relative = [error.relative for error in report.worst]
    assert len(relative) == 10 and relative == sorted(relative, reverse=True)
    by_type = {error.type: error for error in report.errors}
    worst = report.worst[0]
    assert (worst.name, worst.relative) == (
        by_type[worst.type].worst, by_type[worst.type].relative
    )  # fmt: skip
    assert all(error.relative > 0 for error in report.worst)


def test_source_and_file_have_digests(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.gguf"
    convert(checkpoint, out, quant="Q8_0", save_report=True)
    found = {file["name"]: file for file in saved(out)["source_files"]}
    assert {"config.json", "model.safetensors.index.json", "tokenizer.model"} < set(found)
    for name, file in found.items():
        raw = (checkpoint / name).read_bytes()
        assert (file["size"], file["sha256"]) == (len(raw), hashlib.sha256(raw).hexdigest())


# --- a report never describes another file -------------------------------------------------------


def test_a_file_without_a_report_of_its_own_has_none(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.gguf"
    convert(checkpoint, out, quant="Q8_0", save_report=True)
    convert(checkpoint, out, quant="F16", force=True)
    assert [path.name for path in tmp_path.glob("model.*")] == ["model.gguf"]


def test_a_report_whose_file_was_deleted_is_not_that_of_the_next(
    checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model.gguf"
    convert(checkpoint, out, quant="Q8_0", save_report=True)
    out.unlink()
    convert(checkpoint, out, quant="F16")
    assert not Path(f"{out}.report.json").exists()


def test_killed_before_the_new_report_it_has_none(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model.gguf"
    old = convert(checkpoint, out, quant="Q8_0", save_report=True)

    def killed(report: Report) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Report, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        convert(checkpoint, out, quant="F16", save_report=True, force=True)
    assert out.stat().st_size > old.out_bytes
    assert not Path(f"{out}.report.json").exists()


def test_a_conversion_that_fails_leaves_file_and_report(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model.gguf"
    old = convert(checkpoint, out, quant="Q8_0", save_report=True)

    def failed(*_: object, **__: object) -> None:
        raise VerificationError("en", "ko")

    monkeypatch.setattr("komt_convert.pipeline.verify_tensors", failed)
    with pytest.raises(VerificationError):
        convert(checkpoint, out, quant="F16", save_report=True, force=True)
    assert saved(out)["sha256"] == old.sha256 == hashlib.sha256(out.read_bytes()).hexdigest()


def test_no_report_can_be_written(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.gguf"
    Path(f"{out}.report.json").mkdir()
    with pytest.raises(OutputError, match=r"model\.gguf\.report\.json is a folder"):
        convert(checkpoint, out, quant="Q8_0", save_report=True)
    assert not out.exists()


def test_all_that_can_be_decided_is_shown_in_both_languages() -> None:
    source = Path(decisions.__file__).read_text(encoding="utf-8")
    names = set(re.findall(r'Decision\(\s*"([^"]+)"', source)) | {"end token", "end of turn"}
    assert names == set(console._DECIDED)


def decided(checkpoint: Path, out: Path, **given: Any) -> dict[str, tuple[str, str]]:
    report = convert(checkpoint, out, quant="Q8_0", force=True, **given)
    assert all(decision.ko for decision in report.decisions)
    return {decision.what: (decision.value, decision.en) for decision in report.decisions}


def test_decisions_have_reasons(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.gguf"
    plain = decided(checkpoint, out)
    assert plain["pre-tokenizer"][0] == "default"
    assert plain["end token"][0] == "2 </s>"
    assert plain["end token"][1].startswith("tokenizer_config.json")
    assert plain["chat template"] == ("", "The tokenizer carries none and none was given.")
    given = decided(checkpoint, out, chat_template="{{ messages }}", tensor_types=["attn_v=F16"])
    assert given["chat template"] == ("{{ messages }}", "It was given.")
    assert given["tensor types"] == ("attn_v=F16", "It was asked for.")


def test_files_that_disagree_about_the_end_are_named(checkpoint: Path, tmp_path: Path) -> None:
    write_json(checkpoint / "generation_config.json", {"eos_token_id": 5})
    _, why = decided(checkpoint, tmp_path / "model.gguf")["end token"]
    assert "generation_config.json differs." in why


def test_a_file_that_is_quantized_again_has_one_too(checkpoint: Path, tmp_path: Path) -> None:
    source = convert(checkpoint, tmp_path / "f16.gguf", quant="F16").out
    report = quantize(source, tmp_path / "q8.gguf", quant="Q8_0", save_report=True)
    assert saved(report.out)["source_files"][0]["name"] == "f16.gguf"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert report.source_files[0].sha256 == digest
