"""Tensors that are not read yet: a name, a shape, a dtype and a way to get at the rows.

A tensor here is a plan. Whatever happens to it on its way (a merge, a permutation, another name)
wraps `read` and leaves the values on disk until the writer asks for them. This module knows how
safetensors files lay values out; it knows neither architectures nor GGUF.

Values are read from a file handle of their own, not through a memory map: mapped pages count as
memory in use, and a handle per read is thread-safe on every platform (`os.pread` is not on
Windows). Opening costs microseconds, a read some milliseconds.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from komt_convert.errors import SourceError, UnsupportedError

FloatArray = NDArray[np.float32]

MAX_HEADER_BYTES = 100_000_000
"""The limit that the safetensors library itself sets for a header."""

ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}
"""Bytes per value of the dtypes in https://github.com/huggingface/safetensors (tensor.rs)."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor by name, with `read(start, stop)` for a range of its rows.

    `shape` is in the order of Hugging Face and numpy (rows first). Rows are those of the tensor
    seen as a matrix `(n_rows, row_length)`; a one-dimensional tensor is one row. `read` returns a
    new or read-only C-contiguous float32 array of shape `(stop - start, row_length)`, exact for
    the dtypes F32, F16 and BF16, and may be called from several threads at once.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    read: Callable[[int, int], FloatArray]

    @property
    def row_length(self) -> int:
        return self.shape[-1]

    @property
    def n_rows(self) -> int:
        return prod(self.shape[:-1])

    @property
    def n_elements(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class Packed(Tensor):
    """A tensor whose source has the blocks of a ggml type, which `dtype` names.

    `packed(start, stop)` gives them row by row: a file of that type takes them as they are. Only a
    tensor that nothing happens to on its way may be one; `read` gives the values.
    """

    packed: Callable[[int, int], NDArray[np.uint8]]


def from_array(name: str, values: FloatArray) -> Tensor:
    """A tensor whose float32 values are in memory already."""
    rows = np.ascontiguousarray(values, dtype=np.float32).reshape(-1, values.shape[-1]).view()
    rows.flags.writeable = False
    return Tensor(name, values.shape, "F32", lambda start, stop: rows[start:stop])


def permute_rows(tensor: Tensor, order: NDArray[np.intp]) -> Tensor:
    """The same tensor with row `order[i]` of the source as row `i`; a vector's values move alike.

    For a range of rows, the covering range of the source is read, so `order` should be local.
    """

    def read_rows(start: int, stop: int) -> FloatArray:
        wanted = order[start:stop]
        first = int(wanted.min(initial=order.size))
        rows = tensor.read(first, int(wanted.max(initial=first - 1)) + 1)
        return rows[wanted - first]

    def read_vector(start: int, stop: int) -> FloatArray:
        return np.ascontiguousarray(tensor.read(start, stop)[:, order])

    return replace(tensor, read=read_vector if len(tensor.shape) == 1 else read_rows)


# --- safetensors ---------------------------------------------------------------------------------


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of one safetensors file, by name; only its header is read.

    The format: https://github.com/huggingface/safetensors#format. Raises SourceError for a file
    that is cut short or not what its header says. A dtype other than F32, F16 and BF16 is an
    error of `read`, not of this function: checkpoints hold masks and counters that nobody reads.
    """
    header, data_start = _read_header(path)
    data_bytes = path.stat().st_size - data_start
    entries = {name: _entry(path, name, value) for name, value in header.items()}
    _check_offsets(path, entries, data_bytes)
    return {
        name: stored_tensor(path, name, entry.dtype, entry.shape, data_start + entry.start)
        for name, entry in entries.items()
    }


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of a header; `start` and `stop` are bytes from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def _read_header(path: Path) -> tuple[Mapping[str, Any], int]:
    """The header without `__metadata__`, and the offset of the first value in the file."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(MAX_HEADER_BYTES, path.stat().st_size - 8):
            raise _damaged(path, "its header is cut short", "헤더가 잘려 있습니다")
        raw = file.read(length)
    try:
        header = json.loads(raw, object_pairs_hook=lambda pairs: _unique(path, pairs))
    except (ValueError, RecursionError):
        raise _damaged(path, "its header is not JSON", "헤더가 JSON이 아닙니다") from None
    if not isinstance(header, dict):
        raise _damaged(path, "its header is not a JSON object", "헤더가 JSON 객체가 아닙니다")
    header.pop("__metadata__", None)
    return header, 8 + length


def _unique(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON allows a key twice and Python keeps the last; a tensor must be there once."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise _damaged(path, f"it names {twice!r} twice", f"{twice!r} 이름이 두 번 나옵니다")
    return found


def _entry(path: Path, name: str, value: Any) -> _Entry:
    try:
        dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
        numbers = [*shape, *offsets]
        start, stop = offsets
        sane = all(type(n) is int and 0 <= n < 2**63 for n in numbers) and isinstance(dtype, str)
    except (KeyError, TypeError, ValueError):
        sane = False
    if not sane:
        raise _damaged(path, f"the entry of {name!r} makes no sense", f"{name!r} 항목이 이상합니다")
    entry = _Entry(dtype, tuple(shape), start, stop)
    if stop - start != prod(shape) * ITEM_BYTES.get(dtype, 0) and dtype in ITEM_BYTES:
        raise _damaged(
            path,
            f"{name!r} has {stop - start:,} bytes, which do not fit {dtype} {list(shape)}",
            f"{name!r} 크기 {stop - start:,}바이트가 {dtype} {list(shape)}에 맞지 않습니다",
        )
    return entry


def _check_offsets(path: Path, entries: Mapping[str, _Entry], data_bytes: int) -> None:
    """The values must fill the file without a gap: no more, no less, nothing twice."""
    spans = sorted((entry.start, entry.stop, name) for name, entry in entries.items())
    if spans and spans[-1][1] > data_bytes:
        raise _damaged(
            path,
            f"{spans[-1][2]!r} lies beyond its end",
            f"{spans[-1][2]!r} 위치가 파일 끝을 넘습니다",
        )
    for (_, stop, name), (start, _, other) in pairwise([(0, 0, "its header"), *spans]):
        if start != stop:
            raise _damaged(
                path,
                f"{other!r} does not begin where {name!r} ends",
                f"{other!r} 시작이 {name!r} 끝과 맞지 않습니다",
            )
    if (spans[-1][1] if spans else 0) != data_bytes:
        raise _damaged(
            path, "it goes on after its last tensor", "마지막 텐서 뒤에 데이터가 더 있습니다"
        )


def stored_tensor(path: Path, name: str, dtype: str, shape: tuple[int, ...], offset: int) -> Tensor:
    """A tensor whose values lie row by row in a file, the first one `offset` bytes from its start.

    A dtype other than F32, F16 and BF16 is an error of `read`.
    """
    row_length = shape[-1] if shape else 1
    row_bytes = row_length * ITEM_BYTES.get(dtype, 0)

    def read(start: int, stop: int) -> FloatArray:
        require_float(path, name, dtype)
        raw = read_at(path, offset + start * row_bytes, (stop - start) * row_bytes)
        return to_float32(raw, dtype).reshape(stop - start, row_length)

    return Tensor(name, shape, dtype, read)


def read_at(path: Path, offset: int, n_bytes: int) -> NDArray[np.uint8]:
    """Exactly so many bytes of a file; SourceError when it has become shorter."""
    raw = np.empty(n_bytes, dtype=np.uint8)
    view, done = raw.data, 0
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        while done < n_bytes:  # one call reads at most 2 GiB on Linux
            got = file.readinto(view[done:])
            if not got:
                raise _damaged(
                    path, "it became shorter while it was read", "읽는 중에 짧아졌습니다"
                )
            done += got
    return raw


def to_float32(raw: NDArray[np.uint8], dtype: str) -> FloatArray:
    """Little-endian F32, F16 or BF16 bytes as float32; exact, as float32 holds all of them."""
    if dtype == "BF16":  # the upper half of a float32
        bits = raw.view("<u2").astype(np.uint32)
        bits <<= 16  # in place: another array of this size would cost more than the shift
        return bits.view(np.float32)
    return raw.view("<f4" if dtype == "F32" else "<f2").astype(np.float32, copy=False)


def require_float(path: Path, name: str, dtype: str) -> None:
    """Raise UnsupportedError unless the values are plain floating-point weights."""
    if dtype not in ("F32", "F16", "BF16"):
        raise UnsupportedError(
            f"{path}: {name!r} has the dtype {dtype}, which is no plain weight; "
            "convert from F32, F16 or BF16 weights that are not quantized.",
            f"{path}: {name!r} dtype이 {dtype}이라 일반 가중치가 아닙니다. "
            "양자화하지 않은 F32, F16, BF16 가중치로 변환하세요.",
        )


def _damaged(path: Path, en: str, ko: str) -> SourceError:
    return SourceError(
        f"{path} is damaged: {en}; download or copy it again.",
        f"{path} 파일이 손상되었습니다: {ko}. 다시 내려받거나 복사하세요.",
    )
