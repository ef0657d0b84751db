"""A conversion that is killed leaves nothing that could be taken for a model, wherever it was.

Where it was to replace a model, the old one or the new one is there, and no report of the other.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from checkpoints import write_llama_checkpoint
from komt_convert import convert
from komt_convert.gguf_file import check

SLOWED = r"""
import sys, time
from komt_convert import output, writer
write_at, fsync = output.Output.write_at, output.os.fsync
def slow(*arguments):
    time.sleep(0.02)
    return write_at(*arguments)
def slow_sync(descriptor):
    time.sleep(0.2)
    fsync(descriptor)
output.Output.write_at, output.os.fsync = slow, slow_sync
from komt_convert.__main__ import main
sys.stdout.write("begins\n")
sys.stdout.flush()
sys.exit(main(sys.argv[1:]))
"""
"""Long enough in every part that a random moment falls in each of them."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama_checkpoint(tmp_path_factory.mktemp("source") / "model", n_layers=2)


def start(source: Path, out: Path) -> subprocess.Popen[str]:
    """The converter in a process of its own, at the point where it begins to work."""
    arguments = [str(source), "-o", str(out), "-q", "Q4_0", "--threads", "2", "--force"]
    command = [sys.executable, "-c", SLOWED, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begins\n"
    return process


def kill_after(seconds: float, source: Path, out: Path) -> bool:
    """Whether the process was killed while it worked; it may have been done."""
    process = start(source, out)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def kill_and_look(moments: list[float], source: Path, folder: Path) -> tuple[int, int]:
    """How many were killed, and how many of them left a temporary file."""
    n_killed = n_left = 0
    old = convert(source, folder / "모델.gguf", quant="F16", save_report=True)
    for i, seconds in enumerate(moments):
        out = folder / f"{i}" / "모델.gguf"
        out.parent.mkdir()
        if i % 2:
            for name in both(out):
                shutil.copy(folder / name, out.parent)
        n_killed += kill_after(seconds, source, out)
        left = [path.name for path in out.parent.iterdir() if path.suffix != ".partial"]
        n_left += len(os.listdir(out.parent)) > len(left)
        if left:  # it was done, but for its last words, or had not replaced the old one
            assert out.name in left and set(left) <= both(out), seconds
            assert check(out).n_parameters == old.n_parameters
            assert is_described(out), seconds
        assert left or i % 2 == 0, seconds
        convert(source, out, quant="Q4_0", verify=False, force=True).save()
        assert set(os.listdir(out.parent)) == both(out), seconds
        out.unlink()
    return n_killed, n_left


def is_described(out: Path) -> bool:
    """Whether its report, if there is one, is of this very file."""
    report = out.with_name(f"{out.name}.report.json")
    if not report.exists():
        return True
    said = json.loads(report.read_text(encoding="utf-8"))["sha256"]
    return bool(said == hashlib.sha256(out.read_bytes()).hexdigest())


def both(out: Path) -> set[str]:
    """The file and its report."""
    return {out.name, f"{out.name}.report.json"}


def moments(count: int, source: Path, folder: Path) -> list[float]:
    """Random ones within the time that a whole run takes on this machine."""
    began = time.monotonic()
    process = start(source, folder / "whole.gguf")  # and leaves it there
    process.communicate()
    assert process.returncode == 0
    whole = time.monotonic() - began
    rng = random.Random(count)
    return [rng.uniform(0, whole) for _ in range(count)]


def test_a_few_kills(source: Path, tmp_path: Path) -> None:
    n_killed, _ = kill_and_look(moments(4, source, tmp_path), source, tmp_path)
    assert n_killed > 0


@pytest.mark.slow
def test_fifty_kills(source: Path, tmp_path: Path) -> None:
    n_killed, n_left = kill_and_look(moments(50, source, tmp_path), source, tmp_path)
    assert n_killed > 25
    assert n_left > 5
