"""`komt-local doctor` on this machine, and what it prints of others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from machines import COLAB_T4, LAPTOP

from komt_local import doctor
from komt_local.cli import run
from komt_local.doctor import Machine
from komt_local.doctor.machine import Probe


def here(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    monkeypatch.setattr(doctor, "measure", lambda: machine)


def test_this_machine_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "komt_local", "doctor", "--json"],
        capture_output=True,
        text=True,
        env=os.environ | {"KOMT_LOCAL_LANG": "en"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    assert said["state"] in ("ok", "warn")
    assert said["machine"]["probe"]["ended"] in ("loaded", "computed")
    assert [check["name"] for check in said["checks"]][:2] == ["program", "llama-cpp-python"]


def test_the_status_is_0_unless_something_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here(monkeypatch, COLAB_T4)
    assert run(["doctor"]) == 0
    here(monkeypatch, replace(LAPTOP, probe=Probe("killed", signal="SIGILL")))
    assert run(["doctor"]) == 1
    assert capsys.readouterr().err == ""


def test_problems_come_with_their_line_and_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here(monkeypatch, COLAB_T4)
    run(["doctor", "--quiet"])
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("warn GPU  Tesla T4 is not used")
    assert said[1].strip().startswith("→ python -m pip install --force-reinstall")
    assert said[2:] == ["More: docs/troubleshooting.md#cuda"]


def test_it_speaks_korean(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KOMT_LOCAL_LANG", "ko")
    here(monkeypatch, COLAB_T4)
    run(["doctor"])
    said = capsys.readouterr().out
    assert "주의 GPU" in said and "자세히: docs/troubleshooting.ko.md#cuda" in said


def test_json_is_all_of_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here(monkeypatch, COLAB_T4)
    assert run(["doctor", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["machine"]["nvidia"]["gpus"][0]["capability"] == [7, 5]
    assert said["machine"]["build"]["needs"] == sorted(said["machine"]["build"]["needs"])
