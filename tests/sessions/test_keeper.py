"""A dialogue that goes on in another process: its text always, its memory where it fits."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from runtime_models import write_adapter, write_random

from komt_local import Model
from komt_local.sessions import Keeper, session_path
from komt_local.types import Message

OPTIONS = {"max_tokens": 8, "temperature": 0}


class Kept:
    """A model with a session open, and what was noted about it."""

    def __init__(self, model: Model, **options: Any) -> None:
        self.model, self.notes = model, list[str]()
        talk = model.conversation(**OPTIONS)
        self.keeper = Keeper(model, talk, lambda en, ko: self.notes.append(en), **options)

    def say(self, text: str) -> tuple[str, int, int]:
        """The answer, the tokens of its prompt, and how many of them were not read anew."""
        events = list(self.keeper.stream(text))
        usage = events[-1].usage
        return "".join(e.text for e in events), usage.prompt_tokens, usage.cached_tokens


@contextmanager
def kept(path: Path, *, quota: int = 1 << 30, **options: Any) -> Iterator[Kept]:
    with Model.load(path, n_ctx=512, **options) as model:
        yield Kept(model, quota=quota)


def begin(path: Path, name: str = "x", **options: Any) -> list[str]:
    with kept(path, **options) as session:
        assert not session.keeper.open(name)
        answers = [session.say(text)[0] for text in ("하나", "둘")]
        session.keeper.remember()
    return answers


def memory_of(name: str = "x") -> Path:
    return session_path(name).with_suffix(".kv")


def test_a_dialogue_goes_on_in_a_new_process(talkative_gguf: Path) -> None:
    with Model.load(talkative_gguf, n_ctx=512) as model:
        talk = model.conversation(**OPTIONS)
        expected = [talk.say(text).text for text in ("하나", "둘", "셋")]
    assert begin(talkative_gguf) == expected[:2]
    with kept(talkative_gguf) as session:
        assert session.keeper.open("x")
        said = [message.content for message in session.keeper.messages]
        assert said == ["하나", expected[0], "둘", expected[1]]
        text, _, n_cached = session.say("셋")
        assert text == expected[2] and n_cached > 20 and not session.notes


def test_only_what_is_new_is_read(fluent_gguf: Path) -> None:
    """In the same process, after undo and retry, and in a new process all the same."""

    def new_tokens(text: str) -> int:
        # The last token of an answer was sampled and never evaluated.
        return 1 + len(session.model.tokenize(f"\n[user] {text}\n[assistant]")) - 1

    with kept(fluent_gguf) as session:
        session.keeper.open("x")
        session.say("하나")
        for text in ("둘", "셋"):
            _, n_prompt, n_cached = session.say(text)
            assert n_prompt - n_cached == new_tokens(text)
        assert session.keeper.undo() == "셋"
        _, n_prompt, n_cached = session.say("셋")
        assert n_prompt - n_cached == 1, "the same question again"
        assert session.keeper.undo() == "셋" and session.keeper.undo() == "둘"
        _, n_prompt, n_cached = session.say("넷")
        assert n_prompt - n_cached <= new_tokens("넷")
        session.keeper.remember()
    with kept(fluent_gguf) as session:
        session.keeper.open("x")
        _, n_prompt, n_cached = session.say("다섯")
        assert n_prompt - n_cached == new_tokens("다섯")


@pytest.mark.parametrize("damage", ["cut", "flipped", "no description", "of another model"])
def test_a_memory_that_is_not_whole_is_dropped_with_a_note(
    talkative_gguf: Path, damage: str, tmp_path: Path
) -> None:
    begin(talkative_gguf)
    memory = memory_of()
    content = bytearray(memory.read_bytes())
    if damage == "cut":
        memory.write_bytes(content[:-100])
    elif damage == "flipped":
        content[len(content) // 2] ^= 4
        memory.write_bytes(content)
    elif damage == "no description":
        memory.with_suffix(".kv.json").unlink()
    else:
        template = {"tokenizer.chat_template": "{{ messages }}"}
        talkative_gguf = write_random(tmp_path / "other.gguf", seed=9, **template)
    with kept(talkative_gguf) as session:
        assert session.keeper.open("x")
        assert len(session.keeper.messages) == 4
        assert len(session.notes) == 1 and "does not fit" in session.notes[0]
    assert not memory.exists()


@pytest.mark.parametrize("change", ["cache type", "adapter", "context"])
def test_a_memory_of_other_settings_is_dropped_with_a_note(
    talkative_gguf: Path, change: str, tmp_path: Path
) -> None:
    begin(talkative_gguf)
    options: dict[str, Any] = {
        "cache type": {"cache_type_k": "f32"},
        "adapter": {"lora": [write_adapter(tmp_path / "a.gguf")]},
        "context": {"n_ctx": 8},
    }[change]
    with Model.load(talkative_gguf, **({"n_ctx": 512} | options)) as model:
        session = Kept(model)
        assert session.keeper.open("x")
        assert len(session.notes) == 1


def test_adapters_belong_to_the_memory(talkative_gguf: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a.gguf")
    begin(talkative_gguf, lora=[(adapter, 0.5)])
    with kept(talkative_gguf, lora=[(adapter, 0.5)]) as session:
        assert session.keeper.open("x") and not session.notes
        assert session.say("셋")[2] > 10


def test_undo_clear_and_the_system_text_are_kept(talkative_gguf: Path) -> None:
    with kept(talkative_gguf) as session:
        session.keeper.open("x")
        session.say("하나")
        said = session.say("둘")[0]
        session.keeper.system = "짧게"
        session.say("셋")
        assert session.keeper.undo() == "셋"
        session.keeper.remember()
    with kept(talkative_gguf) as session:
        session.keeper.open("x")
        assert session.keeper.system == "짧게"
        assert session.keeper.messages[-1] == Message("assistant", said)
        session.keeper.clear()
        session.keeper.remember()
    with kept(talkative_gguf) as session:
        session.keeper.open("x")
        assert session.keeper.messages == (Message("system", "짧게"),)


def test_a_dialogue_gets_a_name_later_and_leads_two_lives(talkative_gguf: Path) -> None:
    with kept(talkative_gguf) as session:
        session.say("하나")
        assert session.keeper.save() is None
        assert session.keeper.save("a") == "a"
        session.say("둘")
        assert session.keeper.save("b") == "b"
        session.say("셋")
        assert session.keeper.open("a")
        questions = [m.content for m in session.keeper.messages if m.role == "user"]
        assert questions == ["하나", "둘"]
        assert session.keeper.open("b") and len(session.keeper.messages) == 6
        assert not session.keeper.open("c") and session.keeper.messages == ()


def test_an_answer_that_is_left_is_kept_as_far_as_it_came(talkative_gguf: Path) -> None:
    with kept(talkative_gguf) as session:
        session.keeper.open("x")
        answer = session.keeper.stream("하나")
        text = next(answer).text
        answer.close()  # type: ignore[attr-defined]
        session.keeper.stream("둘").close()  # type: ignore[attr-defined]
    with kept(talkative_gguf) as session:
        session.keeper.open("x")
        assert session.keeper.messages == (Message("user", "하나"), Message("assistant", text))


SAVING = """
import sys
from komt_local import Model
from komt_local.sessions import Keeper

with Model.load(sys.argv[1], n_ctx=512, threads=1) as model:
    keeper = Keeper(model, model.conversation(temperature=0, max_tokens=8), print)
    keeper.open("x")
    print("ready", flush=True)
    while True:
        list(keeper.stream("하나"))
        print(len(keeper.messages), flush=True)
        keeper.remember()
"""


def test_a_kill_while_saving_loses_at_most_the_last_turn(talkative_gguf: Path) -> None:
    for n_answers in (1, 2, 4):
        command = [sys.executable, "-c", SAVING, str(talkative_gguf)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            while "ready" not in process.stdout.readline():
                pass
            for _ in range(n_answers):
                n_messages = int(process.stdout.readline())
            process.kill()
        with kept(talkative_gguf) as session:
            assert session.keeper.open("x")
            assert len(session.keeper.messages) >= n_messages
            assert len(session.keeper.messages) % 2 == 0 and session.say("둘")[0]


def test_what_a_kill_left_of_a_memory_goes_in_time(talkative_gguf: Path) -> None:
    begin(talkative_gguf)
    old, new = (memory_of(name).with_suffix(".kv.part") for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    begin(talkative_gguf, "y")
    assert new.exists() and not old.exists()


def test_memories_stay_within_the_quota(talkative_gguf: Path) -> None:
    for name in ("a", "b"):
        begin(talkative_gguf, name)
    size = memory_of("a").stat().st_size
    begin(talkative_gguf, "c", quota=int(2.5 * size))
    assert [memory_of(name).exists() for name in "abc"] == [False, True, True]
    with kept(talkative_gguf, quota=size // 2) as session:
        session.keeper.open("c")
        session.keeper.remember()
        assert "too large" in session.notes[0]
    assert [memory_of(name).exists() for name in "abc"] == [False, True, False]
    left = {path.suffix for path in session_path("a").parent.iterdir()}
    assert left == {".jsonl", ".kv", ".json"}
