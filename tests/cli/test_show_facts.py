"""`show`: what the file is, what it takes in memory, its digest, and how it was proven."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runtime_models import write_chain

from komt_local import hardware, library
from komt_local.cli import run, showing
from komt_local.library import digests, proofs, records

Text = Callable[..., str]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KOMT_LOCAL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def proven(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the report that its conversion left."""
    from komt_convert import convert

    out = tmp_path_factory.mktemp("proven") / "tiny-Q8_0.gguf"
    convert(tiny_checkpoint, out, quant="Q8_0", save_report=True)
    return out


@pytest.fixture
def text(capsys: pytest.CaptureFixture[str]) -> Text:
    def call(*arguments: str) -> str:
        assert run(["show", *arguments]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    return call


@pytest.fixture
def told(text: Text) -> Callable[..., Any]:
    return lambda *arguments: json.loads(text(*arguments, "--json"))


def row(shown: str, name: str) -> list[str]:
    """The lines of a row, without its name."""
    lines = iter(shown.splitlines())
    first = next(line for line in lines if line.startswith(f"{name}  "))
    found = [first.removeprefix(name).strip()]
    for line in lines:
        if not line.startswith("  " * 4):
            break
        found.append(line.strip())
    return found


# --- the file ------------------------------------------------------------------------------------


def test_the_rows_say_what_the_file_is(proven: Path, text: Text) -> None:
    shown = text(str(proven))
    assert row(shown, "architecture") == ["llama"]
    assert row(shown, "parameters") == [f"{library.describe(proven).n_parameters:,}"]
    assert row(shown, "tokenizer") == ["llama, 32,000 tokens, begin <s>, end </s>"]
    assert row(shown, "SHA-256") == [digests.digest_of(proven)]


def test_all_metadata_is_shown_and_long_values_are_cut(proven: Path, text: Text) -> None:
    lines = text(str(proven)).splitlines()
    assert "  llama.attention.layer_norm_rms_epsilon = 1e-05" in lines
    assert "  tokenizer.ggml.tokens = [string × 32,000]" in lines
    assert "  tokenizer.ggml.add_bos_token = true" in lines
    header = library.read_header(proven)
    assert sum(line.startswith("  ") and " = " in line for line in lines) == len(header.metadata)


def test_json_has_the_metadata_by_type(proven: Path, told: Callable[..., Any]) -> None:
    metadata = told(str(proven))["metadata"]
    assert metadata["llama.block_count"] == 2
    assert metadata["tokenizer.ggml.tokens"] == {"type": "string", "length": 32000}


def test_a_terminal_is_not_driven_by_metadata(tmp_path: Path, text: Text) -> None:
    name = {"general.name": "\x1b[2Jevil", "general.tags": ["a\x1bb"]}
    path = write_chain(tmp_path / "evil.gguf", [], **name)
    assert "\x1b" not in text(str(path))


# --- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trained", "contexts"),
    [(1024, [1024]), (4096, [2048, 4096]), (32768, [2048, 4096, 8192, 32768])],
)
def test_memory_by_context_up_to_the_trained_one(
    trained: int, contexts: list[int], tmp_path: Path, told: Callable[..., Any]
) -> None:
    path = write_chain(tmp_path / "model.gguf", [], n_ctx=trained)
    memory = told(str(path))["memory"]
    assert [entry["context"] for entry in memory] == contexts
    header = library.read_header(path)
    keys = ("block_count", "attention.head_count_kv", "embedding_length", "attention.head_count")
    layers, kv_heads, width, heads = (header.of_architecture(key) for key in keys)
    row_bytes = 2 * 2 * layers * kv_heads * (width // heads)
    for entry in memory:
        assert entry["weights_bytes"] == sum(tensor.n_bytes for tensor in header.tensors)
        assert entry["kv_cache_bytes"] == row_bytes * entry["context"]
        parts = (entry[f"{part}_bytes"] for part in ("weights", "kv_cache", "compute"))
        assert entry["memory_bytes"] == sum(parts) + hardware.RESERVE


def test_what_this_machine_does_not_hold_is_marked(
    tmp_path: Path, text: Text, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_chain(tmp_path / "model.gguf", [], n_ctx=1 << 20)
    needs = showing.look(path, digest=False).memory
    limit = (needs[8192].total + needs[1 << 20].total) // 2
    monkeypatch.setattr(hardware, "available_memory", lambda: limit)
    lines = row(text(str(path)), "memory")
    assert ["too large" in line for line in lines] == [False, False, False, True]
    assert " with a context of 1,048,576 (" in lines[-1]


# --- digest --------------------------------------------------------------------------------------


def test_a_large_file_is_read_for_its_digest_only_when_asked(
    proven: Path, tmp_path: Path, text: Text, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copy(proven, tmp_path / "large.gguf"))
    monkeypatch.setattr(showing, "_READ_AT_ONCE", 1000)
    read: list[Path] = []
    digest_of = digests.digest_of

    def counted(path: Path, on_bytes: digests.OnBytes | None = None) -> str:
        read.append(path)
        return digest_of(path, on_bytes)

    monkeypatch.setattr(library.fingerprints, "digest_of", counted)
    assert "--digest" in row(text(str(path)), "SHA-256")[0] and not read
    assert row(text(str(path), "--digest"), "SHA-256") == [digest_of(path)] and len(read) == 1
    assert row(text(str(path)), "SHA-256") == [digest_of(path)] and len(read) == 1


def test_the_report_knows_the_digest(
    proven: Path, told: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(showing, "_READ_AT_ONCE", 1000)
    assert told(str(proven))["sha256"] == digests.digest_of(proven)


def test_the_library_knows_it_while_the_file_is_as_it_was(
    proven: Path, tmp_path: Path, told: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(showing, "_READ_AT_ONCE", 1000)
    path = Path(shutil.copy(proven, tmp_path / "known.gguf"))
    status = path.stat()
    records.remember(
        records.Record(
            str(path), "known", "imported", status.st_size, status.st_mtime_ns, sha256="a" * 64,
            repo="beomi/KoAlpaca-30B-LoRA", revision="b" * 40,
        )
    )  # fmt: skip
    found = told(str(path))
    assert (found["sha256"], found["repository"], found["revision"]) == (
        "a" * 64,
        "beomi/KoAlpaca-30B-LoRA",
        "b" * 40,
    )
    path.touch()
    assert told(str(path))["sha256"] is None


# --- licence -------------------------------------------------------------------------------------


def test_the_licence_comes_with_what_it_forbids(tmp_path: Path, text: Text) -> None:
    repo = {"general.source.repo_url": "https://huggingface.co/KRAFTON/KORani-v3-13B"}
    path = write_chain(tmp_path / "model.gguf", [], **repo)
    assert row(text(str(path)), "licence") == [
        "LLaMA-1 community terms (research only, no commercial use)"
    ]
    assert row(text(str(path), "--lang", "ko"), "라이선스")[0].endswith(
        "(연구용, 상업적 이용 금지)"
    )


# --- proof ---------------------------------------------------------------------------------------


def test_the_proof_is_what_the_report_says(
    proven: Path, text: Text, told: Callable[..., Any]
) -> None:
    report = json.loads(proofs.report_path(proven).read_text(encoding="utf-8"))
    first, *others = row(text(str(proven)), "proof")
    assert first == (
        f"{report['n_tensors']} tensors held against the source; {report['tokens_compared']:,} "
        f"token ids in {report['texts_compared']:,} texts equal its tokenizer's"
    )
    assert any(line.startswith("16 tensors of Q8_0: largest error 0.") for line in others)
    weights = next(each for each in report["source_files"] if each["name"] == "model.safetensors")
    assert any(
        line.startswith("from model.safetensors (") and weights["sha256"][:12] in line
        for line in others
    )
    proof = told(str(proven))["proof"]
    assert (proof["tokens_compared"], proof["verified"]) == (report["tokens_compared"], True)
    assert proof["errors"] == report["errors"]
    for source, file in zip(proof["sources"], report["source_files"], strict=True):
        assert (source["name"], source["size"]) == (file["name"], file["size"])
        assert source["sha256"] == (file["sha256"] or "")


def test_without_a_report_it_says_so(tiny_gguf: Path, text: Text, told: Callable[..., Any]) -> None:
    assert "there is no report" in row(text(str(tiny_gguf)), "proof")[0]
    assert told(str(tiny_gguf))["proof"] is None


def test_an_unverified_conversion_proves_nothing(proven: Path, tmp_path: Path, text: Text) -> None:
    path = with_report(proven, tmp_path, verified=False, errors=[], sha256="", tokens_compared=0)
    assert row(text(str(path)), "proof")[0] == "none: it was converted with --no-verify"


@pytest.mark.parametrize("changes", [{"out_bytes": 1}, {"sha256": "0" * 64}])
def test_the_report_of_another_file_does_not_count(
    changes: dict[str, Any], proven: Path, tmp_path: Path, text: Text
) -> None:
    path = with_report(proven, tmp_path, **changes)
    assert row(text(str(path)), "proof") == [
        "none: copy.gguf.report.json is not the report of this file"
    ]


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"\xff", b"[" * 9999, b'{"verified": true, "n_tensors": "x"}']
)
def test_a_report_that_cannot_be_read_counts_as_none(
    content: bytes, proven: Path, tmp_path: Path, told: Callable[..., Any]
) -> None:
    path = with_report(proven, tmp_path)
    assert told(str(path))["proof"]
    proofs.report_path(path).write_bytes(content)
    assert told(str(path))["proof"] is None


def with_report(proven: Path, folder: Path, **changes: Any) -> Path:
    """A copy of a proven file whose report says something else."""
    path = Path(shutil.copy(proven, folder / "copy.gguf"))
    report = json.loads(proofs.report_path(proven).read_text(encoding="utf-8"))
    proofs.report_path(path).write_text(json.dumps(report | changes), encoding="utf-8")
    return path


# --- split models --------------------------------------------------------------------------------


def test_the_parts_of_a_split_model_count_together(
    tmp_path: Path, told: Callable[..., Any]
) -> None:
    whole = write_chain(tmp_path / "m.gguf", [])
    parts = [Path(shutil.copy(whole, tmp_path / f"m-0000{i}-of-00002.gguf")) for i in (1, 2)]
    one, both = told(str(whole)), told(str(parts[0]))
    assert both["n_parameters"] == 2 * one["n_parameters"]
    assert both["size_bytes"] == 2 * one["size_bytes"]
    parts[1].write_bytes(b"no model")
    assert run(["show", str(parts[0])]) == 1
