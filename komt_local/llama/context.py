"""A context in llama.cpp: memory for sequences, the batch that fills it, a flag that stops it."""

from __future__ import annotations

import ctypes
import os
from array import array
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from ..types import Likelihood, TokenScore
from .adapters import Adapter
from .library import complaint, ggml_function, logging, native
from .loaded import NativeModel
from .sampler import Sampler

NO_SLOT, ABORTED = 1, 2
"""What `Context.decode` returns when the memory is full, and when `Context.abort` was called."""


class Span(NamedTuple):
    """Tokens for one sequence: `tokens[start:stop]` of a buffer of int32, at those positions.

    Logits are wanted after each of the last `n_outputs`.
    """

    sequence: int
    tokens: Any
    start: int
    stop: int
    n_outputs: int = 1


class Context:
    """Memory for `n_slots` sequences of `n_ctx` tokens each, and the batch that fills it.

    A batch may ask for the logits of `n_outputs` tokens for each of the slots.
    Every sequence has memory of its own (`kv_unified` off): one costs another neither room nor,
    bit for bit, anything in its logits that the batch's size does not, and llama.cpp is 5 to 15 %
    faster than with one shared pool. A shared prefix is copied, not shared. `exact` keeps keys and
    values in f32, without flash attention, which would round them to f16; else they are kept in
    `cache_types`, and llama.cpp decides on flash attention.
    """

    def __init__(
        self,
        model: NativeModel,
        *,
        n_ctx: int,
        n_slots: int = 1,
        n_batch: int = 512,
        n_outputs: int = 1,
        threads: int = 1,
        exact: bool = False,
        cache_types: tuple[str, str] = ("f16", "f16"),
    ) -> None:
        self.n_ctx, self.n_slots, self.n_batch, self.n_outputs = n_ctx, n_slots, n_batch, n_outputs
        self._library, self._row = native(), ctypes.c_float * model.n_vocab
        params = self._params(threads, ("f32", "f32") if exact else cache_types, not exact)
        with logging(), model.open() as pointer:
            self._context = self._library.llama_init_from_model(pointer, params)
            if not self._context:
                raise _no_context(n_ctx, complaint())
        self._memory = self._library.llama_get_memory(self._context)
        self._batch = _Batch(self._library, n_batch, n_ctx)
        self._abort = _AbortFlag(self._library, self._context)

    def _params(self, threads: int, cache_types: tuple[str, str], flash: bool) -> Any:
        params = self._library.llama_context_default_params()
        params.n_ctx = self.n_ctx * self.n_slots
        params.n_seq_max = self.n_slots
        params.n_outputs_max = self.n_slots * self.n_outputs
        params.n_batch = params.n_ubatch = self.n_batch
        params.n_threads = params.n_threads_batch = threads
        params.type_k, params.type_v = (
            getattr(self._library, f"GGML_TYPE_{name.upper()}") for name in cache_types
        )
        if not flash:
            params.flash_attn_type = self._library.LLAMA_FLASH_ATTN_TYPE_DISABLED
        return params

    def decode(self, spans: list[Span]) -> int:
        """Evaluate one batch; 0, NO_SLOT or ABORTED. Raises EngineError when llama.cpp fails.

        After ABORTED a sequence may hold any part of its span: cut it with `keep`.
        """
        code = int(self._library.llama_decode(self._context, self._batch.fill(spans)))
        if code < 0:
            raise EngineError(
                f"llama.cpp failed to evaluate a batch (code {code}: {complaint()}); "
                "load the model again.",
                f"llama.cpp가 배치를 계산하지 못했습니다(코드 {code}: {complaint()}). "
                "모델을 다시 여세요.",
            )
        self._library.llama_synchronize(self._context)
        return code

    def logits(self, row: int) -> NDArray[np.float32]:
        """A copy of the logits after token `row` of the last batch, which must have asked."""
        return self._logits(row).copy()

    def _logits(self, row: int) -> NDArray[np.float32]:
        """The same in llama.cpp's own memory, until the next batch."""
        pointer = self._library.llama_get_logits_ith(self._context, row)
        memory: Any = self._row.from_address(ctypes.addressof(pointer.contents))
        return np.frombuffer(memory, np.float32)

    def sample(self, sampler: Sampler, row: int) -> int:
        """Choose the token that follows token `row` of the last batch.

        Raises EngineError where a grammar allows none.
        """
        if sampler.grammar is not None:
            return sampler.grammar.choose(sampler.chain, self.logits(row))
        if sampler.takes_likeliest:
            return int(self._logits(row).argmax())
        return int(self._library.llama_sampler_sample(sampler.chain, self._context, row))

    def score(self, row: int, token: int) -> TokenScore:
        """How likely `token` was to follow token `row` of the last batch, which must have asked."""
        found = self._log_likelihoods(row)
        return TokenScore(token, float(found[token]), bool(found[token] == found.max()))

    def likelihood(
        self, row: int, token: int, n_likeliest: int, watched: Sequence[int] = ()
    ) -> Likelihood:
        """The same, beside the likeliest tokens in that place and those that are watched."""
        found = self._log_likelihoods(row)
        best: list[int] = np.argpartition(-found, n_likeliest)[:n_likeliest].tolist()
        in_order = sorted(best, key=lambda other: (-found[other], other))
        others = tuple((other, float(found[other])) for other in (*in_order, *watched))
        return Likelihood(token, float(found[token]), others)

    def _log_likelihoods(self, row: int) -> NDArray[np.float64]:
        logits = self.logits(row).astype(np.float64)
        logits -= logits.max()
        logits -= np.log(np.exp(logits).sum())
        return logits

    def set_adapters(self, adapters: Sequence[tuple[Adapter, float]]) -> None:
        """From now on every sequence is evaluated with these adapters, at these scales."""
        pointers = (self._library.llama_adapter_lora_p_ctypes * len(adapters))(
            *(adapter.pointer for adapter, _ in adapters)
        )
        scales = (ctypes.c_float * len(adapters))(*(scale for _, scale in adapters))
        self._library.llama_set_adapters_lora(self._context, pointers, len(adapters), scales)

    def keep(self, sequence: int, n_tokens: int) -> bool:
        """Cut a sequence to its first tokens; False (and empty) where the memory cannot be cut."""
        if self._library.llama_memory_seq_rm(self._memory, sequence, n_tokens, -1):
            return True
        self._library.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        return n_tokens == 0

    def copy(self, source: int, target: int) -> None:
        """Make a sequence hold what another one holds.

        Always the whole of it: llama.cpp aborts the process for a part, where sequences have
        memory of their own (`llama_kv_cache::seq_cp`).
        """
        self._library.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def state_bytes(self, sequence: int) -> int:
        """About how large a file `save` would write."""
        return int(self._library.llama_state_seq_get_size(self._context, sequence))

    def save(self, sequence: int, path: Path, tokens: array[int]) -> bool:
        """Write what a sequence holds, which are these tokens, to a file; False if that failed."""
        pointer = (ctypes.c_int32 * len(tokens)).from_buffer(tokens)
        arguments = (self._context, os.fsencode(path), sequence, pointer, len(tokens))
        return bool(self._library.llama_state_seq_save_file(*arguments))

    def load(self, sequence: int, path: Path) -> array[int] | None:
        """Have a sequence hold what a file has, and return its tokens.

        None, and an empty sequence, where the file does not fit this context. The file must be
        whole: llama.cpp takes its word for what is in it.
        """
        self.keep(sequence, 0)
        tokens = (ctypes.c_int32 * self.n_ctx)()
        count = ctypes.c_size_t()
        arguments = (self._context, os.fsencode(path), sequence, tokens, self.n_ctx)
        if self._library.llama_state_seq_load_file(*arguments, ctypes.byref(count)):
            return array("i", tokens[: count.value])
        self.keep(sequence, 0)
        return None

    def abort(self) -> None:
        """Have a `decode` under way in another thread return ABORTED soon (on the CPU)."""
        self._abort.set(True)

    def resume(self) -> None:
        self._abort.set(False)

    def close(self) -> None:
        if self._context is not None:
            self._library.llama_free(self._context)
            self._context = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()


def _no_context(n_ctx: int, why: str) -> EngineError:
    return EngineError(
        f"llama.cpp could not make a context of {n_ctx:,} tokens ({why}); ask for a smaller one.",
        f"llama.cpp가 {n_ctx:,}토큰 컨텍스트를 만들지 못했습니다({why}). 더 작게 요청하세요.",
    )


class _Batch:
    """A `llama_batch` over arrays of our own, so that spans are filled in as slices."""

    def __init__(self, library: ModuleType, n_batch: int, n_ctx: int) -> None:
        self._counting = np.arange(n_ctx, dtype=np.int32)
        self._tokens = np.zeros(n_batch, np.int32)
        self._positions = np.zeros(n_batch, np.int32)
        self._sequences = np.zeros(n_batch, np.int32)
        self._outputs = np.zeros(n_batch, np.int8)
        self._ones = np.ones(n_batch, np.int32)
        # An array of pointers, each to this token's one sequence id.
        self._pointers = self._sequences.ctypes.data + 4 * np.arange(n_batch, dtype=np.uintp)
        batch = self._batch = library.llama_batch()
        for name, values in (
            ("token", self._tokens),
            ("pos", self._positions),
            ("n_seq_id", self._ones),
            ("seq_id", self._pointers),
            ("logits", self._outputs),
        ):
            kind = type(getattr(batch, name))
            setattr(batch, name, ctypes.cast(values.ctypes.data, kind))

    def fill(self, spans: list[Span]) -> Any:
        at = 0
        self._outputs[:] = 0
        for sequence, tokens, start, stop, n_outputs in spans:
            end = at + stop - start
            self._tokens[at:end] = tokens[start:stop]
            self._positions[at:end] = self._counting[start:stop]
            self._sequences[at:end] = sequence
            self._outputs[end - n_outputs : end] = 1
            at = end
        self._batch.n_tokens = at
        return self._batch


class _AbortFlag:
    """Stops a running evaluation without a Python callback.

    ggml asks its abort callback, `bool (*)(void *)`, before every node of the graph; a callback in
    Python would fight for the interpreter's lock a thousand times per batch. `ggml_is_empty` has
    the same signature and says whether a tensor has a dimension of 0: so it is the callback, and
    an all but blank tensor, whose first dimension is flipped, the flag.
    """

    _FIRST_DIMENSION = 16  # offset of `ne` in struct ggml_tensor, after type and buffer
    _TENSOR_BYTES = 512  # more than sizeof(struct ggml_tensor)

    def __init__(self, library: ModuleType, context: Any) -> None:
        self._tensor = ctypes.create_string_buffer(self._TENSOR_BYTES)
        address = ctypes.addressof(self._tensor) + self._FIRST_DIMENSION
        self._dimensions = (ctypes.c_int64 * 4).from_address(address)
        self._dimensions[:] = [1, 1, 1, 1]
        self._callback = ctypes.cast(ggml_function("ggml_is_empty"), library.ggml_abort_callback)
        data = ctypes.cast(self._tensor, ctypes.c_void_p)
        library.llama_set_abort_callback(context, self._callback, data)

    def set(self, aborting: bool) -> None:
        self._dimensions[0] = 0 if aborting else 1
