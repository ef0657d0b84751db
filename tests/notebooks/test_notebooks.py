"""The notebooks as they are, executed: on the CPU, with tiny models, against a hub on loopback."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from komt_local.doctor import wheels
from komt_local.library import embedded

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "hub"))

KOREAN, ENGLISH = "komt_local_colab.ipynb", "komt_local_colab.en.ipynb"
GGUF = "davidkim205/komt-mistral-7b-v1-gguf"
BASE, LORA = "davidkim205/komt-mistral-7b-v1", "davidkim205/komt-mistral-7b-v1-dpo"

# On one processor, as on Colab's free machine, so that threads do not wait for each other.
EXECUTE = """
import os, sys, nbclient, nbformat
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
name = sys.argv[1]
notebook = nbformat.read(name, as_version=4)
nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
nbformat.write(notebook, name)
"""


def read(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((ROOT / "notebooks" / name).read_text(encoding="utf-8"))
    return value


def source(notebook: dict[str, Any], cell: str) -> str:
    return next("".join(c["source"]) for c in notebook["cells"] if c["id"] == cell)


def printed(notebook: dict[str, Any], cell: str) -> str:
    """What a cell that was executed has printed, stderr and all."""
    found = next(c for c in notebook["cells"] if c["id"] == cell)
    assert all(output["output_type"] == "stream" for output in found["outputs"]), found["outputs"]
    return "".join("".join(output["text"]) for output in found["outputs"])


# --- as they are ---------------------------------------------------------------------------------


@pytest.fixture
def environment(tiny_checkpoint: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A machine with komt-local, whose hub has a model, a checkpoint and an adapter."""
    from hub_server import LoopbackHub, Repo

    with LoopbackHub() as hub:
        hub.repos[GGUF] = Repo({"ggml-model-q4_k_m.gguf": embedded().read_bytes()})
        hub.repos[BASE] = Repo({p.name: p.read_bytes() for p in tiny_checkpoint.iterdir()})
        hub.repos[LORA] = Repo(adapter())
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "KOMT_LOCAL_"))}
        yield kept | {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_DISABLE_XET": "1",
            "KOMT_LOCAL_HOME": str(tmp_path / "home"),
            "KOMT_LOCAL_LANG": "en",
            "HOME": str(tmp_path),
            "IPYTHONDIR": str(tmp_path / "ipython"),
            "PATH": f"{command_folder(tmp_path)}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "convert")]),
            # Whoever leaves this machine meets a proxy that is not there.
            "HTTP_PROXY": "http://127.0.0.1:9",
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "NO_PROXY": "127.0.0.1,localhost",
        }


def adapter() -> dict[str, bytes]:
    """A LoRA of rank 2 on the tiny checkpoint's first query projection."""
    import numpy as np
    from safetensors.numpy import save

    path = "base_model.model.model.layers.0.self_attn.q_proj"
    random = np.random.default_rng(7)
    weights = {
        f"{path}.lora_A.weight": random.normal(size=(2, 64)).astype(np.float32),
        f"{path}.lora_B.weight": random.normal(size=(64, 2)).astype(np.float32),
    }
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none"}
    config["target_modules"] = ["q_proj"]
    return {
        "adapter_config.json": json.dumps(config).encode(),
        "adapter_model.safetensors": save(weights),
    }


def command_folder(place: Path) -> Path:
    """A folder with `komt-local` in it, as an installation would have put it on the PATH."""
    folder = place / "bin"
    folder.mkdir()
    program = folder / "komt-local"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m komt_local "$@"\n')
    program.chmod(0o755)
    return folder


@pytest.mark.parametrize("name", [KOREAN, ENGLISH])
def test_the_notebook_runs(name: str, environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / name).write_bytes((ROOT / "notebooks" / name).read_bytes())
    command = [sys.executable, "-c", EXECUTE, name]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    ran = json.loads((tmp_path / name).read_text(encoding="utf-8"))
    assert "installed already" in printed(ran, "install") or "이미" in printed(ran, "install")
    assert "loads and computes" in printed(ran, "install")
    assert "ggml-model-q4_k_m.gguf" in re.sub(r"\s", "", printed(ran, "pull"))
    assert len(printed(ran, "chat")) > 10
    assert "finish_reason" not in printed(ran, "api") and "Usage(" in printed(ran, "api")
    assert printed(ran, "talk-mine").strip()
    rows = re.findall(r"^(\S+): [\d.]+ GB, [\d.]+ bit", printed(ran, "compare"), re.M)
    assert rows == ["Q4_K_M", "Q5_K_M", "Q8_0"]
    assert str(tmp_path / "my-Q4_K_M.gguf") in printed(ran, "drive")
    for cell in ("pull", "convert"):
        assert "Error" not in printed(ran, cell)


# --- the installation, which is not run here -----------------------------------------------------


GIT = "git+https://example.org/komt-local.git"
UPLOADED = "komt_local-0.1.0-py3-none-any.whl"
WHEELS = ("--only-binary", "llama-cpp-python", "--extra-index-url", "https://wheels/cu125")


class Pip:
    """Stands for pip: notes what it is asked for, and fails at what it is told to."""

    def __init__(self, *, fails_with: tuple[str, ...] = ()) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.fails_with = fails_with

    def __call__(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        assert command[:5] == [sys.executable, "-m", "pip", "install", "--quiet"]
        self.asked.append(tuple(command[5:]))
        failed = any(word in command for word in self.fails_with)
        return subprocess.CompletedProcess(command, int(failed))


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with an NVIDIA GPU and without komt-local, in an empty folder."""
    advice = wheels.Advice("https://wheels/cu125", "-DGGML_CUDA=on", True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(wheels, "here", lambda: advice)
    monkeypatch.setenv("CMAKE_ARGS", "")
    monkeypatch.chdir(tmp_path)


def install(pip: Pip, monkeypatch: pytest.MonkeyPatch, given: str = GIT) -> None:
    """Run the first cell with SOURCE filled in, up to its last line."""
    monkeypatch.setattr(subprocess, "run", pip)
    code = source(read(ENGLISH), "install")
    assert code.startswith('SOURCE = ""')
    code = code.replace('SOURCE = ""', f"SOURCE = {given!r}", 1).replace("!komt", "# komt")
    exec(code, {})


def test_the_installation_takes_a_wheel(bare: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = Pip()
    install(pip, monkeypatch)
    assert pip.asked == [("--no-deps", GIT), (GIT, *WHEELS)]
    assert os.environ["CMAKE_ARGS"] == ""


def test_where_there_is_no_wheel_it_is_built(bare: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = Pip(fails_with=("--only-binary",))
    install(pip, monkeypatch)
    assert pip.asked == [("--no-deps", GIT), (GIT, *WHEELS), (GIT,)]
    assert os.environ["CMAKE_ARGS"] == "-DGGML_CUDA=on"


def test_a_wheel_that_was_uploaded_is_found(
    bare: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / UPLOADED).touch()
    pip = Pip()
    install(pip, monkeypatch, given="")
    assert pip.asked == [("--no-deps", UPLOADED), (UPLOADED, *WHEELS)]


def test_without_a_source_it_says_what_to_do(bare: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = Pip()
    with pytest.raises(SystemExit, match="Put a Git address"):
        install(pip, monkeypatch, given="")
    assert pip.asked == []


@pytest.mark.parametrize("fails_with", [("--no-deps",), (GIT,)])
def test_what_cannot_be_installed_is_said(
    bare: None, monkeypatch: pytest.MonkeyPatch, fails_with: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit, match="could not be installed"):
        install(Pip(fails_with=fails_with), monkeypatch)


# --- two of a kind -------------------------------------------------------------------------------


def test_the_code_of_both_is_the_same() -> None:
    korean, english = read(KOREAN), read(ENGLISH)
    assert [c["id"] for c in korean["cells"]] == [c["id"] for c in english["cells"]]
    assert korean["metadata"] == english["metadata"]
    for cell in korean["cells"]:
        if cell["cell_type"] == "code":
            assert skeleton(source(korean, cell["id"])) == skeleton(source(english, cell["id"]))


def skeleton(code: str) -> str:
    """The code without comments, and without texts that are for people."""

    class Plain(ast.NodeTransformer):
        def visit_Constant(self, node: ast.Constant) -> ast.Constant:
            is_words = isinstance(node.value, str) and bool(re.search(r"[가-힣]|\w \w", node.value))
            return ast.Constant("…") if is_words else node

        def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.Constant:
            return ast.Constant("…")

    lines = [re.sub("^!(.*)", r"shell(r'''\1''')", line) for line in code.splitlines()]
    return ast.unparse(Plain().visit(ast.parse("\n".join(lines))))


def test_each_speaks_its_language() -> None:
    for cell in read(ENGLISH)["cells"]:
        if cell["cell_type"] == "markdown":
            text = "".join(cell["source"]).replace("[한국어]", "")
            assert not re.search("[가-힣]", text)
    for cell in read(KOREAN)["cells"]:
        if cell["cell_type"] == "markdown":
            assert re.search("[가-힣]{2}", "".join(cell["source"]))


@pytest.mark.parametrize("name", [KOREAN, ENGLISH])
def test_nothing_is_claimed_that_was_not_seen(name: str) -> None:
    notebook = read(name)
    for cell in notebook["cells"]:
        assert cell["cell_type"] == "markdown" or (
            cell["outputs"] == [] and cell["execution_count"] is None
        )
    untested = source(notebook, "untested")
    assert wheels.table().checked.isoformat() in untested
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", json.dumps(notebook)):
        assert (ROOT / "notebooks" / target).exists(), target


@pytest.mark.parametrize("name", [KOREAN, ENGLISH])
def test_the_third_cell_answers(name: str) -> None:
    code = [cell["id"] for cell in read(name)["cells"] if cell["cell_type"] == "code"]
    assert code[:3] == ["install", "pull", "chat"]
