"""`komt-local` without arguments: three lines on a terminal, the help in a pipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from komt_local.cli import run, welcome
from komt_local.library import names


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(welcome, "is_wanted", lambda: True)
    monkeypatch.setenv("KOMT_LOCAL_HOME", str(tmp_path))


def test_a_terminal_gets_three_lines(terminal: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    here, to_do, more = capsys.readouterr().out.splitlines()
    assert here.endswith("the default is komt-local-demo")
    assert "komt-local pull" in to_do and "--help" in more and "doctor" in more


def test_the_default_and_many_models_are_named(
    terminal: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(5):
        names.set_alias(f"mine-{number}", "org/repo")
    names.set_default("org/repo")
    assert run([]) == 0
    here, to_do, _ = capsys.readouterr().out.splitlines()
    assert here.startswith("Models: mine-0, mine-1, mine-2 and ")
    assert here.endswith("the default is org/repo")
    assert "pull" not in to_do


def test_in_korean(
    terminal: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KOMT_LOCAL_LANG", "ko")
    run([])
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "모델",
        "할 일",
        "더 보기",
    ]


def test_a_pipe_gets_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert capsys.readouterr().out.startswith("Usage: komt-local")


def test_help_stays_as_it_is(terminal: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    assert "Commands:" in capsys.readouterr().out
