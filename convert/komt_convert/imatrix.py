"""Importance matrices: how much each column of a tensor counts when its rows are quantized.

`llama-imatrix` writes them as GGUF: for every tensor the sums of the squares that flowed into its
columns (`<name>.in_sum2`) over so many tokens (`<name>.counts`). Their means are the weights, as
in tools/quantize of llama.cpp. Older files of another format are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from komt_convert.errors import GGUFError, QuantizationError
from komt_convert.gguf_file import read_header
from komt_convert.gguf_header import Array, Header, TensorInfo
from komt_convert.metadata import Metadata, text, u32
from komt_convert.tensors import FloatArray, read_at

_SUMS, _COUNTS = ".in_sum2", ".counts"


@dataclass(frozen=True, slots=True)
class ImportanceMatrix:
    """`weights` are one number for each column of the tensor of that name."""

    path: Path
    weights: Mapping[str, FloatArray]
    datasets: tuple[str, ...]
    n_chunks: int

    def of(self, name: str, row_length: int) -> FloatArray | None:
        """The weights of one tensor; None if it has none. Raises QuantizationError."""
        weights = self.weights.get(name)
        if weights is None or weights.size == row_length:
            return weights
        if name == "token_embd.weight":  # as in llama.cpp, whose tool may count it otherwise
            return None
        raise QuantizationError(
            f"{self.path} has {weights.size:,} numbers for '{name}', whose rows have "
            f"{row_length:,}; give the importance matrix of this model.",
            f"{self.path}: '{name}'의 값이 {weights.size:,}개인데 행의 길이는 "
            f"{row_length:,}입니다. 이 모델의 중요도 행렬을 지정하세요.",
        )

    def metadata(self) -> Metadata:
        """What llama.cpp's tool writes into a file about the matrix it was made with."""
        found: Metadata = {"quantize.imatrix.file": text(self.path.name)}
        if self.datasets:
            found["quantize.imatrix.dataset"] = text(self.datasets[0])
        found["quantize.imatrix.entries_count"] = u32(len(self.weights))
        if self.n_chunks > 0:
            found["quantize.imatrix.chunks_count"] = u32(self.n_chunks)
        return found


def read_imatrix(path: str | PathLike[str]) -> ImportanceMatrix:
    """The matrix in a file; raises GGUFError for a file that is none, or damaged."""
    header = read_header(path)
    tensors = {tensor.name: tensor for tensor in header.tensors}
    names = [name.removesuffix(_SUMS) for name in tensors if name.endswith(_SUMS)]
    datasets = header.metadata.get("imatrix.datasets")
    if not names or not isinstance(datasets, Array):
        raise _unusable(header.path, "it holds none", "중요도 행렬이 들어 있지 않습니다")
    n_chunks = header.metadata.get("imatrix.chunk_count", 0)
    return ImportanceMatrix(
        path=header.path,
        weights={name: _weights(header, tensors, name) for name in names},
        datasets=tuple(str(name) for name in datasets),
        n_chunks=n_chunks if isinstance(n_chunks, int) else 0,
    )


def _weights(header: Header, tensors: Mapping[str, TensorInfo], name: str) -> FloatArray:
    """Sums over counts; ones where nothing was counted."""
    counted = tensors.get(name + _COUNTS)
    if counted is None:
        raise _unusable(header.path, f"'{name}' has no counts", f"'{name}'의 개수가 없습니다")
    sums, counts = _read(header, tensors[name + _SUMS]), np.round(_read(header, counted))
    if sums.size % counts.size:
        raise _unusable(
            header.path, f"'{name}' makes no sense", f"'{name}' 항목이 올바르지 않습니다"
        )
    by_expert = sums.reshape(counts.size, -1)
    safe = np.where(counts > 0, counts, np.float32(1))[:, None]
    means = np.where(counts[:, None] > 0, by_expert / safe, np.float32(1))
    return np.ascontiguousarray(means, np.float32).reshape(-1)


def _read(header: Header, tensor: TensorInfo) -> FloatArray:
    if tensor.type.name != "F32":
        raise _unusable(
            header.path, f"'{tensor.name}' is not F32", f"'{tensor.name}' 타입이 F32가 아닙니다"
        )
    values = read_at(header.path, tensor.offset, tensor.n_bytes).view("<f4")
    if not np.isfinite(values).all() or (values < 0).any():
        raise _unusable(
            header.path,
            f"'{tensor.name}' has values that are no sums of squares",
            f"'{tensor.name}'에 제곱합이 아닌 값이 있습니다",
        )
    return values


def _unusable(path: Path, en: str, ko: str) -> GGUFError:
    return GGUFError(
        f"{path} is no importance matrix in llama.cpp's GGUF format: {en}; "
        "make it with llama-imatrix.",
        f"{path}: llama.cpp의 GGUF 중요도 행렬이 아닙니다. {ko}. llama-imatrix로 만드세요.",
    )
