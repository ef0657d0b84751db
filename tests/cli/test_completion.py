"""Completion in the shell: the scripts, and what Tab offers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from komt_local.cli import COMMANDS, run
from komt_local.library import names
from komt_local.prompts import PRESETS

# What completing a model's name may take time for: none of what runs models.
HEAVY = ("numpy", "jinja2", "llama_cpp", "torch", "transformers", "rich", "prompt_toolkit")


def offered(*words: str) -> list[str]:
    """What fish's script would be offered for a command line; the last word is incomplete."""
    done = complete(*words)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return [line.split(",", 1)[1].split("\t")[0] for line in done.stdout.splitlines()]


def complete(*words: str, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "_KOMT_LOCAL_COMPLETE": "fish_complete",
        "COMP_WORDS": " ".join(["komt-local", *words]),
        "COMP_CWORD": words[-1],
        "KOMT_LOCAL_LANG": "en",
    }
    return subprocess.run(
        [sys.executable, *flags, "-m", "komt_local"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


def test_commands_complete_in_order() -> None:
    assert offered("") == list(COMMANDS)
    assert offered("co") == ["convert", "completion"]


def test_options_complete() -> None:
    assert "--gpu-layers" in offered("chat", "--g")


def test_models_complete_by_what_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOMT_LOCAL_HOME", str(tmp_path))
    names.set_alias("mine", "org/repo")
    names.set_alias("my-other", "org/repo")
    assert offered("chat", "m") == ["mine", "my-other"]
    assert offered("run", "-m", "mi") == ["mine"]
    assert offered("rm", "my") == ["my-other"]


def test_where_no_model_is_called_so_files_are_offered() -> None:
    assert complete("chat", "./m").stdout == "file,./m\n"
    assert complete("chat", "zzz").stdout == "file,zzz\n"
    assert complete("convert", "x", "-o", "").stdout == "file,\n"


def test_names_of_the_catalogue_complete_where_they_are_wanted() -> None:
    assert "komt-mistral-7b-v1" in offered("pull", "komt-m")


def test_templates_and_types_complete() -> None:
    assert offered("chat", "--template", "kullm") == sorted(
        name for name in PRESETS if name.startswith("kullm")
    )
    assert "Q4_K_M" in offered("convert", "x", "-q", "Q4")
    assert offered("completion", "") == ["bash", "zsh", "fish"]


def test_a_broken_list_of_models_shows_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOMT_LOCAL_HOME", str(tmp_path))
    (tmp_path / "library.json").write_text("{")
    assert complete("chat", "x").stdout == "file,x\n"


@pytest.mark.parametrize("words", [("",), ("chat", "x"), ("chat", "--template", "k")])
def test_completing_loads_nothing_heavy(words: tuple[str, ...]) -> None:
    loaded = complete(*words, flags=("-X", "importtime")).stderr
    modules = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in loaded.splitlines()}
    assert "click" in modules and not modules & set(HEAVY)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "_KOMT_LOCAL_COMPLETE" in script and "komt-local" in script
    if shutil.which(shell):
        checked = subprocess.run([shell, "-n"], input=script, text=True, check=False)
        assert checked.returncode == 0


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_with_the_script(tmp_path: Path) -> None:
    program = tmp_path / "komt-local"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m komt_local "$@"\n')
    program.chmod(0o755)
    script = (
        'eval "$(komt-local completion bash)"\n'
        "COMP_WORDS=(komt-local doct); COMP_CWORD=1\n"
        "$(complete -p komt-local | sed 's/.* -F \\([^ ]*\\) .*/\\1/') komt-local\n"
        'echo "${COMPREPLY[@]}"\n'
    )
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": path},
        check=False,
    )
    assert done.stdout == "doctor\n", done.stderr
