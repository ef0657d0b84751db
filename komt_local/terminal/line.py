"""Reads what a person types, or what a pipe brings: one message at a time.

At a terminal, prompt_toolkit keeps the real cursor where the text goes, so that an input method
draws the syllable being composed in its place, and wide cells are counted as wide.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prompt_toolkit.key_binding import KeyBindings
    from prompt_toolkit.key_binding.key_processor import KeyPressEvent

FENCE = '"""'


def read_plain() -> str:
    """The next message from standard input, without any prompt. Raises EOFError at the end."""
    line = _next_line()
    if not _is_open(line):
        return unfence(line)
    lines = [line]
    while _is_open("\n".join(lines)):
        lines.append(_next_line())
    return unfence("\n".join(lines))


def _next_line() -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\r\n")


def _is_open(text: str) -> bool:
    """Whether the text begins with the fence and still waits for its end."""
    text = text.strip()
    return text.startswith(FENCE) and (len(text) < 2 * len(FENCE) or not text.endswith(FENCE))


def unfence(text: str) -> str:
    """The text without the fence around it, if there is one."""
    bare = text.strip()
    if bare.startswith(FENCE) and not _is_open(bare):
        return bare[len(FENCE) : -len(FENCE)].strip("\n")
    return text


def reader_at_terminal(history_file: Path) -> Callable[[], str]:
    """A function that reads a message at the terminal, with a history that outlives the run.

    It raises EOFError at Ctrl-D and KeyboardInterrupt at Ctrl-C on an empty line.
    """
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory, History, InMemoryHistory

    history: History
    try:
        history_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        history_file.touch(mode=0o600)
        history = FileHistory(str(history_file))
    except OSError:
        history = InMemoryHistory()
    session: PromptSession[str] = PromptSession(
        history=history,
        multiline=True,
        key_bindings=_key_bindings(),
        prompt_continuation=lambda width, line_number, wrap_count: "." * (width - 1) + " ",
    )

    def read() -> str:
        return unfence(session.prompt(">>> "))

    return read


@contextmanager
def echo_off() -> Iterator[None]:
    """While an answer is printed, what is typed ahead does not appear in the middle of it.

    The keys are not lost: the next line begins with them, as raw as the line editor reads them.
    Ctrl-C works as ever.
    """
    try:
        import termios
    except ImportError:  # Windows echoes only what is being read.
        yield
        return
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    quiet = termios.tcgetattr(terminal)
    quiet[0] &= ~termios.ICRNL
    quiet[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(terminal, termios.TCSADRAIN, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _key_bindings() -> KeyBindings:
    """Enter sends unless a fence is open; Alt-Enter breaks the line; Ctrl-C clears it first."""
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        if _is_open(event.current_buffer.text):
            event.current_buffer.insert_text("\n")
        else:
            event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("c-c")
    def _(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt)

    return keys
