"""As much of a PE file (Windows) as tells what a library offers and needs.

https://learn.microsoft.com/en-us/windows/win32/debug/pe-format
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap

_PE32_PLUS = 0x20B
_DIRECTORIES = 112  # where they begin in the optional header
_EXPORTS, _IMPORTS = 0, 1


@dataclass(frozen=True, slots=True)
class Pe:
    """A 64-bit PE file: its sections as (address, size, offset), its tables by address."""

    data: mmap
    sections: tuple[tuple[int, int, int], ...]
    exports: int
    imports: int

    @staticmethod
    def read(data: mmap) -> Pe | None:
        """None for a file of another kind."""
        if data[:2] != b"MZ":
            return None
        start = struct.unpack_from("<I", data, 0x3C)[0]
        n_sections, optional_size = struct.unpack_from("<H12xH", data, start + 6)
        optional = start + 24
        magic = struct.unpack_from("<H", data, optional)[0]
        if data[start : start + 4] != b"PE\0\0" or magic != _PE32_PLUS:
            return None
        tables = [
            struct.unpack_from("<I", data, optional + _DIRECTORIES + 8 * which)[0]
            for which in (_EXPORTS, _IMPORTS)
        ]
        table = optional + optional_size
        rows = [struct.unpack_from("<8x4I", data, table + 40 * i) for i in range(n_sections)]
        sections = tuple((address, max(a, b), offset) for a, address, b, offset in rows)
        return Pe(data, sections, *tables)

    def at(self, address: int, count: int) -> bytes:
        """Bytes by their address in memory; none outside of all sections."""
        for begin, size, offset in self.sections:
            if begin <= address < begin + size:
                start = offset + address - begin
                return self.data[start : start + count]
        return b""

    def symbols(self) -> Iterator[tuple[str, int]]:
        """What the library offers: name and address."""
        if not self.exports:
            return
        count, functions, names, ordinals = struct.unpack("<4I", self.at(self.exports + 24, 16))
        for i in range(count):
            name = struct.unpack("<I", self.at(names + 4 * i, 4))[0]
            ordinal = struct.unpack("<H", self.at(ordinals + 2 * i, 2))[0]
            yield self._text(name), struct.unpack("<I", self.at(functions + 4 * ordinal, 4))[0]

    def needed(self) -> Iterator[str]:
        """The libraries that it is linked to."""
        entry = self.imports
        while entry and (name := struct.unpack("<12xI4x", self.at(entry, 20))[0]):
            yield self._text(name)
            entry += 20

    def _text(self, address: int) -> str:
        return self.at(address, 512).partition(b"\0")[0].decode()
