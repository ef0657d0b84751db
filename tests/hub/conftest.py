"""A hub on loopback, and a client of it with a cache of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_program import Program
from hub_server import CHECKPOINT, LoopbackHub, Repo

from komt_local.hub import Hub


@pytest.fixture
def server() -> Iterator[LoopbackHub]:
    with LoopbackHub() as running:
        yield running


@pytest.fixture
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder and a cache for this test alone."""
    from huggingface_hub import constants

    monkeypatch.setenv("KOMT_LOCAL_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    return tmp_path


@pytest.fixture
def client(
    server: LoopbackHub, own_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hub]:
    """The library's view of that hub, in this process and online."""
    from huggingface_hub import close_session, constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield Hub(server.url, own_folders / "cache", token=False)
    close_session()


@pytest.fixture
def program(server: LoopbackHub, tmp_path: Path) -> Program:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "KOMT_LOCAL_"))}
    environment = kept | {
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DOWNLOAD_TIMEOUT": "2",
        "KOMT_LOCAL_HOME": str(tmp_path / "home"),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "LANG": "en_US.UTF-8",
    }
    return Program(environment, tmp_path / "hf" / "hub")


@pytest.fixture
def here(client: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The same hub for the command line in this process."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", client.endpoint)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    return Hub.here()


@pytest.fixture
def checkpoint(server: LoopbackHub, tiny_checkpoint: Path) -> dict[str, bytes]:
    files = {path.name: path.read_bytes() for path in tiny_checkpoint.iterdir()}
    server.repos[CHECKPOINT] = Repo(files | {"pytorch_model.bin": b"x" * 9000, "a/b.gguf.txt": b""})
    return files
