"""ggml and llama.cpp's tokenizer, as the libraries of llama-cpp-python offer them in C.

This is the only module of the package that loads the native library. Rows are quantized by
`ggml_quantize_chunk`, so the bytes are llama.cpp's own; every row stands alone, ctypes releases the
GIL, and all functions here may be called from several threads. Which type a tensor gets is not
decided here (see `recipes`).
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from komt_convert.errors import GGUFError, QuantizationError
from komt_convert.tensor_types import TensorType
from komt_convert.tensors import FloatArray

QUANTIZATION_VERSION = 2
"""GGML_QNT_VERSION, written as general.quantization_version."""

_LOG_LEVEL_ERROR = 4

Bytes = NDArray[np.uint8]

_EXPONENT = {"F16": 0x7C00, "BF16": 0x7F80}
"""The bits that NaN and infinity have all; numpy looks at them eight times as quickly as ggml."""
_READERS = {"F16": "ggml_fp16_to_fp32_row", "BF16": "ggml_bf16_to_fp32_row"}


def quantize(type_: TensorType, rows: FloatArray, importance: FloatArray | None = None) -> Bytes:
    """The bytes of `rows` (n_rows, row_length) as `type_`: (n_rows, bytes per row).

    `importance` weighs the columns. Raises QuantizationError for a type that cannot do without.
    """
    if importance is None and _library().ggml_quantize_requires_imatrix(type_.number):
        raise _needs_importance(type_)  # ggml would end the process
    n_rows, row_length = rows.shape
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    out = np.empty((n_rows, type_.row_bytes(row_length)), np.uint8)
    if importance is not None:
        importance = np.ascontiguousarray(importance, np.float32)
    weights = None if importance is None else importance.ctypes.data
    if type_.name == "F16" and (to_half := _to_half()):
        to_half(rows.ctypes.data, out.ctypes.data, rows.size)
        return out
    _initialize(type_.number)
    size = _library().ggml_quantize_chunk(
        type_.number, rows.ctypes.data, out.ctypes.data, 0, n_rows, row_length, weights
    )
    if size != out.nbytes:
        raise QuantizationError(
            f"ggml wrote {size:,} bytes of {type_.name} where {out.nbytes:,} belong; "
            "install the version of llama-cpp-python that komt-local asks for.",
            f"ggml이 {type_.name} {out.nbytes:,}바이트 대신 {size:,}바이트를 썼습니다. "
            "komt-local이 요구하는 버전의 llama-cpp-python을 설치하세요.",
        )
    return out


@cache
def _to_half() -> Callable[[int, int, int], None] | None:
    """ggml's conversion with the processor's own instruction, twenty times sooner than the chunk's;
    None where the library with the CPU's kernels is another one."""
    try:
        function = ctypes.CDLL(str(_library_path("ggml-cpu"))).ggml_cpu_fp32_to_fp16
    except (QuantizationError, OSError, AttributeError):
        return None
    function.argtypes, function.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64), None
    return function


def _needs_importance(type_: TensorType) -> QuantizationError:
    return QuantizationError(
        f"{type_.name} needs an importance matrix; give one with --imatrix.",
        f"{type_.name}에는 중요도 행렬이 필요합니다. --imatrix로 지정하세요.",
    )


def is_valid(type_: TensorType, data: Bytes) -> bool:
    """Whether there is no NaN and no infinity in the values or scales of whole rows."""
    if exponent := _EXPONENT.get(type_.name):
        return bool((data.view("<u2") & exponent).max(initial=0) < exponent)
    library = _library()
    return bool(library.ggml_validate_row_data(type_.number, data.ctypes.data, data.nbytes))


def dequantize(type_: TensorType, data: Bytes, row_length: int) -> FloatArray:
    """The values of whole rows, as (n_rows, row_length)."""
    data = np.ascontiguousarray(data)
    if type_.name == "F32":
        return data.view(np.float32).reshape(-1, row_length)
    out = np.empty((data.nbytes // type_.row_bytes(row_length), row_length), np.float32)
    _reader(type_)(data.ctypes.data, out.ctypes.data, out.size)
    return out


@cache
def _initialize(number: int) -> None:
    """Builds the tables that some types need; ggml guards it with a lock."""
    _library().ggml_quantize_init(number)


@cache
def _reader(type_: TensorType) -> Any:
    name = _READERS.get(type_.name) or f"dequantize_row_{_type_name(type_)}"
    function = getattr(_library(), name)
    function.argtypes, function.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64), None
    return function


def _type_name(type_: TensorType) -> str:
    return str(_library().ggml_type_name(type_.number).decode())


@cache
def _library() -> ctypes.CDLL:
    """The library with the functions of ggml-base.

    It is reached through libllama, by the path that llama_cpp itself loads: each library lies there
    under several names, as copies, and another path would bring a second ggml into the process.
    Windows resolves names in one library only and keeps no copies.
    """
    name = "ggml-base" if sys.platform == "win32" else "llama"
    library = ctypes.CDLL(str(_library_path(name)))
    library.ggml_quantize_chunk.argtypes = (
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_void_p,
    )
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_init.argtypes = (ctypes.c_int,)
    library.ggml_quantize_init.restype = None
    library.ggml_quantize_requires_imatrix.argtypes = (ctypes.c_int,)
    library.ggml_quantize_requires_imatrix.restype = ctypes.c_bool
    library.ggml_validate_row_data.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
    library.ggml_validate_row_data.restype = ctypes.c_bool
    library.ggml_type_name.argtypes = (ctypes.c_int,)
    library.ggml_type_name.restype = ctypes.c_char_p
    return library


def _library_path(name: str) -> Path:
    """Where llama_cpp keeps a library; found without importing it, which takes a while."""
    from importlib.util import find_spec

    spec = find_spec("llama_cpp")
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        for file in (f"lib{name}.so", f"lib{name}.dylib", f"{name}.dll", f"lib{name}.dll"):
            path = Path(folder, "lib", file)
            if path.exists():
                return path
    raise QuantizationError(
        f"The library '{name}' of llama-cpp-python is not there; "
        "install it with: pip install llama-cpp-python",
        f"llama-cpp-python의 '{name}' 라이브러리가 없습니다. "
        "다음으로 설치하세요: pip install llama-cpp-python",
    )


class Tokenizer:
    """llama.cpp's tokenizer of a GGUF file, loaded without its tensors.

    The file should have passed `gguf_file.check`. One thread at a time; close it, or use it as a
    context manager. The errors that llama.cpp logs while loading are kept in `complaints`.
    """

    def __init__(self, path: Path) -> None:
        import llama_cpp

        self._api: Any = llama_cpp
        self.complaints: list[str] = []
        with self._quiet():
            parameters = llama_cpp.llama_model_default_params()
            parameters.vocab_only = True
            self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        if not self._model:
            raise self._refused(path)
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._model)

    def encode(self, text: str, parse_special: bool = False) -> list[int]:
        """Token ids, never with BOS or EOS; control tokens in `text` only if `parse_special`."""
        raw = text.encode()
        room = 4 * len(raw) + 2  # a user-defined token of one byte makes llama.cpp add spaces
        ids = (self._api.llama_token * room)()
        n_ids = self._api.llama_tokenize(
            self._vocabulary, raw, len(raw), ids, room, False, parse_special
        )
        if n_ids < 0:
            raise GGUFError(
                f"llama.cpp gives more tokens than bytes for {text!r}; convert the file again.",
                f"llama.cpp가 {text!r}에 바이트 수보다 많은 토큰을 만듭니다. 다시 변환하세요.",
            )
        return list(ids[:n_ids])

    def __len__(self) -> int:
        return int(self._api.llama_vocab_n_tokens(self._vocabulary))

    def close(self) -> None:
        if self._model:
            self._api.llama_model_free(self._model)
            self._model = None

    def __enter__(self) -> Tokenizer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Keeps llama.cpp's log off the terminal; the callback is one for the whole process."""
        api = self._api

        def keep(level: int, text: bytes, data: object) -> None:
            if level == _LOG_LEVEL_ERROR:
                self.complaints.append(text.decode("utf-8", "replace").rstrip())

        callback = api.llama_log_callback(keep)
        before, data = api.llama_log_callback(), ctypes.c_void_p()
        api.llama_log_get(ctypes.byref(before), ctypes.byref(data))
        api.llama_log_set(callback, ctypes.c_void_p(0))
        try:
            yield
        finally:
            api.llama_log_set(before, data)

    def _refused(self, path: Path) -> GGUFError:
        said = self.complaints[0] if self.complaints else "no reason given"
        return GGUFError(
            f"llama.cpp cannot load the tokenizer of {path} ({said}); convert it again.",
            f"llama.cpp가 {path}의 토크나이저를 읽지 못합니다({said}). 다시 변환하세요.",
        )
