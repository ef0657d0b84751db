"""The GGUF files of one repository as what they are to a user: one model in several types.

Types are read from file names, as every hub program does; parts of a split file belong together.
Pure: sizes and names come from outside, from the hub or from the cache.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .errors import ModelNotFound, OutOfMemory
from .references import Reference

_TYPE = re.compile(
    r"(?<![A-Z0-9])((?:UD-)?I?Q[1-8](?:_[A-Z0-9]+)+|TQ[12]_0|MXFP4(?:_MOE)?|BF16|F16|F32|FP16|FP32)"
    r"(?![A-Z0-9])"
)
_SPLIT = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_NO_MODEL = re.compile(r"mmproj|imatrix", re.IGNORECASE)
_OTHER_NAMES = {"FP16": "F16", "FP32": "F32"}
_UNQUANTIZED = ("BF16", "F16", "F32")

_ROOM = 0.7
"""The share of the memory that a model may take; the rest is for the system and other programs."""
_CONTEXT_BYTES = 1 << 30
"""What a context of a few thousand tokens takes with a model of about 10 B parameters."""

BITS_PER_WEIGHT = {
    "F32": 32.0, "BF16": 16.0, "F16": 16.0, "Q8_0": 8.50, "Q6_K": 6.56, "Q5_K_M": 5.70,
    "Q4_K_M": 4.89, "Q4_0": 4.67,
}  # fmt: skip
"""Of whole files: llama.cpp's `tools/quantize/README.md` for Llama-3.1-8B; other shapes differ by
a few hundredths. Q4_0 as Q4_K_S, which is not in our list."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One type of a model: its files in order (the first is what llama.cpp opens), their bytes."""

    type: str
    files: tuple[str, ...]
    size: int


def type_of(file: str) -> str:
    """The quantization type that a file's name tells; empty where it tells none."""
    found = _TYPE.findall(PurePosixPath(file).name.upper())
    return _OTHER_NAMES.get(found[-1], found[-1]) if found else ""


def variants(sizes: Mapping[str, int]) -> list[Variant]:
    """The variants among files of these sizes in bytes, the largest first.

    Left out are other files, companions that are no language model, and incomplete splits.
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(sizes):
        if name.lower().endswith(".gguf") and not _NO_MODEL.search(PurePosixPath(name).name):
            split = _SPLIT.fullmatch(name)
            groups.setdefault(split["stem"] if split else name, []).append(name)
    found = [
        Variant(type_of(files[0]), tuple(files), sum(sizes[file] for file in files))
        for files in groups.values()
        if _is_whole(files)
    ]
    return sorted(found, key=lambda variant: -variant.size)


def _is_whole(files: Sequence[str]) -> bool:
    split = _SPLIT.fullmatch(files[0])
    return split is None or len(files) == int(split["count"])


def other_parts(first: Path) -> list[Path]:
    """The files that belong to the first of a split model; none for a model in one file."""
    split = _SPLIT.fullmatch(first.name)
    if split is None:
        return []
    count = int(split["count"])
    names = (f"{split['stem']}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1))
    return [first.with_name(name) for name in names if name != first.name]


def matching(reference: Reference, found: Iterable[Variant]) -> list[Variant]:
    """Those that the reference's type or file allows; all, when it has neither."""
    if reference.file:
        wanted = reference.file.lower()
        return [v for v in found if wanted in (file.lower() for file in v.files)]
    return [v for v in found if not reference.type or v.type == reference.type]


def choose(reference: Reference, found: Sequence[Variant], memory: int) -> Variant:
    """The one that the reference names, or else the best that fits `memory` bytes.

    Raises ModelNotFound when none is as the reference says, and OutOfMemory when the choice is
    free and nothing fits.
    """
    allowed = matching(reference, found)
    if not allowed:
        raise _no_such_variant(reference, found)
    if reference.type or reference.file or len(allowed) == 1:
        return allowed[0]
    fitting = [variant for variant in allowed if fits(variant.size, memory)]
    if not fitting:
        raise _nothing_fits(reference, allowed, memory)
    return max(fitting, key=quality)


def fits(size: int, memory: int) -> bool:
    """Whether a model file of `size` bytes and a context fit a machine of `memory` bytes."""
    return size + _CONTEXT_BYTES <= _ROOM * memory


def needed(size: int) -> int:
    """Bytes of memory of the smallest machine that a model file of `size` bytes fits."""
    return int((size + _CONTEXT_BYTES) / _ROOM)


def quality(variant: Variant) -> tuple[int, bool, int]:
    """More bits are better, K types better than others of as many; unquantized is waste."""
    digit = re.search(r"Q(\d)", variant.type)
    bits = int(digit[1]) if digit else 0
    return bits, "_K" in variant.type or bits == 8, variant.size


def file_bytes(parameters: float, type_: str) -> int:
    """About how large a file of that type is."""
    bits = BITS_PER_WEIGHT.get(type_) or int(re.sub(r"\D", "", type_)[:1] or 4) + 0.7
    return int(parameters * bits / 8)


def best_type(parameters: float, memory: int) -> str:
    """The best type to convert to, so that the file fits `memory`; Q4_0 if none does."""
    fitting = (
        type_
        for type_ in BITS_PER_WEIGHT
        if type_ not in _UNQUANTIZED and fits(file_bytes(parameters, type_), memory)
    )
    return next(fitting, "Q4_0")


def _no_such_variant(reference: Reference, found: Sequence[Variant]) -> ModelNotFound:
    names = ", ".join(variant.type or variant.files[0] for variant in found) or "-"
    wanted = reference.file or reference.type
    if not wanted:
        return ModelNotFound(
            f"{reference.name} holds no GGUF file; convert its checkpoint with `komt-local pull "
            f"{reference.name} -q Q4_K_M`.",
            f"{reference.name} 저장소에 GGUF 파일이 없습니다. `komt-local pull {reference.name} "
            "-q Q4_K_M`으로 체크포인트를 변환하세요.",
        )
    return ModelNotFound(
        f"{reference.name} has no {wanted}; choose one of {names}.",
        f"{reference.name}에 {wanted}이(가) 없습니다. 다음 중에서 고르세요: {names}.",
    )


def _nothing_fits(reference: Reference, allowed: Sequence[Variant], memory: int) -> OutOfMemory:
    smallest = min(allowed, key=lambda variant: variant.size)
    size, room = f"{smallest.size / 1e9:.1f} GB", f"{memory / 1e9:.1f} GB"
    name = f"{reference.name}:{smallest.type}"
    return OutOfMemory(
        f"No type of {reference.name} fits the {room} of this machine, the smallest has {size}; "
        f"take a smaller model, or name the type to have it anyway ({name}).",
        f"{reference.name}의 어떤 타입도 이 컴퓨터의 메모리 {room}에 맞지 않습니다(가장 작은 것이 "
        f"{size}). 더 작은 모델을 고르거나, 그래도 받으려면 타입을 적으세요({name}).",
    )
