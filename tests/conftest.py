"""What all tests share: a clean environment, no network beyond loopback, and tiny models."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# A busy machine makes no test fail.
settings.register_profile("komt", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("komt")

sys.path.insert(0, str(Path(__file__).parent))


# A runner in the background has Ctrl-C ignored, and what it starts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: Any) -> None:
    """English messages, a home of one's own, and none of the user's settings."""
    for name in list(os.environ):
        if name.startswith(("KOMT_LOCAL_", "HF_", "LC_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LANG", "en_US.UTF-8")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    home = tmp_path_factory.getbasetemp() / "home"
    home.mkdir(exist_ok=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("KOMT_LOCAL_HOME", str(home / "komt-local"))


@pytest.fixture(autouse=True, scope="session")
def loopback_only() -> Iterator[None]:
    """No test reaches beyond this machine: connecting anywhere else is an error."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        inet = self.family in (socket.AF_INET, socket.AF_INET6)
        if inet and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test connects to {address}")
        connect(self, address)

    socket.socket.connect = guarded  # type: ignore[method-assign]
    yield
    socket.socket.connect = connect  # type: ignore[method-assign]


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama checkpoint of random weights with Llama-2's whole SentencePiece vocabulary."""
    from checkpoints import write_llama_checkpoint

    folder = tmp_path_factory.mktemp("checkpoint")
    return write_llama_checkpoint(
        folder, full_vocab=True, n_layers=2, hidden_size=64, intermediate_size=128, n_heads=4
    )


@pytest.fixture(scope="session")
def tiny_gguf(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_checkpoint` as an F16 file with the komt template."""
    from komt_convert import convert
    from komt_local.prompts import PRESETS

    out = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    convert(tiny_checkpoint, out, quant="F16", chat_template=PRESETS["komt"].jinja)
    return out
