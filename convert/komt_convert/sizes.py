"""How large a model would be in each type, before anything is written: to choose one.

Only headers, configs and shapes are read. How much memory it then takes to run is said by whoever
knows the runtime, from `metadata`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from komt_convert.errors import QuantizationError
from komt_convert.file_types import FILE_TYPES, FileType
from komt_convert.metadata import Metadata
from komt_convert.pipeline import plan_file
from komt_convert.planning import Wanted, choose, model
from komt_convert.recipes import Override, Shape, override, requires_imatrix
from komt_convert.sources import open_source
from komt_convert.tensor_types import TensorType
from komt_convert.writer import padded

Shapes = Mapping[str, Shape]


@dataclass(frozen=True, slots=True)
class Option:
    """A file type: `tensor_bytes` are what is loaded to run it."""

    file_type: str
    out_bytes: int
    tensor_bytes: int
    bits_per_weight: float
    needs_imatrix: bool


@dataclass(frozen=True, slots=True)
class Survey:
    """What a source would become; `metadata` are those of its file in any type."""

    source_bytes: int
    n_parameters: int
    metadata: Metadata
    options: tuple[Option, ...]


def survey(
    source: str | os.PathLike[str],
    *,
    adapters: Sequence[tuple[str | os.PathLike[str], float]] = (),
    base: str | os.PathLike[str] | None = None,
    tensor_types: Sequence[str] = (),
) -> Survey:
    """The sizes of `source` in all types, the largest first; the options are those of `convert`.

    A source that is quantized already is there in its own type only. Raises ConvertError.
    """
    opened = open_source(Path(source), adapters, base=None if base is None else Path(base))
    layout = plan_file(opened, Wanted(FILE_TYPES["F16"]))
    shapes = {tensor.name: tensor.shape for tensor in opened.tensors}
    overrides = [override(text) for text in tensor_types]
    if overrides:
        choose(shapes, model(layout.metadata), Wanted(FILE_TYPES["Q8_0"], overrides))
    if opened.kept:
        own = {placed.tensor.name: placed.type for placed in layout.tensors}
        options = [_option(opened.kept, shapes, own, len(layout.header))]
    else:
        options = [
            _option(kind, shapes, types, len(layout.header))
            for kind in FILE_TYPES.values()
            if (types := _types(shapes, layout.metadata, kind, overrides))
        ]
    ordered = sorted(options, key=lambda option: -option.tensor_bytes)
    return Survey(opened.size_bytes, layout.n_parameters, layout.metadata, tuple(ordered))


def _types(
    shapes: Shapes, metadata: Metadata, kind: FileType, overrides: Sequence[Override]
) -> Mapping[str, TensorType] | None:
    """The type of every tensor; None where the shapes do not allow for this file type."""
    try:
        wanted = Wanted(kind, overrides if kind.default.is_quantized else ())
        return choose(shapes, model(metadata), wanted)
    except QuantizationError:
        return None


def _option(
    kind: FileType, shapes: Shapes, types: Mapping[str, TensorType], header_bytes: int
) -> Option:
    sizes = [type_.row_bytes(prod(shapes[name])) for name, type_ in types.items()]
    n_values = sum(prod(shape) for shape in shapes.values())
    return Option(
        file_type=kind.name,
        out_bytes=header_bytes + sum(padded(size) for size in sizes),
        tensor_bytes=sum(sizes),
        bits_per_weight=8 * sum(sizes) / n_values,
        needs_imatrix=any(requires_imatrix(n, type_, kind) for n, type_ in types.items()),
    )
