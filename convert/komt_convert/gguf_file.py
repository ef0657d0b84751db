"""Reading the header of a GGUF file that nobody vouches for.

`read_header` gives the metadata and the places of the tensors of any well-formed file; `check`
also refuses what makes llama.cpp abort the whole process. Every count is held against the size of
the file before anything is done with it, so that a hostile file costs neither memory nor time.
Values of tensors are not read, and nothing is written. Needs the standard library only.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. As in llama.cpp, an array in
an array is refused, and the tensors must follow each other in the order of their infos.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from os import PathLike, fstat
from pathlib import Path
from typing import Any, BinaryIO

from komt_convert.errors import GGUFError
from komt_convert.gguf_header import CODES, Array, Header, TensorInfo
from komt_convert.gguf_rules import first_problem
from komt_convert.metadata import ValueType
from komt_convert.tensor_types import BY_NUMBER, TensorType

__all__ = ["Array", "Header", "TensorInfo", "check", "parse_header", "read_header"]

MAX_HEADER_BYTES = 256 << 20
"""Everything before the tensor data; the largest vocabularies known take about 20 MB."""
MAX_ENTRIES = 1 << 16
"""Metadata keys, and tensors; models of 512 layers have about 10,000 tensors."""
MAX_STRINGS = 1 << 22
"""Strings in all arrays together; a vocabulary of 262,144 has about 800,000 with its merges."""

_FIRST_READ = 1 << 20
_MAX_NAME_BYTES = 63
_LEAST_KEY_BYTES = 8 + 1 + 4 + 1
_LEAST_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")

Place = tuple[tuple[int, ...], TensorType, int]
"""Shape, type, and offset from the start of the tensor data."""


def read_header(path: str | PathLike[str]) -> Header:
    """The header of a GGUF file of version 2 or 3; raises GGUFError for anything else."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _read_growing(file, path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise GGUFError(
            f"{path} cannot be read ({reason}); give the path of a GGUF file.",
            f"{path} 파일을 읽을 수 없습니다({reason}). GGUF 파일의 경로를 주세요.",
        ) from None
    except _Bad as bad:
        raise _refusal(path, bad.en, bad.ko) from None


def check(path: str | PathLike[str]) -> Header:
    """The header of a file that llama.cpp will either load or refuse, but not die of."""
    header = read_header(path)
    problem = first_problem(header)
    if problem is not None:
        raise _refusal(header.path, *problem)
    return header


def parse_header(block: bytes, size: int, path: Path) -> Header:
    """The header of a file of `size` bytes that begins with `block`, which holds all of it."""
    try:
        return _Parser(block, size).header(path)
    except _Short:
        raise _refusal(path, _cut().en, _cut().ko) from None
    except _Bad as bad:
        raise _refusal(path, bad.en, bad.ko) from None


class _Bad(Exception):
    """What is wrong with the file, in English and in Korean."""

    def __init__(self, en: str, ko: str) -> None:
        super().__init__(en)
        self.en, self.ko = en, ko


class _Short(Exception):
    """The bytes that were read end before the header does."""


def _refusal(path: Path, en: str, ko: str) -> GGUFError:
    return GGUFError(
        f"{path} is not a usable GGUF file: {en}; download or convert it again.",
        f"{path} 파일은 쓸 수 있는 GGUF 파일이 아닙니다. {ko}. 다시 내려받거나 변환하세요.",
    )


def _read_growing(file: BinaryIO, path: Path) -> Header:
    """Parses ever longer beginnings of the file, so that a small header costs a small read."""
    size = fstat(file.fileno()).st_size
    block = file.read(_FIRST_READ)
    while True:
        try:
            return _Parser(block, size).header(path)
        except _Short:
            more = file.read(min(3 * len(block), MAX_HEADER_BYTES - len(block)))
            if not more:
                raise _too_short(len(block)) from None
            block += more


def _too_short(n_read: int) -> _Bad:
    if n_read < MAX_HEADER_BYTES:
        return _cut()
    most = MAX_HEADER_BYTES >> 20
    return _Bad(f"its header is larger than {most} MB", f"헤더가 {most}MB보다 큽니다")


class _Parser:
    """A position in the first bytes of a file of `size` bytes."""

    def __init__(self, block: bytes, size: int) -> None:
        self.block, self.size, self.position = block, size, 0
        self.n_strings = 0

    def header(self, path: Path) -> Header:
        version = self.version()
        n_tensors, n_keys = self.u64(), self.u64()
        self.check_counts(n_tensors, n_keys)
        metadata: dict[str, Any] = {}
        kinds: dict[str, ValueType] = {}
        for _ in range(n_keys):
            key = self.new_name(metadata)
            kinds[key] = _kind(self.u32())
            metadata[key] = self.value(kinds[key])
        places: dict[str, Place] = {}
        for _ in range(n_tensors):
            name = self.new_name(places)
            places[name] = self.place(name)
        alignment = _alignment(metadata)
        start = _padded(self.position, alignment)
        tensors = tuple(TensorInfo(n, s, t, start + o) for n, (s, t, o) in places.items())
        self.check_layout(tensors, start, alignment)
        return Header(path, self.size, version, metadata, tensors, start, kinds)

    def version(self) -> int:
        magic = self.take(4)
        if magic != b"GGUF":
            raise _Bad(f"it begins with {magic!r}", f"파일이 {magic!r}로 시작합니다")
        version = self.u32()
        if version & 0xFFFF == 0:
            raise _Bad("it is big-endian", "빅 엔디언 파일입니다")
        if version not in (2, 3):
            raise _Bad(f"its version is {version}", f"버전이 {version}입니다")
        return version

    def check_counts(self, n_tensors: int, n_keys: int) -> None:
        most = min(MAX_ENTRIES, self.size)
        room = self.size - self.position
        if max(n_tensors, n_keys) > most or (
            n_tensors * _LEAST_TENSOR_BYTES + n_keys * _LEAST_KEY_BYTES > room
        ):
            raise _Bad(
                f"it claims {n_tensors:,} tensors and {n_keys:,} keys",
                f"텐서가 {n_tensors:,}개, 키가 {n_keys:,}개라고 되어 있습니다",
            )

    def new_name(self, known: Mapping[str, Any]) -> str:
        name = _decode(self.take(self.u64()))
        if not name:
            raise _Bad("it has an empty name", "빈 이름이 있습니다")
        if name in known:
            raise _Bad(f"it has {name!r} twice", f"{name!r} 항목이 두 번 있습니다")
        return name

    def value(self, kind: ValueType) -> Any:
        if kind is ValueType.ARRAY:
            return self.array()
        if kind is ValueType.STRING:
            return _decode(self.take(self.u64()))
        code = "<" + _code(kind)
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def array(self) -> Array:
        number, length = self.u32(), self.u64()
        start = self.position
        if number == ValueType.STRING:
            self.skip_strings(length)
        else:
            self.skip(length * struct.calcsize("<" + _code(number)))
        return Array(self.block, start, length, ValueType(number))

    def skip_strings(self, count: int) -> None:
        self.n_strings += count
        if 8 * count > self.size - self.position or self.n_strings > MAX_STRINGS:
            raise _Bad(
                f"it claims an array of {count:,} strings",
                f"문자열이 {count:,}개인 배열이 있다고 되어 있습니다",
            )
        block, position, length_at = self.block, self.position, _U64.unpack_from
        try:
            for _ in range(count):
                position += 8 + length_at(block, position)[0]
        except (struct.error, OverflowError):
            position = max(position, len(block) + 1)
        self.skip(position - self.position)

    def place(self, name: str) -> Place:
        n_dims = self.u32()
        if not 1 <= n_dims <= 4 or len(name.encode()) > _MAX_NAME_BYTES:
            raise _bad_tensor(name)
        shape = struct.unpack(f"<{n_dims}Q", self.take(8 * n_dims))
        type_ = BY_NUMBER.get(self.u32())
        if type_ is None or min(shape) < 1 or shape[0] % type_.block:
            raise _bad_tensor(name)
        return shape, type_, self.u64()

    def check_layout(self, tensors: tuple[TensorInfo, ...], start: int, alignment: int) -> None:
        for tensor in tensors:
            if tensor.offset != start:
                raise _bad_tensor(tensor.name)
            if start + tensor.n_bytes > self.size:
                raise _Bad(
                    f"it ends within tensor '{tensor.name}'",
                    f"텐서 '{tensor.name}'의 중간에서 파일이 끝납니다",
                )
            start = _padded(start + tensor.n_bytes, alignment)

    def u32(self) -> int:
        return int(_U32.unpack(self.take(4))[0])

    def u64(self) -> int:
        return int(_U64.unpack(self.take(8))[0])

    def take(self, n_bytes: int) -> bytes:
        start = self.position
        self.skip(n_bytes)
        return self.block[start : self.position]

    def skip(self, n_bytes: int) -> None:
        self.position += n_bytes
        if self.position > self.size:
            raise _cut()
        if self.position > len(self.block):
            raise _Short


def _cut() -> _Bad:
    return _Bad("it ends before its header does", "헤더가 끝나기 전에 파일이 끝납니다")


def _bad_tensor(name: str) -> _Bad:
    return _Bad(
        f"the name, shape, type or offset of tensor '{name}' makes no sense",
        f"텐서 '{name}'의 이름, 모양, 타입 또는 위치가 올바르지 않습니다",
    )


def _kind(number: int) -> ValueType:
    if number != ValueType.ARRAY and number != ValueType.STRING:
        _code(number)
    return ValueType(number)


def _code(number: int) -> str:
    if number not in CODES:
        raise _Bad(f"it has a value of type {number}", f"타입이 {number}인 값이 있습니다")
    return CODES[ValueType(number)]


def _alignment(metadata: Mapping[str, Any]) -> int:
    value = metadata.get("general.alignment", 32)
    if not isinstance(value, int) or value < 1 or value & (value - 1):
        raise _Bad(f"its alignment is {value!r}", f"정렬 단위가 {value!r}입니다")
    return value


def _padded(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
