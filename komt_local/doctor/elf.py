"""As much of an ELF file (Linux) as tells what a library offers and needs.

https://refspecs.linuxfoundation.org/elf/elf.pdf
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap

_LOAD, _DYNAMIC, _DYNSYM = 1, 2, 11
_NEEDED, _STRTAB = 1, 5


@dataclass(frozen=True, slots=True)
class Elf:
    """A 64-bit little-endian ELF file: its segments as (kind, offset, address, size)."""

    data: mmap
    segments: tuple[tuple[int, int, int, int], ...]

    @staticmethod
    def read(data: mmap) -> Elf | None:
        """None for a file of another kind."""
        if data[:6] != b"\x7fELF\x02\x01":
            return None
        start = struct.unpack_from("<Q", data, 32)[0]
        size, count = _header_sizes(data, 54)
        rows = (struct.unpack_from("<II4Q", data, start + i * size) for i in range(count))
        return Elf(data, tuple((row[0], row[2], row[3], row[5]) for row in rows))

    def at(self, address: int, count: int) -> bytes:
        """Bytes by their address in memory; none outside of all segments."""
        for kind, offset, begin, size in self.segments:
            if kind == _LOAD and begin <= address < begin + size:
                start = offset + address - begin
                return self.data[start : start + count]
        return b""

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
        """The libraries that it is linked to."""
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


def _header_sizes(data: mmap, offset: int) -> tuple[int, int]:
    """Size of an entry and number of entries, as the file's header has them side by side."""
    size, count = struct.unpack_from("<HH", data, offset)
    return size, count
