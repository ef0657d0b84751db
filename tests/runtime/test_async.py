"""The model under asyncio: many answers at once, and none that runs on unheard."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from komt_local import AsyncModel
from komt_local.errors import Closed, ContextOverflow, UsageError

OPTIONS: dict[str, Any] = {"n_ctx": 1 << 12, "n_slots": 2, "template": "komt"}


def with_model(path: Path, work: Callable[[AsyncModel], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        async with await AsyncModel.load(path, **(OPTIONS | options)) as model:
            await work(model)

    asyncio.run(main())
    waiting = [t for t in threading.enumerate() if t.name == "komt-local answer"]
    for thread in waiting:
        thread.join(10)
        assert not thread.is_alive()


def test_answers_are_those_of_the_model(chain_gguf: Path) -> None:
    async def work(model: AsyncModel) -> None:
        stream = model.stream_completion("Hello", temperature=0)
        events = [event async for event in stream]
        assert [event.text for event in events] == ["한", "글", " world", ""]
        answers = await asyncio.gather(
            *(model.complete(text, temperature=0, max_tokens=6) for text in ("Hello", "one") * 8)
        )
        assert {answer.text for answer in answers[::2]} == {"한글"}
        assert {answer.text for answer in answers[1::2]} == {" two three one two three one"}
        same = model.model.chat("안녕", temperature=0, max_tokens=8)
        assert (await model.chat("안녕", temperature=0, max_tokens=8)).text == same.text
        score = await model.score_completion("Hello", " world")
        assert score == model.model.score_completion("Hello", " world")
        assert await model.score("안녕", "네") == model.model.score("안녕", "네")

    with_model(chain_gguf, work)


def test_the_loop_goes_on_while_an_answer_comes(chain_gguf: Path) -> None:
    async def work(model: AsyncModel) -> None:
        ticks = 0
        answer = asyncio.create_task(model.complete("one", temperature=0, max_tokens=2000))
        while not answer.done():
            await asyncio.sleep(0.001)
            ticks += 1
        assert ticks > 5 and (await answer).usage.completion_tokens == 2000

    with_model(chain_gguf, work)


def test_an_endless_answer_ends_with_whoever_listens(chain_gguf: Path) -> None:
    async def listen(model: AsyncModel) -> None:
        async for _ in model.stream_completion("one", temperature=0):
            pass

    async def work(model: AsyncModel) -> None:
        stream = model.stream_completion("one", temperature=0)
        await anext(stream)
        await stream.aclose()
        tasks = [asyncio.create_task(listen(model)) for _ in range(5)]
        await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (await model.complete("Hello", temperature=0)).text == "한글 world"

    with_model(chain_gguf, work, n_ctx=1 << 18, n_slots=1)


def test_errors_arrive_where_the_answer_is_awaited(chain_gguf: Path) -> None:
    async def work(model: AsyncModel) -> None:
        with pytest.raises(UsageError):
            await model.chat("안녕", temperature=-1)
        with pytest.raises(ContextOverflow):
            await model.chat("가" * 9000)
        await model.close()
        with pytest.raises(Closed):
            await model.chat("안녕")

    with_model(chain_gguf, work)
