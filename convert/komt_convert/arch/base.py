"""What all architectures share: reading a config, and mapping tensors so that nothing is left over.

An architecture says which tensors there must be, as `Slot`s: the name in the checkpoint, the name
in the GGUF file, the shape, and what happens to the values. `fill` matches slots and tensors; a
tensor without a slot, a slot without a tensor, a name twice and a wrong shape are errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from komt_convert.errors import SourceError, UnsupportedError
from komt_convert.metadata import Metadata
from komt_convert.tensors import Tensor

Number = TypeVar("Number", int, float)


class Source(Protocol):
    """What an architecture needs of a checkpoint."""

    @property
    def config(self) -> Mapping[str, Any]: ...

    @property
    def tensors(self) -> Mapping[str, Tensor]: ...


class Architecture(Protocol):
    """From Hugging Face's names and layout to GGUF's."""

    @property
    def n_rows(self) -> int:
        """Rows of the embedding: the number of tokens that the file must name."""

    def slots(self) -> Iterator[Slot]:
        """The tensors that a checkpoint has or may have, and where they go."""

    def metadata(self, source: Source) -> Metadata:
        """`general.architecture` and the keys under the architecture's own name."""

    def tensors(self, source: Source) -> list[Tensor]:
        """All tensors of the file, under GGUF names, nothing read yet.

        Raises SourceError and UnsupportedError when they are not those of the config.
        """


@dataclass(frozen=True, slots=True)
class Slot:
    """A tensor that an architecture expects, or may find when it is `optional`."""

    source: str
    target: str
    shape: tuple[int, ...]
    change: Callable[[Tensor], Tensor] | None = None
    optional: bool = False


def fill(
    slots: Iterable[Slot], tensors: Mapping[str, Tensor], *, unused: str | tuple[str, ...]
) -> list[Tensor]:
    """The tensors under their GGUF names, in the order of the slots.

    Names that end with (one of) `unused` are buffers that every program computes for itself.
    """
    by_source = {slot.source: slot for slot in slots}
    unmapped = [n for n in tensors if n not in by_source and not n.endswith(unused)]
    if unmapped:
        raise UnsupportedError(
            f"The checkpoint holds {len(unmapped):,} tensors that its architecture does not have, "
            f"{unmapped[0]!r} first; this variant is not supported.",
            f"구조에 없는 텐서가 {len(unmapped):,}개 있습니다(첫 번째: {unmapped[0]!r}). "
            "지원하지 않는 변형입니다.",
        )
    missing = [s for s, slot in by_source.items() if s not in tensors and not slot.optional]
    if missing:
        raise SourceError(
            f"The checkpoint lacks {len(missing):,} tensors, {missing[0]!r} first; "
            "download it again.",
            f"체크포인트에 텐서 {len(missing):,}개가 없습니다(첫 번째: {missing[0]!r}). "
            "다시 내려받으세요.",
        )
    filled = [_fill(slot, tensors[s]) for s, slot in by_source.items() if s in tensors]
    assert len({tensor.name for tensor in filled}) == len(filled), "two slots, one GGUF name"
    return filled


def _fill(slot: Slot, tensor: Tensor) -> Tensor:
    if tensor.shape != slot.shape:
        raise SourceError(
            f"{slot.source!r} has the shape {list(tensor.shape)} where config.json asks for "
            f"{list(slot.shape)}; weights and config.json must be of one model.",
            f"{slot.source!r} 모양은 {list(tensor.shape)}인데 config.json에 따르면 "
            f"{list(slot.shape)}입니다. 가중치와 config.json이 같은 모델이어야 합니다.",
        )
    if tensor.dtype not in ("F32", "F16", "BF16"):
        raise UnsupportedError(
            f"{slot.source!r} has the dtype {tensor.dtype}, which is no plain weight; "
            "convert from F32, F16 or BF16 weights that are not quantized.",
            f"{slot.source!r} dtype이 {tensor.dtype}이라 일반 가중치가 아닙니다. "
            "양자화하지 않은 F32, F16, BF16 가중치로 변환하세요.",
        )
    changed = slot.change(tensor) if slot.change else tensor
    return replace(changed, name=slot.target)


# --- config.json ---------------------------------------------------------------------------------


def integer(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """A positive whole number of the config; null counts as absent. Raises SourceError."""
    return _number(config, key, default, int)


def number(config: Mapping[str, Any], key: str, default: float | None = None) -> float:
    """A positive number of the config; null counts as absent. Raises SourceError."""
    return float(_number(config, key, default, float))


def _number(
    config: Mapping[str, Any], key: str, default: Number | None, kind: type[Number]
) -> Number:
    value = default if config.get(key) is None else config[key]
    sane = isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
    if value is None or not sane or not 0 < value < 2**32:
        found = "nothing" if value is None else repr(value)
        raise SourceError(
            f"config.json has {found} for {key!r} where a positive number belongs; "
            "download it again.",
            f"config.json의 {key!r} 값({found})이 양수가 아닙니다. 다시 내려받으세요.",
        )
    return value


def refuse(what: str, value: object) -> UnsupportedError:
    """The error for a setting of the config that would change what the model computes."""
    return UnsupportedError(
        f"config.json asks for {what} {value!r}, which llama.cpp does not compute for this "
        "architecture; this variant is not supported.",
        f"config.json의 {what} 설정 {value!r}은(는) 이 구조에서 llama.cpp가 계산하지 않습니다. "
        "지원하지 않는 변형입니다.",
    )
