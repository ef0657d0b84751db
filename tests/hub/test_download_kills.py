"""A download that is killed, and the next run: through the command line, with real processes."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest
from hub_program import Program
from hub_server import LoopbackHub, Repo, sha256

NAME = "org/tiny-GGUF"
FILE = "tiny-F16.gguf"


def kill_once(
    server: LoopbackHub, program: Program, *, after: int, partial: Path
) -> tuple[int, int]:
    """Pull, and kill the process when the server has sent so many bytes more.

    Returns the size of the partial file before and after.
    """
    before = partial.stat().st_size if partial.exists() else 0
    goal = server.sent() + after
    process = program.start("pull", NAME, "--quiet")
    server.on_sent = lambda sent: process.kill() if sent >= goal else None
    process.communicate(timeout=60)
    server.on_sent = lambda sent: None
    assert process.returncode != 0, "the process was to be killed before it was done"
    return before, partial.stat().st_size if partial.exists() else 0


def survive(server: LoopbackHub, program: Program, content: bytes, kills: int, seed: int) -> None:
    """Kill the download so often at random moments, then let it end; nothing comes twice."""
    server.repos[NAME] = Repo({FILE: content})
    server.seconds_per_block = 0.0005
    partial = program.cache / "models--org--tiny-GGUF" / "blobs" / f"{sha256(content)}.incomplete"
    numbers = random.Random(seed)
    for left in range(kills, 0, -1):
        size = partial.stat().st_size if partial.exists() else 0
        after = numbers.randrange(1, 2 * (len(content) - size) // (left + 2))
        n_asked = len(server.bodies())
        before, after_kill = kill_once(server, program, after=after, partial=partial)
        assert after_kill >= before
        # What the server still sends to the dead may kill the next one before it asks.
        assert all(body.start == before for body in server.bodies()[n_asked:])
        assert partial.read_bytes() == content[:after_kill]
    kept = partial.stat().st_size
    sent = server.sent()
    done = program.run("pull", NAME, "--quiet")
    assert done.returncode == 0, done.stderr
    assert server.sent() - sent == len(content) - kept
    path = Path(done.stdout.strip())
    assert sha256(path.read_bytes()) == sha256(content)
    assert not partial.exists()


def test_ten_kills(server: LoopbackHub, program: Program, tiny_gguf: Path) -> None:
    survive(server, program, tiny_gguf.read_bytes(), kills=10, seed=10)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_a_hundred_kills(server: LoopbackHub, program: Program, tiny_gguf: Path, seed: int) -> None:
    survive(server, program, tiny_gguf.read_bytes(), kills=10, seed=100 + seed)


def test_two_processes_pull_the_same_file(
    server: LoopbackHub, program: Program, tiny_gguf: Path
) -> None:
    content = tiny_gguf.read_bytes()
    server.repos[NAME] = Repo({FILE: content})
    server.seconds_per_block = 0.002
    processes = [program.start("pull", NAME, "--quiet") for _ in range(2)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    assert Path(outputs[0][0].strip()).read_bytes() == content
    assert server.sent() == len(content)


def test_the_second_goes_on_when_the_first_is_killed(
    server: LoopbackHub, program: Program, tiny_gguf: Path
) -> None:
    content = tiny_gguf.read_bytes()
    server.repos[NAME] = Repo({FILE: content})
    server.seconds_per_block = 0.002
    first = program.start("pull", NAME, "--quiet")
    second = None

    def interfere(sent: int) -> None:
        nonlocal second
        if second is None and sent > len(content) // 4:
            second = program.start("pull", NAME, "--quiet")
        if sent > 2 * len(content) // 3:
            first.kill()

    server.on_sent = interfere
    first.communicate(timeout=60)
    server.on_sent = lambda sent: None
    assert second is not None
    out, err = second.communicate(timeout=60)
    assert second.returncode == 0, err
    assert Path(out.strip()).read_bytes() == content
    assert [request.start > 0 for request in server.bodies()] == [False, True]


def test_ctrl_c_leaves_what_came_and_says_so(
    server: LoopbackHub, program: Program, tiny_gguf: Path
) -> None:
    content = tiny_gguf.read_bytes()
    server.repos[NAME] = Repo({FILE: content})
    server.seconds_per_block = 0.002
    process = program.start("pull", NAME)
    sent_once = iter([True])
    server.on_sent = lambda sent: (
        process.send_signal(signal.SIGINT)
        if sent > len(content) // 2 and next(sent_once, False)
        else None
    )
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on" in err and "Traceback" not in err
    (partial,) = program.cache.rglob("*.incomplete")
    assert partial.read_bytes() == content[: partial.stat().st_size]
    assert program.run("pull", NAME, "--quiet").returncode == 0
    assert server.bodies()[-1].start > 0
