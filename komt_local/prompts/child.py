"""Renders templates that nobody vouches for in a child process, within time and memory.

jinja2's sandbox keeps a template from reaching Python, but not from looping for ever or from
making a string of gigabytes. The child is started at first use, answers in about a millisecond
after that, and is killed when it takes too long.
"""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from .reasons import Reason

MOST_SECONDS = 5.0
MOST_BYTES = 512 << 20
MOST_CHARACTERS = 8 << 20

_CHILD = Path(__file__).with_name("render_child.py")


class RenderError(Reason):
    """The template could not be rendered; the text says why, for the inside of a sentence."""


class Renderer:
    """One child process, used by one thread at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def render(self, template: str, variables: dict[str, Any]) -> str:
        """The rendered text. Raises RenderError."""
        request = json.dumps({"template": template, "variables": variables}) + "\n"
        with self._lock:
            answer = self._ask(request)
        if answer is None:
            limit = f"{MOST_SECONDS:.0f} s, {MOST_BYTES >> 20} MB"
            raise RenderError(
                f"it takes more time or memory than it may: {limit}",
                f"허용된 시간이나 메모리를 넘음: {limit}",
            )
        if "error" in answer:
            raise RenderError(answer["error"], answer["ko"])
        return str(answer["text"])

    def close(self) -> None:
        """End the child; the next use starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _ask(self, request: str) -> dict[str, str] | None:
        process = self._process = self._process or _start()
        assert process.stdin is not None and process.stdout is not None
        watchdog = threading.Timer(MOST_SECONDS, process.kill)
        watchdog.start()
        try:
            process.stdin.write(request)
            process.stdin.flush()
            answer = process.stdout.readline()
        except OSError:
            answer = ""
        except BaseException:  # Ctrl-C in between: the answer would be the next request's.
            self.close()
            raise
        finally:
            watchdog.cancel()
        if not answer:
            self.close()
            return None
        found: dict[str, str] = json.loads(answer)
        return found


def _start() -> subprocess.Popen[str]:
    # A session of its own: Ctrl-C at the terminal is the chat's, not the child's.
    return subprocess.Popen(
        [sys.executable, "-I", str(_CHILD), str(MOST_BYTES), str(MOST_CHARACTERS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
        start_new_session=True,
    )


RENDERER = Renderer()
atexit.register(RENDERER.close)
