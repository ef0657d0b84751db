"""Broken checkpoints: copies of whole ones in which one file was changed, the same for each seed.

    case = broken(sources, seed, folder)      what was changed, and the arguments of `convert`

JSON is changed by its meaning (a value, a key, a duplicate), the header of safetensors too, and
everything by its bytes (flipped, cut, doubled, filled in).
"""

from __future__ import annotations

import json
import random
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    3,
    2**31,
    2**32 - 1,
    2**63,
    10**400,
    0.0,
    -0.5,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "0",
    "a" * 70_000,
    "../../etc/passwd",
    "/dev/zero",
    "\0",
    "가\ud800",
    "<0x0A>",
    "<s>",
    [],
    [[]],
    {},
    {"": None},
    [0] * 10_000,
    list(range(300)),
)


@dataclass(frozen=True)
class Broken:
    """`file` was changed in the way that `how` names; `adapters` are merged."""

    source: Path
    file: str
    how: str
    adapters: tuple[tuple[Path, float], ...] = ()


def broken(sources: dict[str, Path], seed: int, folder: Path) -> Broken:
    """A copy of one of `sources` in `folder`, with one change; `adapter` belongs to `llama`."""
    rng = random.Random(seed)
    name = rng.choice(sorted(sources))
    copy = _copy(sources[name], folder / name)
    if copy.is_file():
        return Broken(copy, copy.name, change_bytes(copy, rng, start=40_000))
    files = sorted(file for file in copy.iterdir() if file.suffix != ".py")
    file = rng.choice(files)
    how = change(file, rng)
    if name == "adapter":
        return Broken(sources["llama"], file.name, how, ((copy, 1.0),))
    return Broken(copy, file.name, how)


def _copy(source: Path, target: Path) -> Path:
    if source.is_file():
        target.write_bytes(source.read_bytes())
        return target
    target.mkdir()
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def change(file: Path, rng: random.Random) -> str:
    if file.suffix == ".json" and rng.random() < 0.8:
        value = json.loads(file.read_text(encoding="utf-8"))
        value, how = change_value(value, rng)
        file.write_text(dumps(value), encoding="utf-8")
        return how
    if file.suffix == ".safetensors" and rng.random() < 0.8:
        raw = file.read_bytes()
        (length,) = struct.unpack("<Q", raw[:8])
        value, how = change_value(json.loads(raw[8 : 8 + length]), rng)
        header = dumps(value).encode()
        file.write_bytes(struct.pack("<Q", len(header)) + header + raw[8 + length :])
        return how
    return change_bytes(file, rng)


def dumps(value: Any) -> str:
    """JSON as Python writes and reads it, NaN among it; half a surrogate pair is escaped."""
    return json.dumps(value)


def change_value(value: Any, rng: random.Random) -> tuple[Any, str]:
    """The value with one change somewhere in it, and what it was."""
    path: list[Any] = []
    inner = value
    while isinstance(inner, dict | list) and inner and (not path or rng.random() < 0.8):
        key = rng.choice(list(inner)) if isinstance(inner, dict) else rng.randrange(len(inner))
        path.append(key)
        inner = inner[key]
    if not path:
        return rng.choice(ODD), "everything"
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    where = "/".join(str(key)[:40] for key in path)
    match rng.randrange(6):
        case 0:
            del holder[path[-1]]
            return value, f"without {where}"
        case 1 if isinstance(holder, dict):
            other = rng.choice(list(holder))
            holder[path[-1]] = holder[other]
            return value, f"{where} as {other}"[:200]
        case 2 if isinstance(holder, dict):
            holder[f"{path[-1]}x"] = holder.pop(path[-1])
            return value, f"{where} renamed"
        case 3 if isinstance(inner, int | float) and not isinstance(inner, bool):
            holder[path[-1]] = rng.choice((inner + 1, inner - 1, -inner, inner * 2, str(inner)))
            return value, f"{where} nearly"
        case _:
            odd = rng.choice(ODD)
            holder[path[-1]] = odd
            return value, f"{where} = {odd!r}"[:200]


def change_bytes(file: Path, rng: random.Random, start: int = 1 << 62) -> str:
    """Change bytes of a file, those before `start` if that is given."""
    raw = bytearray(file.read_bytes())
    end = max(1, min(len(raw), start))
    at = rng.randrange(end)
    match rng.randrange(5):
        case 0:
            del raw[at:]
            how = f"cut at {at}"
        case 1:
            for _ in range(rng.randrange(1, 9)):
                at = rng.randrange(end)
                raw[at : at + 1] = bytes([rng.randrange(256)])
            how = f"bytes around {at}"
        case 2:
            raw[at : at + 4] = rng.choice((b"\xff" * 4, bytes(4), b"\xff\xff\xff\x7f"))
            how = f"number at {at}"
        case 3:
            raw[at:at] = raw[: rng.randrange(1, 100)]
            how = f"inserted at {at}"
        case _:
            raw[at : at + rng.randrange(1, 64)] = b""
            how = f"removed at {at}"
    file.write_bytes(raw)
    return how


def nested(depth: int) -> str:
    """JSON that is deeper than any stack."""
    return "[" * depth + "]" * depth
