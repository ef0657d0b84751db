"""What a native library was built for, read from its file without running any of it.

ggml's `ggml_cpu_has_avx2()` and its like return what the compiler was told, so each is a function
of two instructions, `return 1` or `return 0`, whose bytes say which CPU features the build takes
for granted. ELF (Linux) and PE files (Windows) are read; of others nothing is known beforehand.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from .elf import Elf
from .pe import Pe

_PREFIX = "ggml_cpu_has_"

_LANDING_PADS = (bytes.fromhex("f30f1efa"), bytes.fromhex("5f2403d5"))  # endbr64, bti c
_RETURNS = {
    bytes.fromhex("b801000000c3"): True,  # x86-64: mov eax, 1; ret
    bytes.fromhex("31c0c3"): False,  # xor eax, eax; ret
    bytes.fromhex("33c0c3"): False,  # the same, as Microsoft's compiler writes it
    bytes.fromhex("b800000000c3"): False,
    bytes.fromhex("20008052c0035fd6"): True,  # AArch64: mov w0, #1; ret
    bytes.fromhex("00008052c0035fd6"): False,
    bytes.fromhex("e0031f2ac0035fd6"): False,  # mov w0, wzr; ret
}

# ValueError is that of an empty file, and of text that is none.
_UNREADABLE = (OSError, ValueError, IndexError, struct.error)


def built_for(path: Path) -> frozenset[str] | None:
    """The CPU features that a ggml library takes for granted, under ggml's names.

    None where the file does not say: it is none of ours, or its functions look different.
    """
    try:
        library = _open(path)
        code = {
            name.removeprefix(_PREFIX): library.at(address, 16)
            for name, address in library.symbols()
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
        return tuple(_open(path).needed())
    except _UNREADABLE:
        return ()


def _open(path: Path) -> Elf | Pe:
    """Mapped, for a library with CUDA in it has a gigabyte."""
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    found = Elf.read(data) or Pe.read(data)
    if found is None:
        raise ValueError(f"{path} is neither ELF nor PE")
    return found


def _constant(code: bytes) -> bool | None:
    for pad in _LANDING_PADS:
        code = code.removeprefix(pad)
    found = (value for pattern, value in _RETURNS.items() if code.startswith(pattern))
    return next(found, None)
