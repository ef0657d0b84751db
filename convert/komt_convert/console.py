"""What a conversion shows in a terminal: a progress bar, a summary, in English or in Korean.

For `python -m komt_convert` and for whoever wraps it. rich is imported when a bar is shown.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from komt_convert.report import OnProgress, Progress, Report, TensorErrors

_DECIDED = {
    "pre-tokenizer": "사전 토크나이저",
    "end token": "끝 토큰",
    "end of turn": "차례 끝 토큰",
    "chat template": "대화 템플릿",
    "tensor types": "텐서 타입",
    "importance matrix": "중요도 행렬",
}
"""What `decisions` decides, in Korean."""

_STAGES = {"write": ("Converting", "변환"), "verify": ("Verifying", "검증")}


def speaks_korean(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the locale of the environment is Korean, by POSIX precedence."""
    names = (environment.get(key) for key in ("LC_ALL", "LC_MESSAGES", "LANG"))
    return next((name for name in names if name), "").startswith("ko")


@contextmanager
def progress_bar(
    stream: IO[str], *, korean: bool = False, hidden: bool = False
) -> Iterator[OnProgress]:
    """A bar with rate and remaining time on `stream`; nothing is shown when that is no terminal."""
    if hidden or not stream.isatty():
        yield lambda progress: None
        return
    from rich import progress as rich_progress
    from rich.console import Console

    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.DownloadColumn(binary_units=True),
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
    """A few lines about a finished conversion, without its warnings."""

    def say(en: str, ko: str) -> str:
        return ko if korean else en

    return "\n".join([str(report.out), *(f"  {line}" for line in _facts(report, say))])


def _facts(report: Report, say: Callable[[str, str], str]) -> Iterator[str]:
    sizes = f"{size(report.source_bytes)} → {size(report.out_bytes)}"
    bits, memory = f"{report.bits_per_weight:.2f}", size(report.peak_memory_bytes)
    yield f"{report.file_type}, {sizes}, " + say(f"{bits} bits per weight", f"가중치당 {bits}비트")
    yield say(
        f"{report.seconds:.1f} s, peak memory {memory}",
        f"{report.seconds:.1f}초, 최대 메모리 {memory}",
    )
    if report.kernels:
        made_by = ", ".join(f"{type_} {maker}" for type_, maker in report.kernels.items())
        yield say(f"kernels: {made_by}", f"커널: {made_by}")
    for decision in report.decisions:
        what, value = say(decision.what, _DECIDED[decision.what]), decision.value
        shown = f"{what} {value}" if value and len(value) < 40 else what
        yield f"{shown}: {say(decision.en, decision.ko)}"
    if not report.verified:
        yield say("not verified", "검증하지 않음")
        return
    yield from _proof(report, say)


def _proof(report: Report, say: Callable[[str, str], str]) -> Iterator[str]:
    ids, texts = f"{report.tokens_compared:,}", f"{report.texts_compared:,}"
    yield say(
        f"{ids} token ids in {texts} texts equal the source tokenizer's",
        f"글 {texts}개의 토큰 {ids}개가 원본 토크나이저와 같음",
    )
    yield from (say(*largest_error(error)) for error in report.errors)
    n_known = sum(file.sha256 is not None for file in report.source_files)
    yield say(
        f"sha256 {report.sha256}, and those of {n_known} source files in the report",
        f"sha256 {report.sha256}, 원본 파일 {n_known}개의 값은 보고서에 있음",
    )


def size(n_bytes: float) -> str:
    """A number of bytes for people, in powers of 1024."""
    for unit in ("B", "KiB", "MiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.2f} GiB"


def largest_error(error: TensorErrors) -> tuple[str, str]:
    """How far the tensors of a type are from their source, in English and Korean."""
    largest = f"{error.relative:.2%} ({error.worst})" if error.relative else "0"
    return (
        f"{error.n_tensors} tensors of {error.type}: largest error {largest}",
        f"{error.type} 텐서 {error.n_tensors}개: 가장 큰 오차 {largest}",
    )
