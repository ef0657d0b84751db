"""How glibc deals with the large arrays that are made and let go for every chunk of rows.

By itself it gives their memory back to the system and takes it anew each time, page by page: half
of the processor time of an F16 conversion was spent on that. Where another C library is at work,
nothing happens here.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""From glibc's malloc.h; https://man7.org/linux/man-pages/man3/mallopt.3.html."""
KEPT_BYTES = 256 << 20
LARGEST_BYTES = 32 << 20
"""The most that glibc allows for an array on its heap."""


def keep_freed_memory() -> None:
    """Lets this process use freed memory again, up to `KEPT_BYTES`, instead of giving it back."""
    if not sys.platform.startswith("linux"):
        return
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(M_MMAP_THRESHOLD, LARGEST_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
