"""The logits that llama.cpp computes with a file, on the processor and without any rounding it has
a switch for. Beside `ggml`, the only module here that loads the native library."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from komt_convert.errors import GGUFError
from komt_convert.gguf_file import check

_F32 = 0
"""GGML_TYPE_F32, for keys and values."""


class Model:
    """A loaded file and a context of `window` tokens; use it as a context manager."""

    def __init__(self, path: Path, window: int, threads: int) -> None:
        import llama_cpp

        check(path)
        self._api: Any = llama_cpp
        self._model: Any = None
        self._context: Any = None
        self._silence()
        parameters = llama_cpp.llama_model_default_params()
        parameters.n_gpu_layers = 0
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        if not self._model:
            self.close()
            raise _refused(path)
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx = settings.n_batch = settings.n_ubatch = window
        settings.type_k = settings.type_v = _F32
        settings.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        settings.n_threads = settings.n_threads_batch = threads
        self._context = llama_cpp.llama_init_from_model(self._model, settings)
        if not self._context:
            self.close()
            raise _refused(path)
        vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self._n_rows = int(llama_cpp.llama_vocab_n_tokens(vocabulary))
        self._path = path

    def logits(self, ids: list[int]) -> NDArray[np.float32]:
        """Those of every position, (len(ids), rows of the vocabulary)."""
        api, n = self._api, len(ids)
        api.llama_memory_clear(api.llama_get_memory(self._context), True)
        batch = api.llama_batch_init(n, 0, 1)
        try:
            batch.n_tokens = n
            for i, token in enumerate(ids):
                batch.token[i], batch.pos[i], batch.logits[i] = token, i, 1
                batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
            if api.llama_decode(self._context, batch):
                raise _refused(self._path)
            found = api.llama_get_logits(self._context)
            return np.ctypeslib.as_array(found, (n, self._n_rows)).copy()
        finally:
            api.llama_batch_free(batch)

    def _silence(self) -> None:
        """Keeps llama.cpp's log off the terminal; the callback is one for the whole process."""
        api = self._api
        self._log = api.llama_log_callback(lambda level, text, data: None)
        self._log_before, self._log_data = api.llama_log_callback(), ctypes.c_void_p()
        api.llama_log_get(ctypes.byref(self._log_before), ctypes.byref(self._log_data))
        api.llama_log_set(self._log, ctypes.c_void_p(0))

    def close(self) -> None:
        if self._context:
            self._api.llama_free(self._context)
        if self._model:
            self._api.llama_model_free(self._model)
        self._context = self._model = None
        self._api.llama_log_set(self._log_before, self._log_data)

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _refused(path: Path) -> GGUFError:
    return GGUFError(
        f"llama.cpp cannot run {path}; convert it again, or free some memory.",
        f"llama.cpp가 {path} 파일을 실행하지 못합니다. 다시 변환하거나 메모리를 비우세요.",
    )
