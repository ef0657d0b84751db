"""The same model for asyncio: nothing blocks the loop, and nothing is decided anew.

Each answer has a thread that does nothing but wait for the engine and pass its events on.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..types import Answer, Event, Score
from .adapters import AdapterSource
from .answers import fold
from .api import Model
from .asked import Messages
from .stream import Stream


class AsyncModel:
    """A `Model` whose answers are awaited; `model` is the model itself. For one event loop.

    Methods, their options and their errors are those of `Model`.
    """

    def __init__(self, model: Model) -> None:
        self.model = model

    @classmethod
    async def load(cls, reference: str | Path | None = None, **options: Any) -> Self:
        return cls(await asyncio.to_thread(Model.load, reference, **options))

    def stream(self, messages: Messages, **options: Any) -> AsyncGenerator[Event, None]:
        """The events of an answer; closing the iterator, or its task's end, cancels it."""
        return _pump(self.model.stream(messages, **options))

    def stream_completion(self, text: str, **options: Any) -> AsyncGenerator[Event, None]:
        return _pump(self.model.stream_completion(text, **options))

    async def chat(self, messages: Messages, **options: Any) -> Answer:
        return fold([event async for event in self.stream(messages, **options)])

    async def complete(self, text: str, **options: Any) -> Answer:
        return fold([event async for event in self.stream_completion(text, **options)])

    async def score(self, messages: Messages, answer: str, **form: Any) -> Score:
        return await asyncio.to_thread(self.model.score, messages, answer, **form)

    async def score_completion(self, text: str, continuation: str) -> Score:
        return await asyncio.to_thread(self.model.score_completion, text, continuation)

    async def set_adapters(self, adapters: list[AdapterSource]) -> None:
        await asyncio.to_thread(self.model.set_adapters, adapters)

    async def close(self) -> None:
        await asyncio.to_thread(self.model.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.close()


async def _pump(stream: Stream) -> AsyncGenerator[Event, None]:
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[Event | BaseException | None] = asyncio.Queue()
    gone = threading.Event()

    def tell(item: Event | BaseException | None) -> None:
        with suppress(RuntimeError):  # the loop was closed meanwhile
            if not gone.is_set():
                loop.call_soon_threadsafe(arrived.put_nowait, item)

    def work() -> None:
        try:
            for event in stream:
                tell(event)
            tell(None)
        except BaseException as error:
            tell(error)

    threading.Thread(target=work, name="komt-local answer", daemon=True).start()
    try:
        while (item := await arrived.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        gone.set()
        stream.cancel()
