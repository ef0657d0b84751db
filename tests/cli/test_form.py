"""`run` with a grammar, a JSON schema, likelihoods, and an answer that goes round in circles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from komt_local.cli import run


def asked(
    arguments: list[str], model: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    status = run(["run", "-m", str(model), "--temp", "0", *arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_grammar_from_a_file(
    chat_gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "form.gbnf").write_text('root ::= " "? ("구름" | "하늘")', encoding="utf-8")
    arguments = ["--grammar", str(tmp_path / "form.gbnf"), "안녕?"]
    status, out, err = asked(arguments, chat_gguf, capsys)
    assert (status, out.strip() in ("구름", "하늘"), err) == (0, True, "")


def test_a_json_schema_from_a_file(
    chat_gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = {"properties": {"답": {"enum": ["네", "아니요"]}}, "required": ["답"]}
    (tmp_path / "answer.json").write_text(json.dumps(schema), encoding="utf-8")
    arguments = ["--json-schema", str(tmp_path / "answer.json"), "안녕?"]
    status, out, _ = asked(arguments, chat_gguf, capsys)
    assert status == 0 and json.loads(out)["답"] in ("네", "아니요")
    status, _, err = asked([*arguments, "-n", "3"], chat_gguf, capsys)
    assert status == 1 and err.startswith("Error: The answer is not the JSON")


@pytest.mark.parametrize(
    ("option", "content", "sentence"),
    [
        ("--grammar", "root ::= nowhere", "The grammar cannot be used"),
        ("--grammar", None, "of --grammar cannot be read"),
        ("--json-schema", "{", "The JSON schema cannot be used"),
        ("--json-schema", '{"type": "date"}', "there is no type 'date'"),
    ],
)
def test_a_bad_file_is_named_in_one_sentence(
    option: str,
    content: str | None,
    sentence: str,
    chat_gguf: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if content is not None:
        (tmp_path / "form").write_text(content, encoding="utf-8")
    status, out, err = asked([option, str(tmp_path / "form"), "안녕?"], chat_gguf, capsys)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert sentence in err


def test_likelihoods_as_json(chat_gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = asked(["안녕?", "--logprobs", "2", "--json"], chat_gguf, capsys)
    answer = json.loads(out)
    assert status == 0 and len(answer["tokens"]) == answer["usage"]["completion_tokens"] == 8
    assert b"".join(bytes(token["bytes"]) for token in answer["tokens"][:-1]).decode() == (
        "한글 world"
    )
    first, last = answer["tokens"][0], answer["tokens"][-1]
    assert (
        last["text"] == "</s>"
        and [set(top) for top in last["top"]] == [{"id", "text", "bytes", "logprob"}] * 2
    )
    assert first["top"][0]["id"] == first["id"] and first["logprob"] <= 0
    status, _, err = asked(["안녕?", "--logprobs", "2"], chat_gguf, capsys)
    assert status == 2 and "--json" in err


def test_a_loop_ends_with_a_note(chat_gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--template", "komt-output", "안녕?"]
    status, out, err = asked(arguments, chat_gguf, capsys)
    assert (status, out[:11]) == (0, "two three: ")
    assert err.startswith("Stopped, as the answer went round in circles; --no-stop-loops")
    status, out, err = asked([*arguments, "--no-stop-loops", "--json"], chat_gguf, capsys)
    assert json.loads(out)["finish_reason"] == "length"
    status, out, err = asked([*arguments, "--frequency-penalty", "50"], chat_gguf, capsys)
    assert "two three: two three: two" not in out
