"""What a native library was built for, read from its file without running any of it.

ggml's `ggml_cpu_has_avx2()` and its like return what the compiler was told, so each is a function
of two instructions, `return 1` or `return 0`, whose bytes say which CPU features the build takes
for granted. Only ELF files (Linux) are read; of others nothing is known beforehand.
https://refspecs.linuxfoundation.org/elf/elf.pdf
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PREFIX = "ggml_cpu_has_"
_LOAD, _DYNAMIC, _DYNSYM = 1, 2, 11
_NEEDED, _STRTAB = 1, 5

_LANDING_PADS = (bytes.fromhex("f30f1efa"), bytes.fromhex("5f2403d5"))  # endbr64, bti c
_RETURNS = {
    bytes.fromhex("b801000000c3"): True,  # x86-64: mov eax, 1; ret
    bytes.fromhex("31c0c3"): False,  # xor eax, eax; ret
    bytes.fromhex("b800000000c3"): False,
    bytes.fromhex("20008052c0035fd6"): True,  # AArch64: mov w0, #1; ret
    bytes.fromhex("00008052c0035fd6"): False,
    bytes.fromhex("e0031f2ac0035fd6"): False,  # mov w0, wzr; ret
}


class _NotElf(Exception):
    pass


# ValueError is that of an empty file, and of text that is none.
_UNREADABLE = (_NotElf, OSError, ValueError, IndexError, struct.error)


def built_for(path: Path) -> frozenset[str] | None:
    """The CPU features that a ggml library takes for granted, under ggml's names.

    None where the file does not say: it is none of ours, or its functions look different.
    """
    try:
        elf = _Elf.read(path)
        code = {
            name.removeprefix(_PREFIX): elf.at(address, 16)
            for name, address in elf.symbols()
            if name.startswith(_PREFIX)
        }
    except _UNREADABLE:
        return None
    returns = {name: _constant(function) for name, function in code.items()}
    if not returns or None in returns.values():
        return None
    return frozenset(name for name, value in returns.items() if value)


def needed(path: Path) -> tuple[str, ...]:
    """The libraries that a library is linked to; empty where the file does not say."""
    try:
        return tuple(_Elf.read(path).needed())
    except _UNREADABLE:
        return ()


def _constant(code: bytes) -> bool | None:
    for pad in _LANDING_PADS:
        code = code.removeprefix(pad)
    found = (value for pattern, value in _RETURNS.items() if code.startswith(pattern))
    return next(found, None)


@dataclass(frozen=True, slots=True)
class _Elf:
    """A 64-bit little-endian ELF file: its segments as (kind, offset, address, size)."""

    data: mmap.mmap
    segments: tuple[tuple[int, int, int, int], ...]

    @staticmethod
    def read(path: Path) -> _Elf:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if data[:6] != b"\x7fELF\x02\x01":
            raise _NotElf(path)
        start = struct.unpack_from("<Q", data, 32)[0]
        size, count = _header_sizes(data, 54)
        rows = (struct.unpack_from("<II4Q", data, start + i * size) for i in range(count))
        return _Elf(data, tuple((row[0], row[2], row[3], row[5]) for row in rows))

    def at(self, address: int, count: int) -> bytes:
        """Bytes by their address in memory."""
        for kind, offset, begin, size in self.segments:
            if kind == _LOAD and begin <= address < begin + size:
                start = offset + address - begin
                return self.data[start : start + count]
        raise _NotElf(f"no segment holds {address:#x}")

    def symbols(self) -> Iterator[tuple[str, int]]:
        """What the library offers: name and address."""
        start = struct.unpack_from("<Q", self.data, 40)[0]
        size, count = _header_sizes(self.data, 58)
        rows = [struct.unpack_from("<II4QII2Q", self.data, start + i * size) for i in range(count)]
        for row in rows:
            if row[1] == _DYNSYM:
                names = rows[row[6]][4]
                for at in range(row[4], row[4] + row[5], 24):
                    name, address = struct.unpack_from("<I4xQ", self.data, at)
                    yield self._text(names + name), address

    def needed(self) -> Iterator[str]:
        entries = [
            struct.unpack_from("<QQ", self.data, at)
            for kind, offset, _, size in self.segments
            if kind == _DYNAMIC
            for at in range(offset, offset + size, 16)
        ]
        names = next((value for tag, value in entries if tag == _STRTAB), 0)
        for tag, value in entries:
            if tag == _NEEDED:
                yield self.at(names + value, 256).partition(b"\0")[0].decode()

    def _text(self, offset: int) -> str:
        return self.data[offset : self.data.find(b"\0", offset)].decode()


def _header_sizes(data: mmap.mmap, offset: int) -> tuple[int, int]:
    """Size of an entry and number of entries, as the file's header has them side by side."""
    size, count = struct.unpack_from("<HH", data, offset)
    return size, count
