"""A dialogue that remembers what was said, over a model that does not.

It keeps messages and decides which of them are sent: by default all of them, or the last one alone
where the template was trained on single turns. It knows no tokens but their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from ..errors import ContextOverflow, UsageError
from ..types import Answer, Event, Message
from .answers import fold

if TYPE_CHECKING:
    from .api import Model

Overflow = Literal["refuse", "drop-oldest"]


class Conversation:
    """Questions and answers, kept.

    `system` may be changed between turns. `history` says whether earlier turns are sent; None
    does as the template was trained. When the prompt leaves too little room, `on_overflow` either
    refuses with ContextOverflow or forgets the oldest exchanges; `dropped` counts these, and
    `on_drop` is called with their messages. For one thread.
    """

    def __init__(
        self,
        model: Model,
        system: str | None = None,
        *,
        history: bool | None = None,
        on_overflow: Overflow = "drop-oldest",
        on_drop: Callable[[Sequence[Message]], None] | None = None,
        **options: Any,
    ) -> None:
        if on_overflow not in ("refuse", "drop-oldest"):
            raise UsageError(
                f"on_overflow is {on_overflow!r}; give 'refuse' or 'drop-oldest'.",
                f"on_overflow 값이 {on_overflow!r}입니다. 'refuse'나 'drop-oldest'를 주세요.",
            )
        self.system = system
        self.dropped = 0
        self.n_said = 0
        self._model, self._options = model, options
        self._history, self._on_overflow, self._on_drop = history, on_overflow, on_drop
        self._turns: list[Message] = []

    @property
    def messages(self) -> tuple[Message, ...]:
        """Everything that is remembered, the system message first."""
        return (*self._system_message(), *self._turns)

    @property
    def turns(self) -> tuple[Message, ...]:
        """What was said, without the system message: questions and answers in turn."""
        return tuple(self._turns)

    def restore(self, turns: Sequence[Message], system: str | None) -> None:
        """Go on from another dialogue: questions and answers in turn."""
        self.system, self._turns, self.dropped = system, list(turns), 0

    def tokens(self) -> list[int]:
        """The prompt that a next question would begin with, as far as it is sent."""
        options = self._options
        earlier = self._turns if self._sends_history(options.get("template")) else []
        prompt = [*self._system_message(), *earlier, Message("user", "?")]
        return self._model.prompt_tokens(prompt, **_form(options))

    def say(self, text: str, **options: Any) -> Answer:
        """The whole answer to the next thing said; options as for `Model.stream`."""
        return fold(self.stream(text, **options))

    def stream(self, text: str, **options: Any) -> Iterator[Event]:
        """Say something and have the answer come; what came of it is remembered, if anything.

        Raises as `Model.stream` does, before anything is forgotten or runs.
        """
        options = self._options | options
        question = Message("user", text)
        prompt = self._fit(question, options)
        return self._remember(question, self._model.stream(prompt, **options))

    def undo(self) -> str | None:
        """Forget the last exchange; what was said in it, None if there was nothing."""
        if not self._turns:
            return None
        question, _ = self._turns[-2:]
        del self._turns[-2:]
        return question.content

    def clear(self) -> None:
        """Forget every exchange; the system message stays."""
        self._turns.clear()

    def _remember(self, question: Message, answer: Iterator[Event]) -> Iterator[Event]:
        texts: list[str] = []
        ended = False
        try:
            for event in answer:
                texts.append(event.text)
                ended = event.finish_reason not in (None, "cancelled")
                yield event
        finally:
            answer.close()  # type: ignore[attr-defined]
            said = "".join(texts)
            if said or ended:
                self._turns += [question, Message("assistant", said)]
                self.n_said += 1

    def _fit(self, question: Message, options: dict[str, Any]) -> list[Message]:
        """The messages to send, the oldest exchanges dropped as far as they must be."""
        sends_history = self._sends_history(options.get("template"))
        n_dropped = 0
        while True:
            earlier = self._turns[n_dropped:] if sends_history else []
            prompt = [*self._system_message(), *earlier, question]
            n_tokens = self._count(prompt, options)
            if n_tokens <= self._limit(options) or not earlier or self._on_overflow == "refuse":
                break
            n_dropped += 2
        if n_tokens > self._model.n_ctx:
            raise ContextOverflow(n_tokens, self._model.n_ctx)
        self._drop(n_dropped)
        return prompt

    def _limit(self, options: dict[str, Any]) -> int:
        """Tokens of prompt; dropping leaves the answer a quarter of the context, if it needs it."""
        n_ctx = self._model.n_ctx
        return n_ctx - min(options.get("max_tokens") or n_ctx, n_ctx // 4)

    def _count(self, prompt: Sequence[Message], options: dict[str, Any]) -> int:
        return len(self._model.prompt_tokens(prompt, **_form(options)))

    def _drop(self, n_messages: int) -> None:
        if not n_messages:
            return
        forgotten = self._turns[:n_messages]
        del self._turns[:n_messages]
        self.dropped += n_messages // 2
        if self._on_drop:
            self._on_drop(forgotten)

    def _sends_history(self, template: str | None) -> bool:
        if self._history is not None:
            return self._history
        return not self._model.choose_template(template).single_turn

    def _system_message(self) -> list[Message]:
        return [Message("system", self.system)] if self.system else []


def _form(options: dict[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in ("template", "context") if name in options}
