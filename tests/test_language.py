"""Two languages: `--lang`, and no message that exists in one of them only."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from komt_local.cli import COMMANDS, run

ROOT = Path(__file__).parent.parent
HANGUL = re.compile("[가-힣ㄱ-ㅎㅏ-ㅣ]")
LETTERS = re.compile("[A-Za-z]{2,}")


def pairs_of_messages() -> Iterator[tuple[str, ast.expr, ast.expr]]:
    """Every English and Korean sentence that stand side by side, and where."""
    files = [*ROOT.glob("komt_local/**/*.py"), *ROOT.glob("convert/komt_convert/**/*.py")]
    for path in sorted(files):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (name := called(node)):
                where = f"{path.relative_to(ROOT)}:{node.lineno} {name}"
                yield (where, *sentences(node, where))


TAKE_BOTH = ("say", "note", "Note", "_Command", "_Setting", "Reason", "RenderError", "bad_schema")


def called(node: ast.Call) -> str | None:
    """The name of what is called, if it takes a sentence in each language."""
    function = node.func
    name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
    if ast.unparse(function).startswith("jinja2."):  # whose error has the name of one of ours
        return None
    if name in TAKE_BOTH:
        is_screen = isinstance(function, ast.Attribute)  # takes a sentence that was chosen already
        return None if is_screen and name == "note" else name
    return name if name in errors() else None


@cache
def errors() -> set[str]:
    """Every error whose constructor takes the two sentences."""
    import komt_convert.errors
    import komt_local.errors

    found = set()
    for module in (komt_local.errors, komt_convert.errors):
        for name, kind in vars(module).items():
            if isinstance(kind, type) and issubclass(kind, Exception) and "en" in takes(kind):
                found.add(name)
    return found


def takes(kind: type) -> list[str]:
    import inspect

    return list(inspect.signature(kind).parameters)


def sentences(node: ast.Call, where: str) -> tuple[ast.expr, ast.expr]:
    named = {keyword.arg: keyword.value for keyword in node.keywords}
    if "en" in named or "ko" in named:
        assert {"en", "ko"} <= named.keys(), where
        return named["en"], named["ko"]
    positional = [argument for argument in node.args if not is_form(node, argument)]
    if len(positional) == 1 and isinstance(positional[0], ast.Starred):
        return positional[0].value, positional[0].value  # a pair that was written elsewhere
    assert len(positional) >= 2, f"{where}: one language only"
    return positional[0], positional[1]


def is_form(node: ast.Call, argument: ast.expr) -> bool:
    """The first argument of a chat command is how it is typed; a setting's are what it sets."""
    n_forms = {"_Command": 1, "_Setting": 2}.get(getattr(node.func, "id", ""), 0)
    return any(argument is form for form in node.args[:n_forms])


def literal_text(expression: ast.expr) -> str | None:
    """The text that stands there, without what is put in; None where there is none."""
    if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
        return expression.value
    if isinstance(expression, ast.JoinedStr):
        parts = (part.value for part in expression.values if isinstance(part, ast.Constant))
        return "".join(str(part) for part in parts)
    if isinstance(expression, ast.BinOp):
        return (literal_text(expression.left) or "") + (literal_text(expression.right) or "")
    return None


PAIRS = list(pairs_of_messages())


def test_there_are_messages_to_look_at() -> None:
    names = {where.split()[-1] for where, _, _ in PAIRS}
    assert len(PAIRS) > 300 and {"say", "note", "UsageError", "SourceError"} <= names


@pytest.mark.parametrize("where, en, ko", PAIRS, ids=[where for where, _, _ in PAIRS])
def test_a_message_is_there_in_both_languages(where: str, en: ast.expr, ko: ast.expr) -> None:
    english, korean = literal_text(en), literal_text(ko)
    if english is None or korean is None:
        assert english is None and korean is None, "one of them is no text that can be read"
        return
    assert not HANGUL.search(english)
    assert korean.strip() or not english.strip()
    if len(LETTERS.findall(english)) > 2:
        assert HANGUL.search(korean)


# What looks like a sentence and is none: code, commands, names of threads, prompts, test texts.
NO_SENTENCES = (
    " has no attribute ", "komt-local ", "uv pip install", "pip install --force-reinstall",
    "No such command '(.*?)'", "{%- ", "not loop.first", "context and loop.last", "string ws",
    "\nws ::=", "A chat between a curious", "%(complete_func)s", "--force-reinstall",
    " --force-reinstall", " --no-binary", "alpha_pattern or",
)  # fmt: skip
# Of the program's own inside: shown to nobody, or beside a Korean sentence that says the same.
INSIDE = (
    "two slots, one GGUF name", " layers with the sliding_window", "no reason given",
    "a field goes beyond the message", "a number of more than ten bytes", " has unknown keys ",
    "end of turn", "No file names it", "--lora-scale comes after", "no adapter_config.json",
    "a model that it does not name", " is neither ELF nor PE", "no answer in ",
    " of it unfinished downloads", "did you mean ",
)  # fmt: skip
# Why a transfer failed, which an error quotes in English in both languages.
NETWORK = ("hub/download.py", "hub/transfer.py")


def units(tree: ast.AST) -> Iterator[ast.AST]:
    """Simple statements, and the headers and decorators of compound ones; no docstrings."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.stmt):
            continue
        if not hasattr(node, "body"):
            if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
                yield node
            continue
        for name, value in ast.iter_fields(node):
            if name not in ("body", "orelse", "finalbody", "handlers", "cases"):
                parts = value if isinstance(value, list) else [value]
                yield from (part for part in parts if isinstance(part, ast.AST))


def lonely_sentences(source: str) -> list[str]:
    """English sentences without any Korean in the same statement."""
    found = []
    for unit in units(ast.parse(source)):
        constants = (node.value for node in ast.walk(unit) if isinstance(node, ast.Constant))
        texts = [text for text in constants if isinstance(text, str)]
        if not any(HANGUL.search(text) for text in texts):
            found += [text for text in texts if re.search("[a-z] [a-z]", text)]
    return [text for text in found if len(LETTERS.findall(text)) > 2]


def test_no_sentence_is_written_without_its_korean() -> None:
    """Also where it goes through a function of ours, or stands in a table, a help or a bar."""
    found = []
    for path in sorted(ROOT.glob("komt_local/**/*.py")) + sorted(
        ROOT.glob("convert/komt_convert/**/*.py")
    ):
        name = path.relative_to(ROOT).as_posix()
        if name.endswith(NETWORK) or name.endswith("komt_convert/corpus.py"):
            continue
        texts = lonely_sentences(path.read_text(encoding="utf-8"))
        found += [(name, text) for text in texts if not text.startswith(NO_SENTENCES + INSIDE)]
    assert found == []


@pytest.mark.parametrize(
    ("source", "is_found"),
    [
        ('click.echo("This is not translated.")', True),
        ('raise refused("it has no end")', True),
        ('@click.option("--x", help="Do it all again.")\ndef f(): pass', True),
        ('TABLE = {"a": "a text in English"}', True),
        ('raise refused("it has no end", "끝이 없음")', False),
        ('def f():\n    "A docstring that says it."', False),
    ],
)
def test_what_is_found(source: str, is_found: bool) -> None:
    assert bool(lonely_sentences(source)) == is_found


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_is_in_one_language(name: str) -> None:
    korean, english = (help_of(name, "--help", KOMT_LOCAL_LANG=lang) for lang in ("ko", "en"))
    assert not HANGUL.search(english)
    rows = re.split(r"\n(?=  \S)", korean.partition("\n옵션:\n")[2])
    options = [row for row in rows if row.strip().startswith("-")]
    assert len(options) >= 2 and all(HANGUL.search(row) for row in options), korean
    assert not re.search(r"\[default|required\]", korean)


def help_of(*arguments: str, **environment: str) -> str:
    import os

    done = subprocess.run(
        [sys.executable, "-m", "komt_local", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--lang", "ko", "--help"],
        ["--help", "--lang=ko"],
        ["--lang", "ko", "run", "--help"],
        ["run", "--help", "--lang", "ko"],
    ],
)
def test_lang_comes_before_the_locale(arguments: list[str]) -> None:
    assert help_of(*arguments, KOMT_LOCAL_LANG="en").startswith("사용법: komt-local")
    english = [argument.replace("ko", "en") for argument in arguments]
    assert help_of(*english, KOMT_LOCAL_LANG="ko").startswith("Usage: komt-local")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--lang", "ko", "--no-such-option"]) == 2
    assert capsys.readouterr().err.startswith("오류: 그런 옵션은 없습니다")
    assert run([name, "--no-such-option"]) == 2
    assert capsys.readouterr().err.startswith("Error: ")


def test_an_unknown_language_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "--lang", "fr", "x"]) == 2
    assert "--lang" in capsys.readouterr().err
    assert run(["run", "-m", "/no/such.gguf", "--", "--lang", "ko"]) == 2
