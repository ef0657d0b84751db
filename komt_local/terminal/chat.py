"""One dialogue at a terminal or over pipes: read a line, obey it or answer it, until the end.

The loop works on anything that has the methods of `Talk`; it opens no model and parses no options.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol, TextIO

from ..errors import KomtError
from ..language import say, say_error
from ..types import Event, Message, Usage
from .services import Adaptable, Keeping
from .text import printable

ReadLine = Callable[[], str]


class Talk(Protocol):
    """A dialogue that keeps its history: what the chat asks of `komt_local.Conversation`."""

    system: str | None

    @property
    def messages(self) -> Sequence[Message]: ...
    def stream(self, text: str, **options: Any) -> Iterator[Event]: ...
    def undo(self) -> str | None: ...
    def clear(self) -> None: ...


@dataclass(slots=True)
class Settings:
    """What `/set` changes: options of the next answers, and whether figures are shown.

    `check` raises a KomtError for options that make no sense; `own` tells what holds for those that
    are not among them.
    """

    options: dict[str, Any] = field(default_factory=dict)
    stats: bool = False
    check: Callable[[dict[str, Any]], None] = lambda options: None
    own: Callable[[dict[str, Any]], Mapping[str, Any]] = lambda options: {}


@dataclass(slots=True)
class Screen:
    """Where things go: answers to `out`, notes to `err`.

    `styled` says that people watch. `answering` is entered while an answer is printed.
    """

    out: TextIO
    err: TextIO
    styled: bool = False
    answering: Callable[[], AbstractContextManager[None]] = nullcontext

    def answer(self, text: str) -> None:
        self.out.write(printable(text) if self.styled else text)
        self.out.flush()

    def note(self, text: str) -> None:
        line = f"\x1b[2m{text}\x1b[0m" if self.styled else text
        print(line, file=self.err, flush=True)


class Chat:
    """The loop, and the state that it and the commands share.

    `check` is called with each text before it is answered, and may refuse it with a KomtError.
    """

    def __init__(
        self,
        talk: Talk,
        settings: Settings,
        screen: Screen,
        *,
        n_ctx: int,
        about: Sequence[str],
        check: Callable[[str, Settings], None] = lambda text, settings: None,
        model: Adaptable | None = None,
        sessions: Keeping | None = None,
    ) -> None:
        self.talk = talk
        self.settings = settings
        self.screen = screen
        self.n_ctx = n_ctx
        self.about = about
        self.check = check
        self.model, self.sessions = model, sessions
        self.leaving = False
        self.usage = Usage()

    def run(self, read_line: ReadLine) -> None:
        """Talk until `/bye` or the end of input. Ctrl-C stops an answer and keeps the chat."""
        while not self.leaving:
            try:
                line = unicodedata.normalize("NFC", read_line())
            except EOFError:
                break
            except KeyboardInterrupt:
                self.screen.note(say("Ctrl-D leaves the chat.", "Ctrl-D를 누르면 끝납니다."))
                continue
            self._take(line)

    def _take(self, line: str) -> None:
        from .commands import obey

        try:
            if line.startswith("/"):
                obey(self, line)
            elif line.strip():
                self.answer(line)
        except KomtError as error:
            self.screen.note(f"{say('Error', '오류')}: {say_error(error)}")

    def answer(self, text: str) -> None:
        """Stream the answer to `text`; what came of it before a Ctrl-C stays in the dialogue."""
        self.check(text, self.settings)
        events = self.talk.stream(text, **self.settings.options)
        last, shown = Event(""), ""
        try:
            with self.screen.answering(), closing(events):  # type: ignore[type-var]
                for event in events:
                    self.screen.answer(event.text)
                    last, shown = event, event.text or shown
        except KeyboardInterrupt:
            self.screen.answer("\n")
            self.screen.note(say("Stopped.", "멈췄습니다."))
            return
        if not shown.endswith("\n"):
            self.screen.answer("\n")
        self._after(last)

    def _after(self, last: Event) -> None:
        self.usage = last.usage
        if last.finish_reason == "length":
            self.screen.note(
                say(
                    "Stopped at the longest answer; /set max-tokens N allows more.",
                    "최대 길이에서 멈췄습니다. /set max-tokens N으로 늘릴 수 있습니다.",
                )
            )
        if last.finish_reason == "loop":
            self.screen.note(
                say(
                    "Stopped, as the answer went round in circles.",
                    "같은 말이 되풀이되어 멈췄습니다.",
                )
            )
        if last.finish_reason == "context":
            self.screen.note(
                say(
                    "The context is full; /clear begins anew, -c N makes it larger.",
                    "컨텍스트가 가득 찼습니다. /clear로 새로 시작하거나 -c N으로 늘리세요.",
                )
            )
        if self.settings.stats:
            self.screen.note(figures(last, self.n_ctx))


def figures(event: Event, n_ctx: int) -> str:
    """The figures of an answer on one line: tokens, tokens per second, context use."""
    usage = event.usage
    used = usage.prompt_tokens + usage.completion_tokens
    seconds = event.timings.generation_seconds if event.timings else 0.0
    # The first token comes with the prompt's last batch, so that its time is the prompt's.
    speed = max(usage.completion_tokens - 1, 0) / seconds if seconds else 0.0
    return say(
        f"prompt {usage.prompt_tokens} tokens ({usage.cached_tokens} reused), "
        f"answer {usage.completion_tokens} tokens, {speed:.1f} tokens/s, context {used}/{n_ctx}",
        f"프롬프트 {usage.prompt_tokens}토큰(재사용 {usage.cached_tokens}), "
        f"답 {usage.completion_tokens}토큰, 초당 {speed:.1f}토큰, 컨텍스트 {used}/{n_ctx}",
    )
