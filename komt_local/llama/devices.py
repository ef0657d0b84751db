"""The GPUs that llama.cpp can use here, and what is free on them."""

from __future__ import annotations

import ctypes
from typing import Any

from ..offload import Device
from .library import ggml_function, native

_GPU, _INTEGRATED = 1, 2  # enum ggml_backend_dev_type
_UNIFIED = ("Metal", "MTL")


def gpus() -> list[Device]:
    """In llama.cpp's order; empty on a build without a GPU.

    Integrated ones count only where there is no other, as in llama.cpp itself.
    """
    if not native().llama_supports_gpu_offload():
        return []
    found = [_device(index) for index in range(_call("ggml_backend_dev_count", ctypes.c_size_t))]
    dedicated = [device for kind, device in found if kind == _GPU]
    return dedicated or [device for kind, device in found if kind == _INTEGRATED]


def _device(index: int) -> tuple[int, Device]:
    handle = ctypes.c_void_p(_call("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t(index)))
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    _call("ggml_backend_dev_memory", None, handle, ctypes.byref(free), ctypes.byref(total))
    kind = _call("ggml_backend_dev_type", ctypes.c_int, handle)
    name = _call("ggml_backend_dev_name", ctypes.c_char_p, handle).decode("utf-8", "replace")
    about = _call("ggml_backend_dev_description", ctypes.c_char_p, handle)
    is_shared = kind == _INTEGRATED or name.startswith(_UNIFIED)
    return kind, Device(name, about.decode("utf-8", "replace"), free.value, is_shared)


def _call(name: str, result: Any, *arguments: Any) -> Any:
    function = ggml_function(name)
    function.restype = result
    return function(*arguments)
