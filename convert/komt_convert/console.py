"""What a conversion shows in a terminal: a progress bar, a summary, in English or in Korean.

For `python -m komt_convert` and for whoever wraps it. rich is imported when a bar is shown.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from komt_convert.report import OnProgress, Progress, Report

_STAGES = {"write": ("Converting", "변환"), "verify": ("Verifying", "검증")}


def speaks_korean(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the locale of the environment is Korean, by POSIX precedence."""
    names = (environment.get(key) for key in ("LC_ALL", "LC_MESSAGES", "LANG"))
    return next((name for name in names if name), "").startswith("ko")


@contextmanager
def progress_bar(stream: IO[str], *, korean: bool = False) -> Iterator[OnProgress | None]:
    """A bar with rate and remaining time on `stream`; None when that is no terminal."""
    if not stream.isatty():
        yield None
        return
    from rich import progress as rich_progress
    from rich.console import Console

    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.DownloadColumn(),
        rich_progress.TransferSpeedColumn(),
        rich_progress.TimeRemainingColumn(),
    )
    with rich_progress.Progress(*columns, console=Console(file=stream), transient=True) as bar:
        tasks: dict[str, rich_progress.TaskID] = {}

        def show(progress: Progress) -> None:
            if progress.stage not in tasks:
                description = _STAGES[progress.stage][korean]
                tasks[progress.stage] = bar.add_task(description, total=progress.total)
            bar.update(tasks[progress.stage], completed=progress.done)

        yield show


def summary(report: Report, *, korean: bool = False) -> str:
    """A few lines about a finished conversion."""
    sizes = f"{_size(report.source_bytes)} → {_size(report.out_bytes)}"
    bits, seconds = f"{report.bits_per_weight:.2f}", f"{report.seconds:,.1f}"
    memory = _size(report.peak_memory_bytes)
    if korean:
        proof = (
            f"토큰 {report.tokens_compared:,}개와 텐서 {report.n_tensors:,}개가 원본과 같습니다."
        )
        lines = [
            f"{report.out} ({report.file_type}, 가중치당 {bits}비트)",
            f"{sizes}, {seconds}초, 최대 메모리 {memory}",
            f"{proof} SHA-256 {report.sha256}" if report.verified else "검증하지 않았습니다.",
        ]
    else:
        proof = f"{report.tokens_compared:,} token ids and {report.n_tensors:,} tensors agree."
        lines = [
            f"{report.out} ({report.file_type}, {bits} bits per weight)",
            f"{sizes} in {seconds} s, peak memory {memory}",
            f"{proof} SHA-256 {report.sha256}" if report.verified else "Not verified.",
        ]
    return "\n".join(lines + [warning[korean] for warning in report.warnings])


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:,.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:,.1f} MB"
