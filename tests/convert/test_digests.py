"""Digests of the files that a conversion reads, taken while it goes on."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from math import inf
from pathlib import Path
from threading import Barrier, Semaphore
from typing import Any

import pytest

from checkpoints import noise, write_json, write_llama_checkpoint, write_safetensors
from komt_convert import convert
from komt_convert import digests as digests_module
from komt_convert.checkpoint import open_checkpoint
from komt_convert.digests import Digests, Input, inputs
from komt_convert.errors import SourceError
from komt_convert.report import Progress, SourceFile

MIB = 1 << 20


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def hashed(files: Sequence[Input], **settings: Any) -> tuple[SourceFile, ...]:
    with Digests(files, **{"threads": 4, **settings}) as digests:
        return digests.result()


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"".join(bytes([i]) * MIB for i in range(6)) + b"end")
    return path


def test_every_file_that_is_read_has_one(tmp_path: Path) -> None:
    folder = write_llama_checkpoint(tmp_path / "my-model", n_layers=1, shards=2)
    (folder / "optimizer.bin").write_bytes(b"not a part of the model")
    (folder / "README.md").write_text("# 모델\n", encoding="utf-8")
    files = open_checkpoint(folder).files
    found = {file.name: file for file in hashed(files)}
    assert found.keys() == {
        "README.md",
        "config.json",
        "generation_config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.model",
        "tokenizer_config.json",
    }
    for name, file in found.items():
        size = (folder / name).stat().st_size
        assert file == SourceFile(name, size, sha256(folder / name), "model")
    assert [file.is_weights for file in files].count(True) == 2


def test_adapters_and_matrices_are_sources_as_well(tmp_path: Path) -> None:
    base = write_llama_checkpoint(tmp_path / "base", n_layers=1)
    name = "base_model.model.model.layers.0.self_attn.v_proj.lora_"
    halves = {f"{name}A.weight": noise((4, 256), 1), f"{name}B.weight": noise((256, 4), 2)}
    adapters = [tmp_path / "one", tmp_path / "two"]
    for adapter in adapters:
        adapter.mkdir()
        write_json(adapter / "adapter_config.json", {"peft_type": "LORA", "lora_alpha": 8})
        write_safetensors(adapter / "adapter_model.safetensors", halves, "F32")
    report = convert(
        base, tmp_path / "o.gguf", quant="Q8_0", adapters=[(path, 1.0) for path in adapters]
    )
    found = {(file.part, file.name): file.sha256 for file in report.source_files}
    by_itself = convert(adapters[0], tmp_path / "o2.gguf", quant="Q8_0", base=base)
    assert by_itself.decisions == report.decisions
    assert {file.part for file in by_itself.source_files} == {"model", "adapter 1"}
    assert found["model", "model.safetensors"] == sha256(base / "model.safetensors")
    for part, folder in (("adapter 1", adapters[0]), ("adapter 2", adapters[1])):
        for file in folder.iterdir():
            assert found[part, file.name] == sha256(file)


def wait_until(reached: int, digests: Digests) -> None:
    for _ in range(6000):
        if digests.n_read >= reached:
            return
        time.sleep(0.01)
    raise AssertionError(f"{digests.n_read} of {reached} bytes")


def test_hashing_stays_near_the_conversion(large: Path) -> None:
    with Digests([Input("model", large)], threads=1, lead=2 * MIB) as digests:
        moved = digests.following(None)
        wait_until(3 * MIB, digests)  # a block more is read before it waits
        moved(Progress("write", 2 * MIB, 6 * MIB))
        wait_until(5 * MIB, digests)
        assert digests.n_read == 5 * MIB
        assert digests.result()[0].sha256 == sha256(large)


def test_progress_is_handed_on(large: Path) -> None:
    steps: list[Progress] = []
    with Digests([Input("model", large)], threads=1) as digests:
        digests.following(steps.append)(Progress("write", 1, 2))
    assert steps == [Progress("write", 1, 2)]


def test_at_the_end_all_threads_hash(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both, entered = Barrier(2, timeout=10), Semaphore(0)

    def hash_with_another(self: Digests, path: Path) -> str:
        entered.release()
        both.wait()
        return path.name

    monkeypatch.setattr(Digests, "_hash", hash_with_another)
    with Digests([Input("model", large)] * 4, threads=2) as digests:
        assert entered.acquire(timeout=10)
        assert not entered.acquire(timeout=0.1)  # half of the threads, while there is other work
        assert [file.sha256 for file in digests.result()] == [large.name] * 4


def test_leaving_ends_a_hash_that_waits(large: Path) -> None:
    for threads in (1, 4):
        with Digests([Input("model", large)] * 9, threads=threads, lead=0) as digests:
            wait_until(MIB, digests)
        assert digests.n_read <= (1 + threads) * MIB


def test_a_name_in_the_cache_of_the_hub_is_believed_by_a_conversion_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests_module, "SMALL", 10)
    claimed = "0f" * 32
    blob = tmp_path / "blobs" / claimed
    blob.parent.mkdir()
    blob.write_bytes(bytes(20))
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "a.safetensors").symlink_to(blob)
    (snapshot / "b.safetensors").write_bytes(bytes(20))
    files = inputs("model", snapshot, sorted(snapshot.iterdir()))
    real = hashlib.sha256(bytes(20)).hexdigest()
    assert [file.sha256 for file in hashed(files)] == [claimed, real]
    assert [file.sha256 for file in hashed(files, large=False)] == [claimed, None]
    assert [file.sha256 for file in hashed(files, named=False, lead=inf)] == [real, real]


def test_a_file_that_is_gone(large: Path) -> None:
    files = [Input("model", large), Input("model", large.with_name("gone.json"))]
    with pytest.raises(SourceError, match=r"gone\.json could not be read \(No such file"):
        hashed(files)


def test_a_source_that_goes_while_it_is_converted_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_llama_checkpoint(tmp_path / "model", n_layers=1)
    out = tmp_path / "out" / "o.gguf"
    out.parent.mkdir()
    files = (Input("model", folder / "model.safetensors"), Input("model", folder / "gone"))
    monkeypatch.setattr("komt_convert.checkpoint.inputs", lambda *_: files)
    with pytest.raises(SourceError, match="gone could not be read"):
        convert(folder, out, quant="F16")
    assert not list(out.parent.iterdir())
