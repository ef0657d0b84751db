"""The binding of llama.cpp: loaded once, silenced, and checked to be the one that is expected."""

from __future__ import annotations

import ctypes
import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any, cast

from ..errors import EngineError

PINNED_VERSION = "0.3.36"
_LOG_LOCK = threading.Lock()
_LOG: deque[tuple[int, str]] = deque(maxlen=200)
_WARN, _ERROR = 3, 4


@cache
def native() -> ModuleType:
    """The binding module, loaded once, silenced, and checked to be the one this was written for."""
    # Else a failed assertion in llama.cpp starts a debugger to print a backtrace.
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    try:
        from llama_cpp import llama_cpp
    except (ImportError, OSError, RuntimeError) as error:
        raise _unusable(str(error), str(error)) from error
    library = cast(ModuleType, llama_cpp)
    check_layout(library)
    library.llama_log_set(_log_callback(library), None)
    library.llama_backend_init()
    return library


def ggml_function(name: str) -> Any:
    """A function of ggml's that the binding leaves out."""
    from llama_cpp import _ggml

    if hasattr(_ggml.libggml, name):
        return getattr(_ggml.libggml, name)
    # Windows looks no further than the library itself; the others find what it is linked to.
    load = _ggml.ctypes_ext.load_shared_library
    return getattr(load("ggml-base", _ggml.libggml_base_path), name)


def _unusable(en: str, ko: str) -> EngineError:
    install = f"pip install --force-reinstall llama-cpp-python=={PINNED_VERSION}"
    return EngineError(
        f"llama.cpp cannot be used ({en}); reinstall it: {install}",
        f"llama.cpp를 쓸 수 없습니다({ko}). 다시 설치하세요: {install}",
    )


def check_layout(library: ModuleType) -> None:
    """The structs are passed by value: fields that moved would be read as something else."""
    context, model = library.llama_context_default_params(), library.llama_model_default_params()
    found = (
        (context.n_batch, context.n_ubatch, context.flash_attn_type, context.type_k),
        (context.offload_kqv, context.swa_full, context.kv_unified, context.ctx_other),
        (model.vocab_only, model.use_extra_bufts, model.no_alloc),
    )
    if found != ((2048, 512, -1, 1), (True, True, False, None), (False, True, False)):
        raise _unusable(
            f"its structs are not those of llama-cpp-python {PINNED_VERSION}",
            f"구조체가 llama-cpp-python {PINNED_VERSION}의 것과 다름",
        )


@cache
def _log_callback(library: ModuleType) -> Any:
    """Kept by the cache for as long as the process runs, because llama.cpp keeps the pointer."""

    @library.llama_log_callback  # type: ignore[untyped-decorator]
    def keep(level: int, text: bytes, _: ctypes.c_void_p) -> None:
        if level in (_WARN, _ERROR):
            _LOG.append((level, text.decode("utf-8", "replace").strip()))

    return keep


@contextmanager
def logging() -> Iterator[None]:
    """What llama.cpp logs within is about one thing, for `complaint`; its log is the process's.

    The callback is set each time, for whoever else uses llama.cpp in this process has its own.
    """
    library = native()
    with _LOG_LOCK:
        _LOG.clear()
        library.llama_log_set(_log_callback(library), None)
        yield


def complaint() -> str:
    """What llama.cpp logged: the first error, else the first warning."""
    lines = [text for level, text in _LOG if level == _ERROR] or [text for _, text in _LOG]
    return lines[0] if lines else "no reason given"
