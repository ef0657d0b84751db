"""The text of a session: appended, replayed, and whole after every kind of end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from komt_local.errors import SessionError, UsageError
from komt_local.sessions import Journal, latest, session_path
from komt_local.types import Message

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.text(), st.text()),
        st.tuples(st.just("system"), st.one_of(st.none(), st.text())),
        st.sampled_from([("undo",), ("clear",)]),
    ),
    max_size=8,
)
SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def write(journal: Journal, steps: list[tuple[str, ...]]) -> list[tuple[list[Message], int]]:
    """Do the steps; what holds after each, and the length of the file then."""
    turns: list[Message] = []
    held = []
    for step in steps:
        if step[0] == "say":
            journal.exchange(*step[1:])
            turns = [*turns, Message("user", step[1]), Message("assistant", step[2])]
        elif step[0] == "system":
            journal.system(step[1])
        else:
            journal.undo() if step[0] == "undo" else journal.clear()
            turns = turns[:-2] if step[0] == "undo" else []
        held.append((turns, journal.path.stat().st_size))
    return held


@given(steps=STEPS)
@SHARED
def test_a_journal_says_what_was_said(own_home: Path, steps: list[tuple[str, ...]]) -> None:
    path = session_path("x")
    path.unlink(missing_ok=True)
    journal = Journal(path)
    journal.begin(Path("/models/a.gguf"))
    held = write(journal, steps)
    said = Journal(path).read()
    assert said.model == "/models/a.gguf"
    assert said.turns == (held[-1][0] if held else [])
    systems = [step[1] for step in steps if step[0] == "system"]
    assert said.system == (systems[-1] if systems else None)


@given(steps=STEPS, data=st.data())
@SHARED
def test_a_kill_loses_at_most_the_line_under_way(
    own_home: Path, steps: list[tuple[str, ...]], data: st.DataObject
) -> None:
    path = session_path("x")
    path.unlink(missing_ok=True)
    journal = Journal(path)
    journal.begin(Path("/models/a.gguf"))
    start = path.stat().st_size
    held = [([], start), *write(journal, steps)]
    length = data.draw(st.integers(start, path.stat().st_size))
    os.truncate(path, length)
    turns = [turns for turns, size in held if size <= length][-1]
    assert Journal(path).read().turns == turns
    again = Journal(path)
    again.begin(Path("/models/a.gguf"))
    again.exchange("뒤에", "말")
    assert Journal(path).read().turns == [
        *turns,
        Message("user", "뒤에"),
        Message("assistant", "말"),
    ]


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "a" * 65, "a b", "a\n"])
def test_names_are_no_paths(name: str) -> None:
    with pytest.raises(UsageError):
        session_path(name)


def test_names_may_be_korean(own_home: Path) -> None:
    assert session_path("화요일-대화").parent == own_home / "sessions"


@pytest.mark.parametrize("content", [b"hello\n", b"[]\n", b'{"session": 2}\n', b"\xff\xfe\n"])
def test_what_is_no_session_is_refused_and_left_alone(content: bytes) -> None:
    path = session_path("x")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(SessionError) as error:
        Journal(path).read()
    assert str(path) in str(error.value) and str(path) in error.value.ko
    assert path.read_bytes() == content


def test_only_its_owner_reads_a_session() -> None:
    journal = Journal(session_path("x"))
    journal.begin(Path("/models/a.gguf"))
    assert journal.path.stat().st_mode & 0o077 == 0
    assert journal.path.parent.stat().st_mode & 0o077 == 0


def test_the_latest_session(own_home: Path) -> None:
    assert latest() is None
    for n, name in enumerate(("old", "new", "older")):
        journal = Journal(session_path(name))
        journal.begin(Path("/models/a.gguf"))
        os.utime(journal.path, (0, [5, 9, 1][n]))
    found = latest()
    assert found and found.stem == "new"
