"""The benchmarks run: each script measures a tiny model once, and prints its table."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def output_of(script: str, *arguments: str | Path) -> str:
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="os.wait4 is not there")
def test_conversion(tmp_path: Path) -> None:
    arguments = ("--shape", "tiny", "--types", "Q8_0", "--rounds", "1", "--threads", "1", "--lora")
    said = output_of("convert.py", *arguments, "--folder", tmp_path)
    assert "| Q8_0 | komt_convert, adapter merged |" in said
    assert not list(tmp_path.iterdir())


def test_kernels() -> None:
    assert "Q4_K" in output_of("kernels.py", "Q4_K", "--rounds", "1", "--values", "65536")


def test_one_request_and_many(tmp_path: Path) -> None:
    made = tmp_path / "tiny.gguf"
    few = ("-p", "16", "-n", "8", "-r", "1", "-t", "1")
    said = output_of("engine.py", "--make", made, "--shape", "tiny", *few)
    assert "| engine | generation |" in said
    said = output_of("serving.py", made, "-c", "2", "-j", "1", "-r", "1", "-t", "1")
    assert "| 2 | engine |" in said
