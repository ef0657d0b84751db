"""A file appears whole or not at all: what is refused before, and what happens in the middle."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from komt_convert.errors import OutputError
from komt_convert.output import refuse_full_disk, refuse_target, replacing

HOLD = """
import os, signal, sys
from pathlib import Path
from komt_convert.output import replacing
with replacing(Path(sys.argv[1]), force=True) as output:
    output.write_at(0, b"half")
    print("open", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


def partial_files(target: Path) -> list[str]:
    return [path.name for path in target.parent.iterdir() if path != target]


# --- refused before any work ---------------------------------------------------------------------


def test_a_target_that_exists_needs_force(target: Path) -> None:
    target.write_bytes(b"precious")
    with pytest.raises(OutputError, match=r"model.gguf exists already.*--force") as caught:
        refuse_target(target, force=False)
    assert "--force" in caught.value.ko
    refuse_target(target, force=True)


def test_a_link_to_nothing_exists_too(target: Path) -> None:
    target.symlink_to(target.parent / "nowhere")
    with pytest.raises(OutputError, match="exists already"):
        refuse_target(target, force=False)


def test_a_folder_is_no_target(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        refuse_target(tmp_path, force=True)


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="There is no folder .*absent"):
        refuse_target(tmp_path / "absent" / "model.gguf", force=False)


def test_a_folder_that_cannot_be_written_to(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match="cannot be written to"):
        refuse_target(target, force=False)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_what_is_no_regular_file_is_not_replaced(target: Path) -> None:
    os.mkfifo(target)
    with pytest.raises(OutputError, match="not a regular file"):
        refuse_target(target, force=True)


def test_a_full_disk_is_noticed_before(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(9e9, 5e9, 4_000_000_000))
    refuse_full_disk(target, 4_000_000_000)
    with pytest.raises(OutputError, match=r"takes 4.10 GB and its disk has 4.00 GB") as caught:
        refuse_full_disk(target, 4_100_000_000)
    assert "4.10 GB" in caught.value.ko


# --- whole or not at all -------------------------------------------------------------------------


def test_nothing_has_the_name_before_all_is_there(target: Path) -> None:
    with replacing(target, force=False) as output:
        output.resize(8)
        output.write_at(4, b"last")
        output.write_at(0, b"frst")
        assert not target.exists()
        assert partial_files(target) == [f".model.gguf.{os.getpid()}.partial"]
        output.commit()
        assert target.read_bytes() == b"frstlast"
    assert partial_files(target) == []


def test_what_is_not_committed_is_removed(target: Path) -> None:
    with replacing(target, force=False) as output:
        output.write_at(0, b"half")
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_the_old_file(error: type[BaseException], target: Path) -> None:
    target.write_bytes(b"old")
    with pytest.raises(error), replacing(target, force=True) as output:
        output.write_at(0, b"half")
        raise error
    assert target.read_bytes() == b"old"
    assert partial_files(target) == []


def test_force_replaces(target: Path) -> None:
    target.write_bytes(b"old and longer")
    with replacing(target, force=True) as output:
        output.write_at(0, b"new")
        output.commit()
    assert target.read_bytes() == b"new"


def test_a_file_that_appears_meanwhile_is_not_replaced(target: Path) -> None:
    with (
        pytest.raises(OutputError, match="exists already"),
        replacing(target, force=False) as output,
    ):
        target.write_bytes(b"of someone else")
        output.commit()
    assert target.read_bytes() == b"of someone else"
    assert partial_files(target) == []


@pytest.mark.parametrize("call", ["pwrite", "fsync", "replace", "ftruncate"])
@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "disk is full"), (errno.EIO, "could not be written")]
)
def test_the_system_fails_in_the_middle(
    call: str, number: int, words: str, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail, raising=False)
    with pytest.raises(OutputError, match=words), replacing(target, force=False) as output:
        output.resize(8)
        output.write_at(0, b"12345678")
        output.commit()
    monkeypatch.undo()
    assert list(target.parent.iterdir()) == []


def test_an_error_of_the_disk_is_not_lost_when_it_begins_early(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system tells of it once; the second time all looks well."""
    answers = [OSError(errno.EIO, "Input/output error")]

    def fail_once(descriptor: int) -> None:
        if answers:
            raise answers.pop()

    monkeypatch.setattr(os, "fsync", fail_once)
    with (
        pytest.raises(OutputError, match="Input/output error"),
        replacing(target, force=False) as output,
    ):
        output.write_at(0, b"12345678")
        output.begin_sync()
        output.commit()
    assert list(target.parent.iterdir()) == []


def test_what_is_outdated_goes_before_the_new_file_comes(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = target.with_name("about.txt")
    seen: list[bool] = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *a: (seen.append(about.exists()), replace(*a)))
    for _ in range(2):
        about.write_bytes(b"old")
        with replacing(target, force=True) as output:
            output.begin_sync()
            output.commit(outdated=about)
    assert seen == [False, False] and partial_files(target) == []


def test_a_write_that_takes_a_part_is_continued(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:3], offset))
    with replacing(target, force=False) as output:
        output.write_at(2, b"0123456789")
        output.commit()
    assert target.read_bytes() == b"\0\x000123456789"


def test_systems_without_pwrite(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pwrite")
    with replacing(target, force=False) as output:
        output.write_at(4, b"last")
        output.write_at(0, b"frst")
        output.commit()
    assert target.read_bytes() == b"frstlast"


def test_two_writers_of_one_target_in_one_process(target: Path) -> None:
    with replacing(target, force=False) as output:
        output.write_at(0, b"first")
        with pytest.raises(OutputError), replacing(target, force=False):
            pass
        output.commit()
    assert target.read_bytes() == b"first"


@pytest.mark.skipif(sys.platform == "win32", reason="a killed process is another there")
def test_what_a_killed_process_left_is_cleared_and_that_of_a_living_one_is_not(
    target: Path,
) -> None:
    command = [sys.executable, "-c", HOLD, str(target)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"open\n"
        left = f".model.gguf.{process.pid}.partial"
        assert partial_files(target) == [left]
        with replacing(target, force=False):
            assert left in partial_files(target)
        process.kill()
        process.wait()
    assert partial_files(target) == [left]
    other = target.with_name(".model.gguf.old.partial")
    other.write_bytes(b"of another program")
    with replacing(target, force=False):
        assert left not in partial_files(target)
    assert partial_files(target) == [other.name]
