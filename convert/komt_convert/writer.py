"""Writing a GGUF file of which every byte has its place before a value is read.

`plan` lays out header and tensors from names, shapes and types alone. `write` fills the layout:
threads take the tensors by chunks of rows, and each chunk is loaded, quantized, written where it
belongs, hashed in its turn, and let go. Tensors lie in the order in which llama.cpp's quantizer
writes them: what belongs to no layer, then layer by layer. Which type a tensor gets is decided in
`recipes`.
"""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from komt_convert import ggml
from komt_convert.errors import QuantizationError, SourceError
from komt_convert.gguf_header import CODES
from komt_convert.heap import keep_freed_memory
from komt_convert.kernels import GGML, Kernels
from komt_convert.metadata import Metadata, Value, ValueType
from komt_convert.output import Output
from komt_convert.report import OnProgress, Progress
from komt_convert.tensor_types import TensorType
from komt_convert.tensors import FloatArray, Packed, Tensor

ALIGNMENT = 32
CHUNK_VALUES = 1 << 20
"""What a thread has in its hands at once, or one row if that is more: 4 MB as float32."""
_AHEAD = 3
"""Chunks for each thread that are under way, or written before another that comes earlier."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Placed:
    """A tensor with its type in the file and the offset of its first byte from the file's start.

    `importance` weighs its columns when it is quantized.
    """

    tensor: Tensor
    type: TensorType
    offset: int
    importance: FloatArray | None = None

    @property
    def row_bytes(self) -> int:
        return self.type.row_bytes(self.tensor.row_length)

    @property
    def n_bytes(self) -> int:
        return self.tensor.n_rows * self.row_bytes

    @property
    def is_ready(self) -> bool:
        """Whether the source has the very blocks that belong here."""
        return isinstance(self.tensor, Packed) and self.tensor.dtype == self.type.name


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole file: the bytes of its header, its tensors in order, and its size in bytes."""

    metadata: Metadata
    header: bytes
    tensors: tuple[Placed, ...]
    size: int

    @property
    def n_parameters(self) -> int:
        return sum(placed.tensor.n_elements for placed in self.tensors)

    @property
    def tensor_bytes(self) -> int:
        return sum(placed.n_bytes for placed in self.tensors)

    @property
    def values_by_type(self) -> dict[TensorType, int]:
        """How many values of each type are quantized here; none of those that lie ready."""
        counts: dict[TensorType, int] = {}
        for placed in self.tensors:
            n_values = 0 if placed.is_ready else placed.tensor.n_elements
            counts[placed.type] = counts.get(placed.type, 0) + n_values
        return counts

    @property
    def is_weighed(self) -> bool:
        """Whether an importance matrix has a say."""
        return any(placed.importance is not None for placed in self.tensors)


def plan(
    metadata: Metadata,
    tensors: Iterable[Tensor],
    types: Mapping[str, TensorType],
    importance: Mapping[str, FloatArray] = MappingProxyType({}),
) -> Plan:
    """The layout of a file with `tensors` in the order of `types`, which has each of them."""
    by_name = {tensor.name: tensor for tensor in tensors}
    relative, end = [], 0
    for name, type_ in types.items():
        placed = Placed(by_name[name], type_, end, importance.get(name))
        relative.append(placed)
        end = padded(end + placed.n_bytes)
    header = encode_header(metadata, relative)
    places = tuple(replace(placed, offset=len(header) + placed.offset) for placed in relative)
    return Plan(metadata, header, places, len(header) + end)


def write(
    plan: Plan,
    output: Output,
    *,
    threads: int,
    kernels: Kernels = GGML,
    hashed: bool = False,
    on_progress: OnProgress | None = None,
) -> str:
    """Fill `output` with all of `plan`; some chunks per thread are in memory.

    Returns the SHA-256 in hexadecimal of what was written if it is to be `hashed`, else nothing.
    It is taken of the bytes in memory, so that whatever happens to them on their way to the disk
    and back shows when the file is read again.
    """
    keep_freed_memory()
    output.resize(plan.size)
    output.write_at(0, plan.header)
    content = _Content() if hashed else None
    if content:
        content.add(0, plan.header)
    total = sum(_source_bytes(placed.tensor, placed.tensor.n_elements) for placed in plan.tensors)
    done = 0
    with closing(_written(plan, output, threads, kernels)) as written:
        for chunk, data in written:
            if content:
                content.add(chunk.offset, data.data)
            done += chunk.source_bytes
            if on_progress:
                on_progress(Progress("write", done, total))
    return content.digest(plan.size) if content else ""


def _written(
    plan: Plan, output: Output, threads: int, kernels: Kernels
) -> Generator[tuple[Chunk, Bytes]]:
    """Every chunk with its bytes, in the order of the file, as soon as it is written."""
    todo = (chunk for placed in plan.tensors for chunk in chunks(placed))
    with ThreadPoolExecutor(threads, "komt-convert") as pool:
        pending: deque[tuple[Chunk, Future[Bytes]]] = deque()
        try:
            while True:
                for chunk in islice(todo, _AHEAD * threads - len(pending)):
                    pending.append((chunk, pool.submit(_write_chunk, chunk, output, kernels)))
                if not pending:
                    return
                chunk, future = pending.popleft()
                while not future.done():
                    wait([future], timeout=0.5)  # Windows delivers no Ctrl-C to one without an end
                yield chunk, future.result()
        finally:
            for _, future in pending:
                future.cancel()


class _Content:
    """The digest of a file whose pieces come in order, with zeros between them."""

    def __init__(self) -> None:
        self._hash, self._size = hashlib.sha256(), 0

    def add(self, offset: int, data: bytes | memoryview) -> None:
        self._hash.update(bytes(offset - self._size))
        self._hash.update(data)
        self._size = offset + len(data)

    def digest(self, size: int) -> str:
        self.add(size, b"")
        return self._hash.hexdigest()


@dataclass(frozen=True, slots=True)
class Chunk:
    """The rows `start` to `stop` of a tensor."""

    placed: Placed
    start: int
    stop: int

    @property
    def offset(self) -> int:
        return self.placed.offset + self.start * self.placed.row_bytes

    @property
    def source_bytes(self) -> int:
        tensor = self.placed.tensor
        return _source_bytes(tensor, (self.stop - self.start) * tensor.row_length)


def chunks(placed: Placed) -> Iterator[Chunk]:
    """The pieces in which a tensor is written."""
    n_rows = placed.tensor.n_rows
    step = max(1, CHUNK_VALUES // placed.tensor.row_length)
    for start in range(0, n_rows, step):
        yield Chunk(placed, start, min(start + step, n_rows))


def _write_chunk(chunk: Chunk, output: Output, kernels: Kernels) -> Bytes:
    """Load, quantize and write some rows; gives the bytes that were written."""
    placed, tensor = chunk.placed, chunk.placed.tensor
    if isinstance(tensor, Packed) and placed.is_ready:
        data = tensor.packed(chunk.start, chunk.stop)
    else:
        rows = tensor.read(chunk.start, chunk.stop)
        if not _all_finite(rows):
            raise _not_finite(tensor)
        data = kernels.quantize(placed.type, rows, placed.importance)
    if not ggml.is_valid(placed.type, data):
        raise _too_large(tensor, placed.type)
    output.write_at(chunk.offset, data.data)
    return data.reshape(-1)


def _all_finite(rows: FloatArray) -> bool:
    """NaN or infinity among the values make their sum one, and adding is quickest."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(rows.sum()) or np.isfinite(rows).all())


def _source_bytes(tensor: Tensor, n_values: int) -> int:
    return n_values * (4 if tensor.dtype == "F32" else 2)


def _not_finite(tensor: Tensor) -> SourceError:
    return SourceError(
        f"Tensor '{tensor.name}' holds NaN or infinity; the checkpoint is damaged, "
        "so download it again or take an earlier one.",
        f"텐서 '{tensor.name}'에 NaN이나 무한대가 있어 체크포인트가 손상된 것 같습니다. "
        "다시 내려받거나 이전 체크포인트를 쓰세요.",
    )


def _too_large(tensor: Tensor, type_: TensorType) -> QuantizationError:
    return QuantizationError(
        f"The values of tensor '{tensor.name}' are too large for {type_.name}; "
        "convert with BF16 instead.",
        f"텐서 '{tensor.name}'의 값이 {type_.name} 타입에는 너무 큽니다. BF16으로 변환하세요.",
    )


# --- the header ----------------------------------------------------------------------------------


def encode_header(metadata: Metadata, tensors: Iterable[Placed]) -> bytes:
    """Everything before the tensor data, padded; offsets are taken as relative to its end."""
    tensors = tuple(tensors)
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    parts += (_string(key) + _encode(key, value) for key, value in metadata.items())
    parts += (_tensor_info(placed) for placed in tensors)
    header = b"".join(parts)
    return header.ljust(padded(len(header)), b"\0")


def _tensor_info(placed: Placed) -> bytes:
    shape = placed.tensor.shape[::-1]
    numbers = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return (
        _string(placed.tensor.name)
        + numbers
        + struct.pack("<IQ", placed.type.number, placed.offset)
    )


def _encode(key: str, value: Value) -> bytes:
    kind = struct.pack("<I", value.type)
    try:
        if value.element is not None:
            kind += struct.pack("<IQ", value.element, len(value.data))
            return kind + _array(value.element, value.data)
        return kind + _scalar(value.type, value.data)
    except UnicodeEncodeError:
        raise SourceError(
            f"The text for '{key}' is not valid Unicode; repair the checkpoint's tokenizer files.",
            f"'{key}'에 쓸 글이 올바른 유니코드가 아닙니다. "
            "체크포인트의 토크나이저 파일을 고치세요.",
        ) from None


def _array(element: ValueType, data: Iterable[object]) -> bytes:
    if element is ValueType.STRING:
        return b"".join(map(_string, data))  # type: ignore[arg-type]
    return np.asarray(data, np.dtype("<" + CODES[element])).tobytes()


def _scalar(type_: ValueType, data: object) -> bytes:
    return _string(data) if isinstance(data, str | bytes) else struct.pack("<" + CODES[type_], data)


def _string(text: str | bytes) -> bytes:
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(raw)) + raw


def padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
