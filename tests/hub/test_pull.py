"""`komt-local pull`, against the hub on loopback: choosing, converting on the way, offline."""

from __future__ import annotations

import json
import os
import socket
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hub_program import Program
from hub_server import CHECKPOINT, LoopbackHub, Repo, sha256

from komt_local import catalogue, hub, library
from komt_local.cli import run
from komt_local.errors import DownloadError, ModelError, ModelNotFound, OutOfMemory, UsageError
from komt_local.hub import Hub, checkpoints, machine
from komt_local.library import records

GGUF = "org/tiny-GGUF"
GB = 10**9


@pytest.fixture
def gguf(server: LoopbackHub, tiny_gguf: Path) -> bytes:
    content = tiny_gguf.read_bytes()
    server.repos[GGUF] = Repo({"tiny-F16.gguf": content, "README.md": b"# tiny"})
    return content


def test_pull_prints_the_path_and_says_what_it_does(
    here: Hub, gguf: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["pull", f"hf.co/{GGUF}"]) == 0
    out, err = capsys.readouterr()
    path = Path(out.strip())
    assert path.read_bytes() == gguf
    assert "MB to download; licence: apache-2.0" in err
    record = records.load().records[str(path)]
    assert (record.sha256, record.repo, record.type) == (sha256(gguf), GGUF, "F16")
    assert library.resolve(GGUF) == path


def test_pull_again_transfers_nothing(
    here: Hub, gguf: bytes, server: LoopbackHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["pull", GGUF, "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert run(["pull", f"{GGUF}/TINY-f16.gguf", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == first["path"]
    assert server.sent() == len(gguf)


def test_the_case_of_a_known_repository_does_not_matter(
    here: Hub, gguf: bytes, server: LoopbackHub
) -> None:
    """The hub on loopback knows one spelling only, as any case-sensitive one does."""
    path = hub.pull(GGUF)
    assert hub.pull(f"{GGUF.upper()}:f16") == path
    ready = "davidkim205/komt-mistral-7b-v1-gguf"
    server.repos[ready] = Repo({"ggml-model-q4_1.gguf": gguf})
    assert hub.pull(f"{ready.upper()}/GGML-model-Q4_1.gguf").read_bytes() == gguf


def test_quiet_prints_the_path_only(
    here: Hub, gguf: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["pull", GGUF, "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert (out.count("\n"), err) == (1, "")


@pytest.fixture
def types(server: LoopbackHub) -> None:
    sizes = {"Q8_0": 8000, "Q6_K": 6600, "Q5_1": 6000, "Q5_K_M": 5700, "Q4_K_M": 4900, "F16": 16000}
    server.repos[GGUF] = Repo({f"m-{type_}.gguf": b"x" * n for type_, n in sizes.items()})


@pytest.mark.parametrize(
    ("memory", "expected"), [(64, "Q8_0"), (11, "Q6_K"), (9.6, "Q5_K_M"), (8.5, "Q4_K_M")]
)
def test_the_best_type_that_fits_is_chosen(
    here: Hub, types: None, memory: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from komt_local import variants

    monkeypatch.setattr(variants, "_CONTEXT_BYTES", 1000)
    plan = hub.make_plan(here, GGUF, memory=int(memory * 1000))
    assert (plan.type, plan.chosen) == (expected, True)


def test_nothing_that_fits_is_said(here: Hub, types: None) -> None:
    with pytest.raises(OutOfMemory, match=f"{GGUF}:Q4_K_M"):
        hub.make_plan(here, GGUF, memory=1000)
    assert hub.make_plan(here, f"{GGUF}:q8_0", memory=1000).type == "Q8_0"
    assert hub.make_plan(here, GGUF, quant="q8_0", memory=1000).chosen is False


def test_a_type_that_is_not_there_is_said_with_those_that_are(here: Hub, types: None) -> None:
    with pytest.raises(ModelNotFound, match="no Q2_K; choose one of F16, Q8_0, Q6_K"):
        hub.make_plan(here, f"{GGUF}:Q2_K")
    with pytest.raises(UsageError, match="one of them"):
        hub.make_plan(here, f"{GGUF}:Q8_0", quant="Q4_K_M")


def test_split_files_come_together(server: LoopbackHub, here: Hub, gguf: bytes) -> None:
    second = write_empty_gguf()
    parts = {f"m-Q8_0-0000{i}-of-00002.gguf": gguf if i == 1 else second for i in (1, 2)}
    server.repos[GGUF] = Repo(parts)
    path = hub.pull(GGUF)
    assert path.name == "m-Q8_0-00001-of-00002.gguf"
    assert (path.parent / "m-Q8_0-00002-of-00002.gguf").read_bytes() == second


def write_empty_gguf() -> bytes:
    """A GGUF file of no keys and no tensors, of the length that makes it a large one."""
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 0) + bytes(5000)


def test_a_file_that_is_no_gguf_is_said(server: LoopbackHub, here: Hub) -> None:
    server.repos[GGUF] = Repo({"m-Q4_0.gguf": b"ggml" * 5000})
    with pytest.raises(ModelError, match="not a usable GGUF file"):
        hub.pull(GGUF)


# --- converting on the way -----------------------------------------------------------------------


def test_a_checkpoint_is_converted_and_let_go(
    here: Hub, checkpoint: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["pull", CHECKPOINT, "-q", "q8_0"]) == 0
    out, err = capsys.readouterr()
    path = Path(out.strip())
    assert path == records.models_folder() / "org--tiny-Q8_0.gguf"
    assert "kept as Q8_0 after the conversion" in err
    assert library.describe(path).file_type == "Q8_0"
    assert library.resolve(f"{CHECKPOINT}:Q8_0") == library.resolve(CHECKPOINT) == path
    assert not list(here.cache.rglob("*.safetensors"))
    assert not [p for p in here.cache.rglob("*") if p.stat().st_size > 4096]
    assert records.load().sources == []
    record = records.load().records[str(path)]
    assert record.sha256 == sha256(path.read_bytes())
    proof = library.proof_of(path, record.sha256)
    assert proof and proof.verified and proof.tokens_compared > 10_000
    assert run(["rm", CHECKPOINT + ":Q8_0", "--yes"]) == 0
    assert list(path.parent.iterdir()) == []


def test_the_checkpoint_is_kept_when_asked_for_or_when_it_was_here(
    here: Hub, checkpoint: dict[str, bytes], server: LoopbackHub
) -> None:
    assert run(["pull", CHECKPOINT, "-q", "Q8_0", "--keep-source", "--quiet"]) == 0
    sent = server.sent()
    folder = hub.source(CHECKPOINT)
    assert {p.name for p in folder.iterdir()} == set(checkpoint)
    assert run(["pull", CHECKPOINT, "-q", "Q4_0", "--quiet"]) == 0
    assert hub.source(CHECKPOINT, hub=Hub(here.endpoint, here.cache, offline=True)) == folder
    assert (folder / "model.safetensors").is_file()
    assert server.sent() == sent


def test_a_model_of_the_catalogue_is_converted_under_its_name(
    here: Hub, checkpoint: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    model = catalogue.Model(
        "tiny-ko", "Tiny", CHECKPOINT, "LlamaForCausalLM", "komt", "llama2", 3e6, 512,
        gguf=("org/gone-GGUF",), restrictions="no fun", restrictions_ko="재미 금지",
    )  # fmt: skip
    monkeypatch.setattr(catalogue, "models", lambda: (model,))
    monkeypatch.setattr(catalogue, "_by_name", lambda: {"tiny-ko": model})
    path = hub.pull("tiny-ko", quant="Q4_0")
    assert path.name == "tiny-ko-Q4_0.gguf"
    facts = library.describe(path)
    from komt_local.prompts import PRESETS

    assert facts.chat_template == PRESETS["komt"].jinja
    assert library.resolve("tiny-ko") == library.resolve("tiny-ko:q4_0") == path
    assert run(["pull", "TINY-KO", "-q", "q4_0"]) == 0
    assert capsys.readouterr().err.endswith("Talk with it: komt-local chat tiny-ko:Q4_0\n")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"README.md": b""}, "neither a GGUF file nor a checkpoint"),
        (
            {"adapter_config.json": b"{}", "adapter_model.safetensors": b"x"},
            f"LoRA adapter .* komt-local convert {CHECKPOINT} -o",
        ),
        ({"config.json": b"{}", "tf_model.h5": b"x"}, "neither model.safetensors nor"),
        (
            {
                "config.json": b'{"quantization_config": {"quant_method": "awq"}}',
                "model.safetensors": b"x",
            },
            r"quantized already \(awq\)",
        ),
    ],
)
def test_what_cannot_be_converted_is_said_first(
    here: Hub, server: LoopbackHub, files: dict[str, bytes], message: str
) -> None:
    server.repos[CHECKPOINT] = Repo(files)
    with pytest.raises(ModelError, match=message):
        hub.pull(CHECKPOINT)
    assert server.bodies() == []


def test_pickled_weights_take_torch(
    here: Hub, server: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.repos[CHECKPOINT] = Repo({"config.json": b"{}", "pytorch_model.bin": b"x" * 9000})
    monkeypatch.setattr(checkpoints, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="takes torch to read"):
        hub.pull(CHECKPOINT)
    assert server.bodies() == []


def test_an_unknown_architecture_costs_no_download(
    here: Hub, server: LoopbackHub, capsys: pytest.CaptureFixture[str]
) -> None:
    config = b'{"architectures": ["StrangeForCausalLM"]}'
    server.repos[CHECKPOINT] = Repo({"config.json": config, "model.safetensors": b"x" * 9000})
    assert run(["pull", CHECKPOINT, "-q", "Q4_K_M"]) == 1
    assert "StrangeForCausalLM is not supported" in capsys.readouterr().err
    assert server.bodies() == []


def test_disk_for_both_is_checked_first(
    here: Hub, checkpoint: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, server: LoopbackHub
) -> None:
    import shutil

    usage = shutil.disk_usage("/")._replace(free=70_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DownloadError, match="KOMT_LOCAL_HOME"):
        hub.pull(CHECKPOINT, quant="F16")
    assert not [request for request in server.bodies() if request.sent]


# --- offline -------------------------------------------------------------------------------------


@contextmanager
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    opened: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "__init__", lambda self, *a, **k: opened.append(a))
        yield opened


def test_offline_opens_no_socket(
    here: Hub, gguf: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = hub.pull(GGUF)
    with no_sockets(monkeypatch) as opened:
        assert run(["pull", GGUF, "--offline"]) == 0
        assert capsys.readouterr().out.strip() == str(path)
        assert run(["pull", "org/other", "--offline"]) == 1
        assert "offline was asked for" in capsys.readouterr().err
        assert run(["list", "--json", "--offline"]) == 0
        assert run(["show", GGUF, "--offline"]) == 0
        assert run(["run", "--offline", "-t", "1", "안녕"]) == 0
        assert run(["run", "-m", "org/other", "--offline", "안녕"]) == 1
        assert library.resolve(GGUF) == path
    assert opened == []


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "KOMT_LOCAL_PULL_OFFLINE"])
def test_the_variables_mean_the_same(server: LoopbackHub, program: Program, variable: str) -> None:
    done = program.run("pull", "org/model", **{variable: "1"})
    assert done.returncode == 1
    assert "offline was asked for" in done.stderr
    assert server.log == []


# --- others --------------------------------------------------------------------------------------


def test_the_token_of_the_environment_is_used_at_the_hub_only(
    server: LoopbackHub, program: Program, tiny_gguf: Path
) -> None:
    server.repos[GGUF] = Repo({"tiny-F16.gguf": tiny_gguf.read_bytes()}, gated=True)
    refused = program.run("pull", GGUF)
    assert refused.returncode == 1
    assert f"accept its licence at {server.url}/{GGUF}" in refused.stderr
    done = program.run("pull", GGUF, HF_TOKEN=server.accepted_token)
    assert done.returncode == 0, done.stderr
    assert {request.token for request in server.bodies()} == {""}


def test_korean_speaks_korean(program: Program) -> None:
    done = program.run("pull", "없는모델", LANG="ko_KR.UTF-8")
    assert done.returncode == 1
    assert done.stderr.startswith("오류: '없는모델'(이)라는 받을 모델이 없습니다.")


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "seteuid"), reason="POSIX permissions")
def test_a_read_only_cache_is_read_and_said(here: Hub, gguf: bytes, server: LoopbackHub) -> None:
    """As another user where root runs the tests, for whom every folder is writable."""
    repository = hub.api.read_repository(here, GGUF)  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as base:
        os.chmod(base, 0o755)
        shared = Hub(here.endpoint, Path(base) / "cache", token=False)
        path = hub.download.download(shared, repository, repository.files["tiny-F16.gguf"])  # type: ignore[attr-defined]
        with read_only(Path(base)):
            again = hub.download.download(shared, repository, repository.files["tiny-F16.gguf"])  # type: ignore[attr-defined]
            assert again == path
            with pytest.raises(DownloadError, match=r"cannot be written \(Permission denied\)"):
                hub.download.download(shared, repository, repository.files["README.md"])  # type: ignore[attr-defined]


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o555)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
        yield
    finally:
        os.seteuid(user)
        for path in folders:
            path.chmod(0o755)


def test_memory_is_bounded_by_the_container(tmp_path: Path) -> None:
    assert machine.memory_bytes(tmp_path) > 0
    limit = tmp_path / "sys/fs/cgroup/memory.max"
    limit.parent.mkdir(parents=True)
    limit.write_text("max\n")
    assert machine.memory_bytes(tmp_path) == machine.memory_bytes(Path("/nowhere"))
    limit.write_text("1000000\n")
    assert machine.memory_bytes(tmp_path) == 1_000_000
