"""The proof that a written file says what its source says.

The file is opened again: its header must be the planned one, and from every chunk that a thread
wrote, and from both ends of every tensor, a row is read back and compared with the source. F32 must
be equal, F16 and BF16 must be the source rounded (by NumPy, not by ggml), a quantized row must be
within the error of its type; or, as some types lose nearly everything of a row that is mostly
zeros, exactly what ggml makes of its source. Reading some rows instead of all keeps this to a small
part of the time of a conversion. Token ids are compared in `tokens`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from random import Random

import numpy as np

from komt_convert import ggml
from komt_convert.errors import VerificationError
from komt_convert.gguf_file import check
from komt_convert.report import OnProgress, Progress, TensorError, TensorErrors
from komt_convert.tensor_types import TensorType
from komt_convert.tensors import FloatArray, Packed
from komt_convert.writer import Placed, Plan, chunks

_WINDOW = 16 << 20
N_WORST = 10


@dataclass(frozen=True, slots=True)
class Bound:
    """How far a row may be from its source: root mean squares of the differences and the values.

    `relative` is two to five times what normally distributed values give; a row in the
    wrong place gives about 1.4. `steps` are the values that one 16-bit scale has to reach: half the
    least such number, 2**-25, times `steps` is lost however small the values are.
    """

    relative: float
    steps: int

    def allows(self, difference: float, value: float) -> bool:
        return difference <= self.relative * value + self.steps * 2.0**-25


BOUNDS = {
    "Q8_0": Bound(0.03, 127),
    "Q6_K": Bound(0.10, 128 * 32),
    "Q5_K": Bound(0.20, 63 * 31),
    "Q5_1": Bound(0.20, 31),
    "Q5_0": Bound(0.20, 16),
    "Q4_K": Bound(0.35, 63 * 15),
    "Q4_1": Bound(0.35, 15),
    "Q4_0": Bound(0.40, 8),
    "IQ4_NL": Bound(0.40, 127),
    "IQ4_XS": Bound(0.40, 32 * 127),
    "Q3_K": Bound(0.55, 32 * 4),
    "IQ3_S": Bound(0.60, 31 * 15),
    "Q2_K": Bound(0.80, 15 * 3),
}
"""Types that are not here lose so much of ordinary rows that only ggml's own bytes will do."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The SHA-256 of a file in hexadecimal, and how far its tensors are from their source."""

    sha256: str = ""
    errors: tuple[TensorErrors, ...] = ()
    worst: tuple[TensorError, ...] = ()


def verify_tensors(
    path: Path,
    plan: Plan,
    *,
    threads: int,
    sha256: str = "",
    on_progress: OnProgress | None = None,
) -> Proof:
    """Compare the file at `path` with `plan` and with the values of its tensors.

    Its digest is taken unless it is given. Raises VerificationError at the first difference from
    `plan` that is more than rounding.
    """
    _compare_header(path, plan)
    with ThreadPoolExecutor(threads, "komt-verify") as pool:
        try:
            errors = [(p, pool.submit(_compare_tensor, path, p)) for p in plan.tensors]
            digest = sha256 or digest_of(path, on_progress)
            found = []
            for placed, error in errors:
                found.append((placed, error.result()))
                if sha256 and on_progress:
                    on_progress(Progress("verify", placed.offset + placed.n_bytes, plan.size))
            return Proof(digest, _by_type(found), _farthest(found))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def digest_of(path: Path, on_progress: OnProgress | None = None) -> str:
    """The digest of a whole file, in hexadecimal."""
    digest, size = hashlib.sha256(), path.stat().st_size
    with path.open("rb", buffering=0) as file:
        for start in range(0, size, _WINDOW):  # copied by nobody, and let go before it adds up
            length = min(_WINDOW, size - start)
            with mmap(file.fileno(), length, access=ACCESS_READ, offset=start) as window:
                digest.update(window)
            if on_progress:
                on_progress(Progress("verify", start + length, size))
    return digest.hexdigest()


def _compare_header(path: Path, plan: Plan) -> None:
    header = check(path)
    found = [(t.name, t.shape, t.type, t.offset) for t in header.tensors]
    planned = [(p.tensor.name, p.tensor.shape[::-1], p.type, p.offset) for p in plan.tensors]
    with path.open("rb") as file:
        same = file.read(len(plan.header)) == plan.header
    if not same or found != planned or header.size != plan.size:
        raise VerificationError(
            f"The header of {path} is not what was written; check the disk and convert again.",
            f"{path} 파일의 헤더가 쓴 내용과 다릅니다. 디스크를 점검하고 다시 변환하세요.",
        )


def _compare_tensor(path: Path, placed: Placed) -> float:
    """The relative error over the sampled rows."""
    differences = values = 0.0
    with path.open("rb", buffering=0) as file:
        for row in _sample(placed):
            source = placed.tensor.read(row, row + 1)
            file.seek(placed.offset + row * placed.row_bytes)
            data = np.frombuffer(file.read(placed.row_bytes), np.uint8)
            difference, value = _compare_row(placed, row, source, data)
            differences += difference
            values += value
    return float(np.sqrt(differences / values)) if values else 0.0


def _sample(placed: Placed) -> Iterable[int]:
    """Rows to read back, the same each time: both ends, and one of every chunk."""
    random = Random(placed.tensor.name)
    rows = {random.randrange(chunk.start, chunk.stop) for chunk in chunks(placed)}
    return sorted(rows | {0, placed.tensor.n_rows - 1})


def _compare_row(
    placed: Placed, row: int, source: FloatArray, data: ggml.Bytes
) -> tuple[float, float]:
    """Sums of squares: of the differences, and of the values."""
    value = float(np.square(source, dtype=np.float64).sum())
    exact = _exact(placed, row, source)
    if data.nbytes != placed.row_bytes or (exact is not None and not np.array_equal(exact, data)):
        raise _differs(placed, row)
    if exact is not None:
        return 0.0, value
    read = ggml.dequantize(placed.type, data, placed.tensor.row_length)
    difference = float(np.square(read - source, dtype=np.float64).sum())
    n = source.size
    bound = BOUNDS.get(placed.type.name)
    if bound is None or not bound.allows((difference / n) ** 0.5, (value / n) ** 0.5):
        if not np.array_equal(ggml.quantize(placed.type, source, placed.importance)[0], data):
            raise _differs(placed, row)
    return difference, value


def _exact(placed: Placed, row: int, source: FloatArray) -> ggml.Bytes | None:
    """The bytes that the row must have; None where only their error is bounded."""
    tensor = placed.tensor
    if isinstance(tensor, Packed) and tensor.dtype == placed.type.name:
        return tensor.packed(row, row + 1).reshape(-1)
    return _rounded(placed.type, source)


def _rounded(type_: TensorType, source: FloatArray) -> ggml.Bytes | None:
    """The bytes that a type without blocks must have; None for a quantized type."""
    if type_.name == "F32":
        return source.reshape(-1).view(np.uint8)
    if type_.name == "F16":
        return source.reshape(-1).astype(np.float16).view(np.uint8)
    if type_.name == "BF16":
        bits = source.reshape(-1).view(np.uint32).astype(np.uint64)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return rounded.astype(np.uint16).view(np.uint8)
    return None


def _differs(placed: Placed, row: int) -> VerificationError:
    name, type_ = placed.tensor.name, placed.type.name
    return VerificationError(
        f"Row {row:,} of tensor '{name}' does not have its source's values as {type_}; "
        "check the disk and convert again.",
        f"텐서 '{name}'의 {row:,}번째 행이 원본을 {type_}(으)로 바꾼 값이 아닙니다. "
        "디스크를 점검하고 다시 변환하세요.",
    )


def _farthest(errors: Iterable[tuple[Placed, float]]) -> tuple[TensorError, ...]:
    named = (TensorError(p.tensor.name, p.type.name, error) for p, error in errors if error > 0)
    return tuple(sorted(named, key=lambda error: -error.relative)[:N_WORST])


def _by_type(errors: Iterable[tuple[Placed, float]]) -> tuple[TensorErrors, ...]:
    by_type: dict[str, list[tuple[float, str]]] = {}
    for placed, error in errors:
        by_type.setdefault(placed.type.name, []).append((error, placed.tensor.name))
    return tuple(_summary(name, found) for name, found in sorted(by_type.items()))


def _summary(type_name: str, found: list[tuple[float, str]]) -> TensorErrors:
    error, worst = max(found)
    return TensorErrors(type_name, len(found), error, worst)
