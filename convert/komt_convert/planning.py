"""From tensors and metadata to the layout of a file: types, importance of columns, offsets.

What llama.cpp's quantizer decides before it touches a weight, for conversions and for files that
are quantized again. No weight is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike

from komt_convert import recipes
from komt_convert.digests import Input
from komt_convert.errors import QuantizationError
from komt_convert.ggml import QUANTIZATION_VERSION
from komt_convert.imatrix import ImportanceMatrix, read_imatrix
from komt_convert.metadata import Metadata, u32
from komt_convert.recipes import FileType, Override
from komt_convert.tensor_types import BY_NAME, TensorType
from komt_convert.tensors import FloatArray, Tensor
from komt_convert.writer import Plan, plan


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a user asks for: a type of file, other types for some tensors, an importance matrix."""

    file_type: FileType
    overrides: Sequence[Override] = ()
    imatrix: ImportanceMatrix | None = None

    @property
    def files(self) -> tuple[Input, ...]:
        """What is read for it."""
        return (Input("imatrix", self.imatrix.path),) if self.imatrix else ()

    def metadata(self) -> Metadata:
        about_matrix = self.imatrix.metadata() if self.imatrix else {}
        return {
            "general.file_type": u32(self.file_type.number),
            "general.quantization_version": u32(QUANTIZATION_VERSION),
            **about_matrix,
        }


def want(
    quant: str, tensor_types: Sequence[str] = (), imatrix: str | PathLike[str] | None = None
) -> Wanted:
    """What was said in words: the name of a file type, PATTERN=TYPE, the path of a matrix."""
    overrides = [recipes.override(text) for text in tensor_types]
    matrix = None if imatrix is None else read_imatrix(imatrix)
    return Wanted(recipes.file_type(quant), overrides, matrix)


def plan_tensors(
    tensors: Sequence[Tensor], metadata: Metadata, wanted: Wanted, *, keep: bool = False
) -> Plan:
    """The layout of a file with these tensors.

    `metadata` goes in as it is. `keep` leaves all tensors in the types that the source has.
    """
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    types = choose(shapes, model(metadata), wanted)
    if keep:
        own = {tensor.name: BY_NAME[tensor.dtype] for tensor in tensors}
        return plan(metadata, tensors, {name: own[name] for name in types})
    return plan(metadata, tensors, types, weigh(shapes, types, wanted))


def choose(
    shapes: Mapping[str, recipes.Shape], described: recipes.Model, wanted: Wanted
) -> dict[str, TensorType]:
    """A type for every tensor, in the order of the file."""
    has_matrix = wanted.imatrix is not None
    return recipes.choose_types(
        shapes, described, wanted.file_type, overrides=wanted.overrides, imatrix=has_matrix
    )


def weigh(
    shapes: Mapping[str, recipes.Shape], types: Mapping[str, TensorType], wanted: Wanted
) -> dict[str, FloatArray]:
    """The importance of the columns of every quantized tensor that the matrix knows.

    Raises QuantizationError where one is needed and there is none.
    """
    found: dict[str, FloatArray] = {}
    for name, type_ in types.items():
        weights = None
        if wanted.imatrix and type_.is_quantized:
            weights = wanted.imatrix.of(name, shapes[name][-1])
        if weights is not None:
            found[name] = weights
        elif recipes.requires_imatrix(name, type_, wanted.file_type):
            raise _needs_imatrix(name, type_, wanted.file_type)
    return found


def model(metadata: Metadata) -> recipes.Model:
    """What the choice of types depends on, from the metadata of an architecture."""
    name = metadata["general.architecture"].data

    def number(key: str) -> int:
        return int(metadata[f"{name}.{key}"].data)

    heads, kv_heads = number("attention.head_count"), number("attention.head_count_kv")
    return recipes.Model(name, number("block_count"), heads, kv_heads)


def _needs_imatrix(name: str, type_: TensorType, file_type: FileType) -> QuantizationError:
    return QuantizationError(
        f"{file_type.name} makes '{name}' {type_.name}, which is garbage without an importance "
        "matrix for it; give one with --imatrix, or choose a larger type.",
        f"{file_type.name}에서는 '{name}' 텐서가 {type_.name}이(가) 되는데, 중요도 행렬 없이는 "
        "쓸 수 없습니다. --imatrix로 지정하거나 더 큰 타입을 고르세요.",
    )
