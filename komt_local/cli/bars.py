"""Bars on stderr for downloads and conversions: rate and remaining time, on a terminal only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..language import say

OnStep = Callable[[str, str, int, int], None]
"""Called with a stage, what it works on, the bytes that are done, and all bytes."""


def _labels() -> dict[str, str]:
    return {
        "wait": say("Waiting for another process", "다른 프로세스를 기다리는 중"),
        "check": say("Checking", "확인"),
        "download": say("Downloading", "받는 중"),
        "write": say("Converting", "변환"),
        "verify": say("Verifying", "검증"),
    }


@contextmanager
def bars(*, hidden: bool) -> Iterator[OnStep]:
    """One bar for each stage of each file; nothing at all when hidden or not on a terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    labels = _labels()
    off = hidden or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=off) as progress:
        tasks: dict[tuple[str, str], Any] = {}

        def step(stage: str, what: str, done: int, total: int) -> None:
            key = (stage, what)
            if key not in tasks:
                label = f"{labels.get(stage, stage)} {what}".strip()
                tasks[key] = progress.add_task(label, total=total, completed=done)
            progress.update(tasks[key], completed=done)

        yield step
