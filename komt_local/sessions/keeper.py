"""A dialogue that is kept while it goes on: what the chat talks to.

It passes everything on to the conversation, and writes down what came of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..types import Event, Message
from . import memory
from .journal import Journal, session_path

if TYPE_CHECKING:
    from ..model import Conversation, Model


class Keeper:
    """A conversation with a journal, or without one until `save` gives it a name.

    `note` is told, in English and in Korean, what could not be kept or found. For one thread.
    """

    def __init__(
        self,
        model: Model,
        conversation: Conversation,
        note: Callable[[str, str], None],
        *,
        quota: int = memory.DEFAULT_QUOTA,
    ) -> None:
        self._model, self._talk, self._note, self._quota = model, conversation, note, quota
        self._journal: Journal | None = None

    @property
    def name(self) -> str | None:
        """The session's name; None while nothing is kept."""
        return self._journal.name if self._journal else None

    @property
    def messages(self) -> Sequence[Message]:
        return self._talk.messages

    @property
    def system(self) -> str | None:
        return self._talk.system

    @system.setter
    def system(self, text: str | None) -> None:
        if self._journal and text != self._talk.system:
            self._journal.system(text)
        self._talk.system = text

    def stream(self, text: str, **options: Any) -> Iterator[Event]:
        return self._keeping(self._talk.stream(text, **options))

    def undo(self) -> str | None:
        text = self._talk.undo()
        if self._journal and text is not None:
            self._journal.undo()
        return text

    def clear(self) -> None:
        self._talk.clear()
        if self._journal:
            self._journal.clear()

    def open(self, name: str) -> bool:
        """Go on with the session of that name, or begin it; whether there was one.

        Raises UsageError and SessionError.
        """
        journal = Journal(session_path(name))
        said = journal.read()
        is_there = journal.path.exists()
        self.remember()
        journal.begin(self._model.path)
        self._journal = None
        self._talk.restore(said.turns, said.system or self._talk.system)
        if is_there:
            self._recall(journal.path)
        self._journal = journal
        if self._talk.system != said.system:
            journal.system(self._talk.system)
        return is_there

    def save(self, name: str | None = None) -> str | None:
        """Write everything down, under a new name if one is given; the name, None without any."""
        if name is not None and name != self.name:
            journal = Journal(session_path(name))
            journal.begin(self._model.path)
            self.remember()
            journal.clear()
            journal.system(self._talk.system)
            turns = self._talk.turns
            for question, answer in zip(turns[::2], turns[1::2], strict=True):
                journal.exchange(question.content, answer.content)
            self._journal = journal
        self.remember()
        return self.name

    def remember(self) -> None:
        """Save the memory beside the text, if the dialogue is kept and there is any."""
        if self._journal is None or not self._talk.turns:
            return
        path = _memory_of(self._journal.path)
        if not memory.save(self._model, self._talk.tokens(), path, self._quota):
            memory.drop(path)
            self._note(
                "The memory of this session is not kept (it is too large for the quota or the "
                "disk); its text is, and will be read again.",
                "이 세션의 메모리는 저장하지 않았습니다(할당량이나 디스크보다 큼). 글은 저장했고 "
                "다음에 다시 읽습니다.",
            )

    def _recall(self, path: Path) -> None:
        if memory.load(self._model, _memory_of(path)) == 0:
            memory.drop(_memory_of(path))
            self._note(
                "The saved memory of this session does not fit this model and these settings, or "
                "is damaged; the dialogue is read again.",
                "저장된 세션 메모리가 이 모델이나 설정과 맞지 않거나 손상되어 대화를 다시 "
                "읽습니다.",
            )

    def _keeping(self, answer: Iterator[Event]) -> Iterator[Event]:
        before = self._talk.n_said
        try:
            yield from answer
        finally:
            answer.close()  # type: ignore[attr-defined]
            if self._journal and self._talk.n_said > before:
                question, said = self._talk.turns[-2:]
                self._journal.exchange(question.content, said.content)


def _memory_of(path: Path) -> Path:
    return path.with_suffix(".kv")
