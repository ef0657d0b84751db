"""Many threads at once on one model, for as long as one likes; what they saw is held to account.

The model says `two three one …` after `one`, and 한글 world after `Hello`, whatever stands before:
so every token of an answer is known, and one of another request would be seen. Run for longer:

    python tests/runtime/soak.py MINUTES
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from komt_local import Model
from komt_local.errors import ContextOverflow

THREADS = 8
CYCLES = {
    text: [f" {word}" for word in text.split()]
    for text in ("one two three", "red green blue", "north south west")
}
"""What the model repeats for ever once it has said the first word, a token each."""


@dataclass
class Tally:
    """What happened, and what should not have."""

    ended: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, reason: str, wrong: str = "") -> None:
        with self.lock:
            self.ended[reason] += 1
            if wrong:
                self.wrong.append(wrong)


def write_model(path: Path) -> Path:
    """Three circles of words that never meet."""
    from runtime_models import token_ids, write_chain

    circles = [token_ids(*(f"▁{word}" for word in text.split())) for text in CYCLES]
    return write_chain(path, [[*circle, circle[0]] for circle in circles])


def until(deadline: float) -> Iterator[None]:
    while time.monotonic() < deadline:
        yield


def work(model: Model, seed: int, rounds: Iterable[Any], tally: Tally) -> None:
    chance = random.Random(seed)
    for _ in rounds:
        words = chance.choice(list(CYCLES.values()))
        start = chance.randrange(3)
        length = chance.choice([1, 5, 40, 120])
        filler = " ".join(chance.choice(["red", "north", "one"]) for _ in range(length))
        match chance.randrange(10):
            case 0:
                overflow(model, tally)
            case 1:
                score(model, words, tally)
            case _:
                answer(model, f"{filler}{words[start]}", words, start, chance, tally)


def answer(
    model: Model, prompt: str, words: list[str], start: int, chance: random.Random, tally: Tally
) -> None:
    """Ask, listen to all of it or leave in the middle, and compare every piece."""
    limit = chance.choice([1, 2, 7, 30, None])
    leaves = chance.choice(["before", "in the middle", "never", "never"])
    stop = chance.choice([(), (), (words[(start + 2) % 3] + words[start],)])
    stream = model.stream_completion(
        prompt, temperature=0, max_tokens=limit, stop=stop, stop_loops=False
    )
    if leaves == "before":
        stream.cancel()
    said, reason, n_tokens = "", "left", 0
    for event in stream:
        said += event.text
        n_tokens = event.usage.completion_tokens
        reason = event.finish_reason or reason
        if leaves == "in the middle" and said:
            stream.close()
    expected = islice(cycle([words[(start + n) % 3] for n in (1, 2, 3)]), n_tokens + 1)
    is_right = "".join(expected).startswith(said)
    is_whole = reason != "length" or n_tokens == limit
    tally.note(reason, "" if is_right and is_whole else f"{prompt[-20:]!r} {reason}: {said[:80]!r}")


def overflow(model: Model, tally: Tally) -> None:
    try:
        model.complete("one " * 2000, temperature=0)
        tally.note("overflow", "a prompt beyond the context was taken")
    except ContextOverflow:
        tally.note("overflow")


def score(model: Model, words: list[str], tally: Tally) -> None:
    found = model.score_completion(words[0], words[1] + words[2] + words[0])
    tally.note("score", "" if found.is_likeliest else f"{words} scored {found}")


def soak(path: Path, *, rounds: int = 0, seconds: float = 0, **options: int) -> Tally:
    """Let the threads loose on the model, for so many rounds each or for so long.

    Raises what one of them raised.
    """
    tally, errors, deadline = Tally(), [], time.monotonic() + seconds

    def guarded(model: Model, seed: int) -> None:
        try:
            work(model, seed, range(rounds) if rounds else until(deadline), tally)
        except BaseException as error:
            errors.append(error)

    with Model.load(path, n_ctx=256, threads=1, **options) as model:
        threads = [threading.Thread(target=guarded, args=(model, n)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert model.complete("one", temperature=0, max_tokens=3).text == " two three one"
    if errors:
        raise errors[0]
    return tally


def main() -> None:
    import psutil

    minutes = float(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        path = write_model(Path(folder) / "model.gguf")
        for part in range(10):
            tally = soak(path, seconds=minutes * 6, n_slots=3, draft=4 * (part % 2))
            rss = psutil.Process().memory_info().rss / 2**20
            sys.stdout.write(f"{rss:8.1f} MiB  {dict(tally.ended)}  wrong: {tally.wrong[:3]}\n")


if __name__ == "__main__":
    main()
