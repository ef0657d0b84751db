"""Completion in the shell: the scripts, and what Tab offers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from komt_local.cli import COMMANDS, run
from komt_local.library import names, records
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


BASH = """
eval "$(komt-local completion bash)"
COMP_LINE=${LINE:-komt-local doct}; COMP_POINT=${#COMP_LINE}
$(complete -p komt-local | sed 's/.* -F \\([^ ]*\\) .*/\\1/') komt-local
echo "${COMPREPLY[@]}"
"""
# What zsh's line editor would do with the names is replaced by printing them.
ZSH = """
compdef() { : }
_describe() { print -l -- ${${(P)3[@]}%%:*} }
eval "$(komt-local completion zsh)"
words=(komt-local doct) CURRENT=2
_komt_local_completion
"""
FISH = """
komt-local completion fish | source
complete -C 'komt-local doct' | cut -f1
"""


@pytest.fixture
def in_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "komt-local"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m komt_local "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


def shell(*command: str) -> str:
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.mark.parametrize(
    "command",
    [("bash", "--norc", "-c", BASH), ("zsh", "-f", "-c", ZSH), ("fish", "-N", "-c", FISH)],
    ids=["bash", "zsh", "fish"],
)
def test_the_shell_completes_with_its_script(in_path: None, command: tuple[str, ...]) -> None:
    assert shell(*command) == "doctor"


@pytest.mark.parametrize(
    ("line", "offer"),
    [("chat mi", "mine:Q4_K_M mine:Q8_0"), ("chat mine:", "Q4_K_M Q8_0"), ("rm mine:Q8", "Q8_0")],
)
def test_bash_completes_beyond_a_colon(
    in_path: None, line: str, offer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOMT_LOCAL_HOME", str(tmp_path / "home"))
    for type_ in ("Q4_K_M", "Q8_0"):
        path = f"/models/{type_}.gguf"
        records.remember(records.Record(path, "mine", "converted", 1, 1, type=type_))
    monkeypatch.setenv("LINE", f"komt-local {line}")
    assert shell("bash", "--norc", "-c", BASH) == offer
