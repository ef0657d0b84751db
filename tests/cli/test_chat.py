"""The chat: over pipes with whole outputs compared, and in a terminal with a screen looked at."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pyte
import pytest

WIDTH, HEIGHT = 80, 24


def chat_over_pipes(model: Path, typed: str, *options: str) -> tuple[str, str]:
    """What the chat prints on stdout and on stderr when `typed` is piped in."""
    done = subprocess.run(
        [sys.executable, "-m", "komt_local", "chat", str(model), "--temp", "0", *options],
        input=typed.encode(),
        capture_output=True,
        check=True,
    )
    return done.stdout.decode(), done.stderr.decode()


def test_pipes_carry_answers_and_nothing_else(chat_gguf: Path) -> None:
    out, err = chat_over_pipes(chat_gguf, "안녕?\n\n뭐해?\n")
    assert out == "한글 world\n한글 world\n"
    assert err == ""


def test_decomposed_hangul_is_offered_composed(chat_gguf: Path) -> None:
    typed = "/stats\n{}\n"
    composed = chat_over_pipes(chat_gguf, typed.format("한글"))[1]
    decomposed = chat_over_pipes(chat_gguf, typed.format("\u1112\u1161\u11ab\u1100\u1173\u11af"))[1]
    counts = [re.search(r"prompt (\d+) tokens", err) for err in (composed, decomposed)]
    assert counts[0] and counts[1] and counts[0][1] == counts[1][1]


def test_a_text_of_several_lines_is_one_question(chat_gguf: Path) -> None:
    out, err = chat_over_pipes(chat_gguf, '"""첫째 줄\n둘째 줄\n"""\n/show\n')
    assert out == "한글 world\n"
    assert "1 exchanges" in err


def test_commands(chat_gguf: Path) -> None:
    lines = [
        "/undo",
        "안녕?",
        "/retry",
        "/undo",
        "/set temperature 0.5",
        "/set temp hot",
        "/set nothing 1",
        "/system 짧게",
        "/system off",
        "/nothing",
        "/clear",
        "/stats",
        "/help",
        "/bye",
        "never read",
    ]
    out, err = chat_over_pipes(chat_gguf, "\n".join(lines))
    assert out == "한글 world\n한글 world\n"
    said = err.splitlines()
    assert said[:9] == [
        "Error: There is no exchange to go back to; ask something first.",
        "Taken back: 안녕?",
        "temp = 0.5",
        "Error: 'hot' is no value for temp (a number; 0 = always the likeliest).",
        "Error: There is no setting 'nothing'; the settings are temp, top-k, top-p, min-p, "
        "repeat-penalty, repeat-last-n, frequency-penalty, presence-penalty, dry-multiplier, "
        "dry-base, dry-allowed-length, seed, stop-loops, stop, max-tokens, template. "
        "/set shows their values.",
        "system prompt: 짧게",
        "system prompt: (none; /system TEXT sets one)",
        "Error: There is no command /nothing; did you mean /help? "
        "(A space in front sends a line as it is.)",
        "The dialogue begins anew.",
    ]
    assert [line.split()[0] for line in said if line.startswith("/")] == (
        "/help /clear /retry /undo /system /set /lora /save /load /show /stats /bye".split()
    )


def test_settings_change_the_next_answer(chat_gguf: Path) -> None:
    out, err = chat_over_pipes(
        chat_gguf, "/set max-tokens 3\n안녕?\n/set template komt-output\n가\n"
    )
    assert out == "한\ntwo three:\n"
    assert err.count("/set max-tokens N allows more") == 2


def test_every_setting_can_be_seen_set_and_taken_back(chat_gguf: Path) -> None:
    changes = [
        "/set repeat-penalty 1.3",
        "/set repeat-last-n 128",
        "/set frequency-penalty 0.5",
        "/set presence-penalty 0.25",
        "/set dry-multiplier 0.8",
        "/set dry-base 2",
        "/set dry-allowed-length 3",
        "/set stop-loops off",
        "/set stop 글",
        "/set seed 7",
    ]
    wrong = ["/set top-p 7", "/set template none", "/set stop-loops no", "/set max-tokens 0"]
    lines = ["/set", *changes, *wrong, "안녕?", "/set dry-base", "/set dry-base -", "/set", "/bye"]
    out, err = chat_over_pipes(chat_gguf, "\n".join(lines))
    said = err.splitlines()
    before, after = said[:16], said[-16:]
    assert [line.split()[0] for line in before if line.startswith("*")] == ["*"] * 2
    assert before[0].startswith("* temp               0.0 ")
    assert before[4].startswith("  repeat-penalty     1.0 ")  # the template's authors say none
    assert before[15].startswith("  template           komt ")
    assert said[16:26] == [
        "repeat-penalty = 1.3",
        "repeat-last-n = 128",
        "frequency-penalty = 0.5",
        "presence-penalty = 0.25",
        "dry-multiplier = 0.8",
        "dry-base = 2.0",
        "dry-allowed-length = 3",
        "stop-loops = off",
        "stop = '글'",
        "seed = 7",
    ]
    errors = said[26:30]
    assert [line.split(" ")[1] for line in errors] == ["top_p", "There", "'no'", "max_tokens"]
    assert out == "한\n"
    assert said[30:32] == ["dry-base = 2.0", "dry-base = 1.75"]
    assert after[8].startswith("* dry-multiplier     0.8 ")
    assert after[9].startswith("  dry-base           1.75 ")


def test_a_full_context_forgets_the_oldest_and_says_so(chat_gguf: Path) -> None:
    options = ["--history", "-c", "64", "-n", "12"]
    out, err = chat_over_pipes(chat_gguf, "첫째 물음\n둘째 물음\n셋째 물음\n", *options)
    assert out == "한글 world\n" * 3
    assert "the oldest exchange was forgotten (첫째 물음" in err


def test_overflow_can_be_refused(chat_gguf: Path) -> None:
    options = ["--history", "-c", "64", "-n", "12", "--on-overflow", "refuse"]
    out, err = chat_over_pipes(chat_gguf, "첫째 물음\n둘째 물음\n셋째 물음\n", *options)
    assert out.count("한글 world\n") < 3
    assert "the context holds 64" in err


class Terminal:
    """A terminal with the chat in it: keys go in, the screen can be read."""

    def __init__(self, model: Path, home: Path, language: str, *options: str) -> None:
        self.screen = pyte.Screen(WIDTH, HEIGHT)
        self._stream = pyte.ByteStream(self.screen)
        arguments = ["-m", "komt_local", "chat", str(model), "--temp", "0", *options]
        environment = os.environ | {
            "KOMT_LOCAL_LANG": language,
            "LC_ALL": "C.UTF-8",
            "TERM": "xterm-256color",
            "XDG_CONFIG_HOME": str(home),
            "HOME": str(home),
        }
        self._child = pexpect.spawn(
            sys.executable, arguments, env=environment, dimensions=(HEIGHT, WIDTH), timeout=30
        )

    def type(self, keys: str) -> None:
        self._child.send(keys.encode())

    def wait(self, seen: Callable[[str], bool], seconds: float = 30) -> str:
        """Read the screen until it shows what is waited for."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not seen(self.text):
            try:
                self._stream.feed(self._child.read_nonblocking(65536, timeout=0.1))
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                break
        assert seen(self.text), self.text
        return self.text

    @property
    def text(self) -> str:
        # A wide cell is followed by an empty one.
        return "\n".join(line.rstrip() for line in self.screen.display)

    def leave(self) -> int:
        self.type("\x04")
        self._child.expect(pexpect.EOF)
        self._child.close()
        return int(self._child.exitstatus)

    def kill(self) -> None:
        self._child.close(force=True)


@pytest.fixture
def terminal(chat_gguf: Path, tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_terminal(language: str = "ko", *options: str) -> Terminal:
        opened.append(Terminal(chat_gguf, tmp_path, language, *options))
        return opened[-1]

    yield open_terminal
    for each in opened:
        each.kill()


def prompts(text: str) -> int:
    return sum(line.startswith(">>>") for line in text.splitlines())


def test_a_dialogue_in_korean(terminal: Callable[..., Terminal]) -> None:
    chat = terminal()
    shown = chat.wait(lambda text: prompts(text) == 1)
    assert shown.startswith("tiny · ")
    assert "/help 명령 목록, Ctrl-D 끝내기." in shown
    chat.type("안녕하세요")
    chat.wait(lambda text: ">>> 안녕하세요" in text)
    # The real cursor stands behind five wide cells: there an input method draws its syllable.
    assert chat.screen.cursor.x == len(">>> ") + 2 * 5
    chat.type("\x7f\x7f")
    chat.wait(lambda text: ">>> 안녕하\n" in text)
    chat.type("\r")
    chat.wait(lambda text: "한글 world\n>>>" in text)
    assert chat.leave() == 0


def test_history_outlives_the_run(terminal: Callable[..., Terminal]) -> None:
    first = terminal()
    first.wait(lambda text: prompts(text) == 1)
    first.type("처음에 한 말\r")
    first.wait(lambda text: prompts(text) == 2)
    assert first.leave() == 0
    second = terminal()
    second.wait(lambda text: prompts(text) == 1)
    second.type("\x1b[A")
    second.wait(lambda text: ">>> 처음에 한 말" in text)


def test_ctrl_c_stops_the_answer_and_keeps_the_chat(terminal: Callable[..., Terminal]) -> None:
    endless = ["--template", "komt-output", "-n", "100000", "--no-stop-loops", "-c", "32768"]
    chat = terminal("ko", *endless)
    chat.wait(lambda text: prompts(text) == 1)
    chat.type("끝없이\r")
    chat.wait(lambda text: "two three: two three:" in text)
    chat.type("\x03")
    chat.wait(lambda text: "멈췄습니다." in text and text.rstrip().endswith(">>>"))
    chat.type("지울 글\x03")
    chat.wait(lambda text: text.rstrip().endswith(">>>"))
    chat.type("\x03")
    chat.wait(lambda text: "Ctrl-D를 누르면 끝납니다." in text)
    assert chat.leave() == 0


def test_several_lines_at_the_terminal(terminal: Callable[..., Terminal]) -> None:
    chat = terminal("en")
    chat.wait(lambda text: prompts(text) == 1)
    chat.type('"""첫째\r')
    chat.wait(lambda text: '>>> """첫째\n...' in text)
    chat.type('둘째"""\r')
    chat.wait(lambda text: "한글 world" in text)
    chat.type("위\x1b\r아래\r")
    shown = chat.wait(lambda text: text.count("한글 world") == 2)
    assert ">>> 위\n... 아래" in shown
    # A paste of two lines is one message.
    chat.type("\x1b[200~가\n나\x1b[201~\r")
    shown = chat.wait(lambda text: text.count("한글 world") == 3)
    assert ">>> 가\n... 나" in shown


def test_a_session_goes_on_where_it_was_left(chat_gguf: Path, tmp_path: Path) -> None:
    from runtime_models import write_adapter

    kept = ["--session", "화요일", "--history"]
    assert chat_over_pipes(chat_gguf, "안녕?\n", *kept) == ("한글 world\n", "")
    out, err = chat_over_pipes(
        chat_gguf, "/show\n/save 수요일\n/load 목요일\n/load 수요일\n", *kept
    )
    assert out == "" and "Session 화요일 goes on after 1 exchanges." in err
    said = [line for line in err.splitlines() if "요일" in line and "Session" not in line]
    assert said == ["Kept as 수요일.", "목요일 begins anew.", "수요일: 1 exchanges."]
    done = subprocess.run(
        [sys.executable, "-m", "komt_local", "chat", "--continue", "--temp", "0"],
        input=f"/show\n/lora {write_adapter(tmp_path / 'a.gguf')}\n/load\n/save\n".encode(),
        capture_output=True,
        check=True,
    )
    err = done.stderr.decode()
    assert str(chat_gguf) in err, "the model of the session, as none was named"
    assert "1 exchanges" in err and "Kept as" in err and "needs the name" in err
    assert "Error: " in err and "a.gguf" in err, "an adapter of another model"


def test_there_must_be_a_session_to_continue(chat_gguf: Path, tmp_path: Path) -> None:
    for options in (["--continue"], ["--continue", "--session", "x"]):
        done = subprocess.run(
            [sys.executable, "-m", "komt_local", "chat", str(chat_gguf), *options],
            env=os.environ | {"KOMT_LOCAL_HOME": str(tmp_path)},
            capture_output=True,
        )
        assert done.returncode == 2 and b"Error: " in done.stderr
