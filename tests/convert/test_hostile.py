"""Whatever stands in a checkpoint: a file or one sentence, in bounded time and memory, no code run.

The sample below runs every time; `-m slow` runs 2,000 cases.
"""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

from hostile_sources import make_sources
from komt_convert import convert
from komt_convert.errors import ConvertError, SourceError
from mutations import broken, nested

SECONDS, MEMORY = 20, 1 << 30
"""For a case that takes a tenth of a second and 20 MB when nothing is wrong."""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_sources(tmp_path_factory.mktemp("sources") / "whole")


@contextmanager
def bounds() -> Iterator[None]:
    """No more than SECONDS, and no more address space than there is now and MEMORY."""

    def too_slow(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"more than {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, too_slow)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def try_all(seeds: range, sources: dict[str, Path], folder: Path) -> dict[str, int]:
    """How often each thing happened: "made", or the name of an error."""
    happened: dict[str, int] = {}
    for seed in seeds:
        work = folder / str(seed)
        (work / "out").mkdir(parents=True)
        case = broken(sources, seed, work)
        what = f"{seed}: {case.source.name}/{case.file} {case.how}"
        try:
            with bounds():
                out = work / "out" / "o.gguf"
                convert(case.source, out, quant="F16", adapters=case.adapters, threads=1)
            outcome = "made"
        except ConvertError as error:
            outcome = type(error).__name__
            assert str(error) and error.ko, what
            assert not list((work / "out").iterdir()), what
        except BaseException as error:
            raise AssertionError(f"{what}: {error!r}") from error
        happened[outcome] = happened.get(outcome, 0) + 1
        for file in work.rglob("*.*"):
            file.unlink()
        assert not (next(iter(sources.values())).parent / "it ran").exists(), what
    return happened


@pytest.mark.parametrize("start", range(0, 60, 20))
def test_broken_checkpoints(start: int, sources: dict[str, Path], tmp_path: Path) -> None:
    happened = try_all(range(start, start + 20), sources, tmp_path)
    assert happened["SourceError"] >= 5


@pytest.mark.slow
@pytest.mark.parametrize("start", range(1000, 3000, 100))
def test_many_broken_checkpoints(start: int, sources: dict[str, Path], tmp_path: Path) -> None:
    happened = try_all(range(start, start + 100), sources, tmp_path)
    assert happened["SourceError"] >= 30


@pytest.mark.parametrize("kind", ["llama", "shards", "byte-level", "gpt-neox", "pickled", "ggml"])
def test_code_beside_a_whole_checkpoint_is_not_run(
    kind: str, sources: dict[str, Path], tmp_path: Path
) -> None:
    assert convert(sources[kind], tmp_path / "o.gguf", quant="F16").verified
    assert not (sources[kind].parent / "it ran").exists()


JSON_FILES = {
    "config.json": "byte-level",
    "generation_config.json": "byte-level",
    "tokenizer_config.json": "byte-level",
    "tokenizer.json": "byte-level",
    "model.safetensors.index.json": "shards",
}


@pytest.mark.parametrize("text", [nested(100_000), '{"a": ' * 100_000, "9" * 5000, '"\\ud800"', ""])
@pytest.mark.parametrize("name", JSON_FILES)
def test_json_that_breaks_parsers(
    name: str, text: str, sources: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in sources[JSON_FILES[name]].iterdir():
        if file.name != name:
            (folder / file.name).symlink_to(file)
    (folder / name).write_text(text, encoding="utf-8")
    with bounds(), pytest.raises(SourceError) as error:
        convert(folder, tmp_path / "o.gguf", threads=1)
    assert name in str(error.value)


@pytest.mark.parametrize(
    "name, start, words",
    [
        ("config.json", b'{"architectures": []}', "is not a JSON object"),
        ("tokenizer.model", b"\x0a\x00", "is no SentencePiece model"),
    ],
)
def test_a_file_that_is_absurdly_large(
    name: str, start: bytes, words: str, sources: dict[str, Path], tmp_path: Path
) -> None:
    """Most of it holes, as a download that went wrong leaves it."""
    folder = tmp_path / "model"
    folder.mkdir()
    for file in sources["llama"].iterdir():
        (folder / file.name).symlink_to(file)
    (folder / name).unlink()
    with (folder / name).open("wb") as large:
        large.write(start)
        large.truncate(1 << 32)
    with bounds(), pytest.raises(SourceError, match=words):
        convert(folder, tmp_path / "o.gguf", threads=1)
