"""The command line without a model: helps, usage errors, exit statuses, two languages."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from komt_local.cli import COMMANDS, run

ROOT = Path(__file__).parent.parent.parent


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == "komt-local 0.1.0\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_in_both_languages(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = []
    for language in ("en", "ko"):
        done = komt_local(name, "--help", KOMT_LOCAL_LANG=language)
        assert done.returncode == 0, done.stderr
        texts.append(done.stdout)
    english, korean = texts
    assert english.startswith(f"Usage: komt-local {name}")
    assert korean.startswith(f"사용법: komt-local {name}")
    assert not re.search("[가-힣]", english)
    assert "--offline" in english
    for option in re.findall(r"^  (-[^ ,]+)", english, re.M):
        assert option in korean
    # Each Korean line of help says something in Korean.
    assert len(re.findall("[가-힣]{2,}", korean)) > len(re.findall(r"^  -", korean, re.M))


def test_the_group_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, (en, _) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(en)}", shown, re.M)


def test_without_arguments_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert "Commands:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["convrt"], r"Error: No such command 'convrt'"),
        (["run", "--tmp", "1"], r"Error: No such option.*--tmp"),
        (["run", "--temp", "warm"], r"Error: .*'warm' is not a valid float"),
        (["convert"], r"Error: Missing argument 'SOURCE'"),
        (["run", "-ngl", "some", "x"], r"Error: .*'some' is not auto, all or a number"),
        (["run", "--context", "@/no/such/file", "x"], r"Error: The file .* of --context"),
    ],
)
def test_usage_errors_are_one_sentence_and_status_2(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.match(sentence, captured.err), captured.err
    assert "Traceback" not in captured.err


def test_usage_errors_speak_korean(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KOMT_LOCAL_LANG", "ko")
    assert run(["run", "--tmp"]) == 2
    assert "그런 옵션은 없습니다: --tmp" in capsys.readouterr().err
    assert run(["nothing"]) == 2
    assert "그런 명령은 없습니다: nothing" in capsys.readouterr().err


def test_a_missing_model_is_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "-m", "/no/such/model.gguf", "안녕"]) == 1
    assert re.match(r"Error: There is no model .*komt-local", capsys.readouterr().err)


@pytest.mark.parametrize("readme", ["README.md", "README.en.md"])
def test_the_readmes_name_what_exists(readme: str) -> None:
    text = (ROOT / readme).read_text(encoding="utf-8")
    commands = next(
        block for block in re.findall(r"```text\n(.*?)```", text, re.S) if "[-m" in block
    )
    assert re.findall(r"^komt-local (\w+)", commands, re.M) == list(COMMANDS)
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / target).exists(), target
    blocks = re.findall(r"```sh\n(.*?)```", text, re.S)
    assert (
        blocks[:2]
        == re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)[
            :2
        ]
    )


def komt_local(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own, for what is decided at import."""
    import os

    return subprocess.run(
        [sys.executable, "-m", "komt_local", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )
