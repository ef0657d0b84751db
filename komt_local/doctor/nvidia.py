"""The NVIDIA driver, asked through NVML with ctypes; and what can be seen without a driver.

NVML comes with the driver. It loads no CUDA and takes no memory of the GPU.
https://docs.nvidia.com/deploy/nvml-api/
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from .machine import Gpu, Nvidia, Version

_LIBRARIES = ("libnvidia-ml.so.1", "/usr/lib/wsl/lib/libnvidia-ml.so.1")
_WINDOWS_LIBRARIES = ("nvml.dll", r"C:\Windows\System32\nvml.dll")
_RUNTIMES = (11, 12, 13)
_NVIDIA_VENDOR, _DISPLAY_CLASS = "0x10de", "0x03"


class _Memory(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]


class _Failed(Exception):
    pass


def look() -> Nvidia:
    """What there is of NVIDIA's on this machine."""
    library = _load(_WINDOWS_LIBRARIES if sys.platform == "win32" else _LIBRARIES)
    seen = Nvidia(runtimes=runtimes(), cards=cards())
    if library is None:
        return seen
    try:
        return replace(_ask(library), runtimes=seen.runtimes, cards=seen.cards)
    except _Failed as error:
        return replace(seen, error=str(error))


def _load(names: tuple[str, ...]) -> Any:
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def _ask(nvml: Any) -> Nvidia:
    _call(nvml, "nvmlInit_v2")
    try:
        count = ctypes.c_uint()
        _call(nvml, "nvmlDeviceGetCount_v2", ctypes.byref(count))
        gpus = tuple(_gpu(nvml, index) for index in range(count.value))
        return Nvidia(_text(nvml, "nvmlSystemGetDriverVersion"), _cuda(nvml), gpus)
    finally:
        nvml.nvmlShutdown()


def _cuda(nvml: Any) -> Version:
    """NVML counts 12.8 as 12080."""
    number = ctypes.c_int()
    _call(nvml, "nvmlSystemGetCudaDriverVersion_v2", ctypes.byref(number))
    return number.value // 1000, number.value % 1000 // 10


def _gpu(nvml: Any, index: int) -> Gpu:
    handle = ctypes.c_void_p()
    _call(nvml, "nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
    memory, major, minor = _Memory(), ctypes.c_int(), ctypes.c_int()
    _call(nvml, "nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory))
    _call(
        nvml,
        "nvmlDeviceGetCudaComputeCapability",
        handle,
        ctypes.byref(major),
        ctypes.byref(minor),
    )
    name = _text(nvml, "nvmlDeviceGetName", handle)
    return Gpu(name, memory.free, memory.total, (major.value, minor.value))


def _text(nvml: Any, function: str, *arguments: Any) -> str:
    buffer = ctypes.create_string_buffer(96)
    _call(nvml, function, *arguments, buffer, ctypes.c_uint(len(buffer)))
    return buffer.value.decode("utf-8", "replace")


def _call(nvml: Any, function: str, *arguments: Any) -> None:
    status = getattr(nvml, function)(*arguments)
    if status:
        describe = nvml.nvmlErrorString
        describe.restype = ctypes.c_char_p
        raise _Failed(f"{function}: {describe(status).decode('utf-8', 'replace')}")


def runtimes() -> tuple[int, ...]:
    """Major versions of the CUDA runtime whose libraries the loader finds."""
    return tuple(major for major in _RUNTIMES if _finds_runtime(major))


def _finds_runtime(major: int) -> bool:
    if sys.platform == "win32":
        return (
            ctypes.util.find_library(f"cudart64_{major * 10 if major < 12 else major}") is not None
        )
    try:
        ctypes.CDLL(f"libcudart.so.{major}" if major > 11 else "libcudart.so.11.0")
    except OSError:
        return False
    return True


def cards(root: Path = Path("/")) -> int:
    """NVIDIA's display adapters on the bus of a Linux machine, with a driver or without."""
    return sum(1 for _ in _display_adapters(root / "sys/bus/pci/devices"))


def _display_adapters(bus: Path) -> Iterator[Path]:
    for device in sorted(bus.glob("*")):
        try:
            vendor = (device / "vendor").read_text().strip()
            kind = (device / "class").read_text().strip()
        except OSError:
            continue
        if vendor == _NVIDIA_VENDOR and kind.startswith(_DISPLAY_CLASS):
            yield device
