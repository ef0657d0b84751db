"""The seam to llama.cpp: everything that touches `llama_cpp`, and nothing that decides anything.

    load(path) -> NativeModel     weights and vocabulary: facts, tokenize, piece
    Context(model, ...)           memory for sequences: decode, logits, keep, copy
    Sampler(model, sampling)      how the next token is chosen, a chain in C

These are thin wrappers of the low-level API with llama.cpp's failures turned into `errors`, its
log captured (never printed) and quoted there. A context and its samplers belong to one thread; a
model may be used from many. https://github.com/ggml-org/llama.cpp/blob/master/include/llama.h
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections import deque
from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path
from random import SystemRandom
from types import ModuleType, TracebackType
from typing import Any, Literal, NamedTuple, Self, cast

import numpy as np
from numpy.typing import NDArray

from .errors import Closed, EngineError, InvalidModel, UsageError
from .types import Sampling

PINNED_VERSION = "0.3.36"
NO_SLOT, ABORTED = 1, 2
"""What `Context.decode` returns when the memory is full, and when `Context.abort` was called."""

_LOAD_LOCK = threading.Lock()
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
        raise _unusable(str(error)) from error
    library = cast(ModuleType, llama_cpp)
    _check_layout(library)
    library.llama_log_set(_log_callback(library), None)
    library.llama_backend_init()
    return library


def _unusable(why: str) -> EngineError:
    install = f"pip install --force-reinstall llama-cpp-python=={PINNED_VERSION}"
    return EngineError(
        f"llama.cpp cannot be used ({why}); reinstall it: {install}",
        f"llama.cpp를 쓸 수 없습니다({why}). 다시 설치하세요: {install}",
    )


def _check_layout(library: ModuleType) -> None:
    """The structs are passed by value: fields that moved would be read as something else."""
    context, model = library.llama_context_default_params(), library.llama_model_default_params()
    found = (
        (context.n_batch, context.n_ubatch, context.flash_attn_type, context.type_k),
        (context.offload_kqv, context.swa_full, context.kv_unified, context.ctx_other),
        (model.vocab_only, model.use_extra_bufts, model.no_alloc),
    )
    if found != ((2048, 512, -1, 1), (True, True, False, None), (False, True, False)):
        raise _unusable(f"its structs are not those of llama-cpp-python {PINNED_VERSION}")


@cache
def _log_callback(library: ModuleType) -> Any:
    """Kept by the cache for as long as the process runs, because llama.cpp keeps the pointer."""

    @library.llama_log_callback  # type: ignore[untyped-decorator]
    def keep(level: int, text: bytes, _: ctypes.c_void_p) -> None:
        if level in (_WARN, _ERROR):
            _LOG.append((level, text.decode("utf-8", "replace").strip()))

    return keep


def _complaint() -> str:
    """What llama.cpp logged last, the first error, else the first warning."""
    lines = [text for level, text in _LOG if level == _ERROR] or [text for _, text in _LOG]
    return lines[0] if lines else "no reason given"


def load(path: Path, *, gpu_layers: int | Literal["auto", "all"] = "auto") -> NativeModel:
    """Check a GGUF file and have llama.cpp map it.

    Raises InvalidModel for a file that is not a whole, sane GGUF or that llama.cpp refuses.
    """
    from komt_convert.errors import GGUFError
    from komt_convert.gguf_file import check

    try:
        check(path)
    except GGUFError as error:
        raise InvalidModel(str(error), error.ko) from error
    library = native()
    params = library.llama_model_default_params()
    params.n_gpu_layers = _n_gpu_layers(library, gpu_layers)
    with _LOAD_LOCK:
        _LOG.clear()
        pointer = library.llama_model_load_from_file(os.fsencode(path), params)
        if not pointer:
            raise _refused(path, _complaint())
    return NativeModel(library, pointer, path)


def _refused(path: Path, why: str) -> InvalidModel:
    return InvalidModel(
        f"llama.cpp cannot load {str(path)!r} ({why}); convert the model again, "
        "or check that its architecture is supported.",
        f"llama.cpp가 {str(path)!r} 파일을 열지 못합니다({why}). 모델을 다시 변환하거나 "
        "지원하는 구조인지 확인하세요.",
    )


def _n_gpu_layers(library: ModuleType, wanted: int | str) -> int:
    """llama.cpp's number: negative for all, 0 where it was built without a GPU."""
    if not library.llama_supports_gpu_offload():
        return 0
    return wanted if isinstance(wanted, int) else -1


class NativeModel:
    """Weights and vocabulary in llama.cpp; may be used from many threads until it is closed."""

    def __init__(self, library: ModuleType, pointer: Any, path: Path) -> None:
        self.path = path
        self._library, self._pointer = library, pointer
        self._lock = threading.RLock()
        self._vocab = library.llama_model_get_vocab(pointer)
        self._pieces: dict[tuple[int, bool], bytes] = {}
        self.n_vocab: int = library.llama_vocab_n_tokens(self._vocab)
        self.n_ctx_train: int = library.llama_model_n_ctx_train(pointer)
        self.size: int = library.llama_model_size(pointer)
        self.n_params: int = library.llama_model_n_params(pointer)
        self.n_layer: int = library.llama_model_n_layer(pointer)
        self.n_embd: int = library.llama_model_n_embd(pointer)
        self.n_head: int = library.llama_model_n_head(pointer)
        self.n_head_kv: int = library.llama_model_n_head_kv(pointer)
        self.bos_token: int | None = self._token("bos")
        self.eos: int | None = self._token("eos")
        self.is_sentencepiece: bool = library.llama_vocab_type(self._vocab) == 1

    @property
    def pointer(self) -> Any:
        """The model in C; raises Closed afterwards."""
        if self._pointer is None:
            raise Closed
        return self._pointer

    @property
    def bos(self) -> int | None:
        """The token that the file wants in front of every prompt, None when it wants none."""
        return self.bos_token if self._library.llama_vocab_get_add_bos(self._vocab) else None

    @cached_property
    def control_tokens(self) -> Mapping[str, int]:
        """Every control token by its text."""
        is_control = self._library.llama_vocab_is_control
        with self._lock:
            self.pointer  # noqa: B018  (raises when closed)
            ids = [token for token in range(self.n_vocab) if is_control(self._vocab, token)]
            return {self.token_text(token): token for token in ids}

    @cached_property
    def end_tokens(self) -> frozenset[int]:
        """Every token after which the file says that an answer is over."""
        is_end = self._library.llama_vocab_is_eog
        with self._lock:
            self.pointer  # noqa: B018
            return frozenset(t for t in range(self.n_vocab) if is_end(self._vocab, t))

    @cached_property
    def metadata(self) -> Mapping[str, str]:
        """The scalars and texts of the file's metadata, as llama.cpp spells them."""
        library = self._library
        with self._lock:
            pointer = self.pointer
            key, value = (
                library.llama_model_meta_key_by_index,
                library.llama_model_meta_val_str_by_index,
            )
            return {
                _string(key, pointer, index): _string(value, pointer, index)
                for index in range(library.llama_model_meta_count(pointer))
            }

    @property
    def chat_template(self) -> str | None:
        return self.metadata.get("tokenizer.chat_template")

    @property
    def legacy(self) -> bool:
        """transformers' flag of that name, as the conversion recorded it; true when it did not."""
        return self.metadata.get("komt.tokenizer.legacy", "true") == "true"

    @cached_property
    def description(self) -> str:
        """Architecture, size and type in llama.cpp's words: `llama 7B Q4_K - Medium`."""
        with self._lock:
            return _string(self._library.llama_model_desc, self.pointer)

    def token_text(self, token: int) -> str:
        """The text under which a token stands in the vocabulary."""
        return bytes(self._library.llama_vocab_get_text(self._vocab, token)).decode(
            "utf-8", "replace"
        )

    def tokenize(self, text: str, parse_special: bool = False) -> list[int]:
        """Token ids of a text, never with BOS; control tokens in it only with `parse_special`."""
        try:
            raw = text.encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"The text has a broken character at position {error.start}; give valid Unicode.",
                f"글의 {error.start}번째 위치에 깨진 문자가 있습니다. 올바른 유니코드로 주세요.",
            ) from None
        with self._lock:
            self.pointer  # noqa: B018
            tokens = np.empty(len(raw) + 16, np.int32)
            found = self._tokenize(raw, tokens, parse_special)
            if found < 0:
                tokens = np.empty(-found, np.int32)
                found = self._tokenize(raw, tokens, parse_special)
        return cast(list[int], tokens[:found].tolist())

    def _tokenize(self, raw: bytes, tokens: NDArray[np.int32], parse_special: bool) -> int:
        target = tokens.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        arguments = (self._vocab, raw, len(raw), target, len(tokens), False, parse_special)
        return int(self._library.llama_tokenize(*arguments))

    def piece(self, token: int, special: bool = False) -> bytes:
        """The bytes of a token; those of a control token are empty without `special`."""
        known = self._pieces.get((token, special))
        if known is None:
            known = self._pieces[token, special] = self._read_piece(token, special)
        return known

    def _read_piece(self, token: int, special: bool) -> bytes:
        if not 0 <= token < self.n_vocab:
            raise UsageError(
                f"There is no token {token}; the vocabulary has {self.n_vocab:,}.",
                f"{token}번 토큰은 없습니다. 어휘는 {self.n_vocab:,}개입니다.",
            )
        convert = self._library.llama_token_to_piece
        with self._lock:
            self.pointer  # noqa: B018
            buffer = ctypes.create_string_buffer(64)
            length = convert(self._vocab, token, buffer, len(buffer), 0, special)
            if length < 0:
                buffer = ctypes.create_string_buffer(-length)
                length = convert(self._vocab, token, buffer, len(buffer), 0, special)
        return buffer.raw[:length]

    def _token(self, name: str) -> int | None:
        token = int(getattr(self._library, f"llama_vocab_{name}")(self._vocab))
        return token if 0 <= token < self.n_vocab else None

    def close(self) -> None:
        """Free the weights; every context of this model must be closed before."""
        with self._lock:
            if self._pointer is not None:
                self._library.llama_model_free(self._pointer)
                self._pointer = None


def _string(read: Any, *arguments: Any) -> str:
    """Call one of llama.cpp's `snprintf`-like readers with a buffer that is large enough."""
    buffer = ctypes.create_string_buffer(256)
    length = read(*arguments, buffer, len(buffer))
    if length >= len(buffer):
        buffer = ctypes.create_string_buffer(length + 1)
        read(*arguments, buffer, len(buffer))
    return buffer.value.decode("utf-8", "replace")


class Span(NamedTuple):
    """Tokens for one sequence: `tokens[start:stop]` of a buffer of int32, at those positions."""

    sequence: int
    tokens: Any
    start: int
    stop: int
    wants_logits: bool


class Context:
    """Memory for `n_slots` sequences of `n_ctx` tokens each, and the batch that fills it.

    Every sequence has memory of its own (`kv_unified` off): one costs another neither room nor,
    bit for bit, anything in its logits that the batch's size does not, and llama.cpp is 5 to 15 %
    faster than with one shared pool. A shared prefix is copied, not shared.
    """

    def __init__(
        self,
        model: NativeModel,
        *,
        n_ctx: int,
        n_slots: int = 1,
        n_batch: int = 512,
        threads: int = 1,
        f32_cache: bool = False,
    ) -> None:
        self.n_ctx, self.n_slots, self.n_batch = n_ctx, n_slots, n_batch
        self._library, self._n_vocab = native(), model.n_vocab
        params = self._params(threads, f32_cache)
        with _LOAD_LOCK:
            _LOG.clear()
            self._context = self._library.llama_init_from_model(model.pointer, params)
            if not self._context:
                raise _no_context(n_ctx, _complaint())
        self._memory = self._library.llama_get_memory(self._context)
        self._batch = _Batch(self._library, n_batch, n_ctx)
        self._abort = _AbortFlag(self._library, self._context)

    def _params(self, threads: int, f32_cache: bool) -> Any:
        params = self._library.llama_context_default_params()
        params.n_ctx = self.n_ctx * self.n_slots
        params.n_seq_max = params.n_outputs_max = self.n_slots
        params.n_batch = params.n_ubatch = self.n_batch
        params.n_threads = params.n_threads_batch = threads
        if f32_cache:
            params.type_k = params.type_v = self._library.GGML_TYPE_F32
        return params

    def decode(self, spans: list[Span]) -> int:
        """Evaluate one batch; 0, NO_SLOT or ABORTED. Raises EngineError when llama.cpp fails.

        After ABORTED a sequence may hold any part of its span: cut it with `keep`.
        """
        code = int(self._library.llama_decode(self._context, self._batch.fill(spans)))
        if code < 0:
            raise EngineError(
                f"llama.cpp failed to evaluate a batch (code {code}: {_complaint()}); "
                "load the model again.",
                f"llama.cpp가 배치를 계산하지 못했습니다(코드 {code}: {_complaint()}). "
                "모델을 다시 여세요.",
            )
        return code

    def logits(self, row: int) -> NDArray[np.float32]:
        """A copy of the logits after token `row` of the last batch, which must have asked."""
        pointer = self._library.llama_get_logits_ith(self._context, row)
        return np.ctypeslib.as_array(pointer, (self._n_vocab,)).copy()

    def sample(self, sampler: Sampler, row: int) -> int:
        """Choose the token that follows token `row` of the last batch."""
        return int(self._library.llama_sampler_sample(sampler.chain, self._context, row))

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

    def abort(self) -> None:
        """Have a `decode` under way in another thread return ABORTED soon (on the CPU)."""
        self._abort.set(True)

    def resume(self) -> None:
        self._abort.set(False)

    def synchronize(self) -> None:
        self._library.llama_synchronize(self._context)

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
        for sequence, tokens, start, stop, wants_logits in spans:
            end = at + stop - start
            self._tokens[at:end] = tokens[start:stop]
            self._positions[at:end] = self._counting[start:stop]
            self._sequences[at:end] = sequence
            self._outputs[end - 1] = wants_logits
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
        from llama_cpp._ggml import libggml

        self._tensor = ctypes.create_string_buffer(self._TENSOR_BYTES)
        address = ctypes.addressof(self._tensor) + self._FIRST_DIMENSION
        self._dimensions = (ctypes.c_int64 * 4).from_address(address)
        self._dimensions[:] = (1, 1, 1, 1)
        callback = ctypes.cast(libggml.ggml_is_empty, library.ggml_abort_callback)
        data = ctypes.cast(self._tensor, ctypes.c_void_p)
        library.llama_set_abort_callback(context, callback, data)
        self._callback = callback

    def set(self, aborting: bool) -> None:
        self._dimensions[0] = 0 if aborting else 1


class Sampler:
    """How the next token is chosen: penalties, top-k, top-p, min-p, temperature, then a draw.

    The order is llama.cpp's own. `prompt` is what the penalties look back on at the start.
    """

    def __init__(self, model: NativeModel, sampling: Sampling, prompt: Any = ()) -> None:
        self._library = library = native()
        self.chain = library.llama_sampler_chain_init(library.llama_sampler_chain_default_params())
        for link in self._links(model.n_vocab, sampling):
            library.llama_sampler_chain_add(self.chain, link)
        if sampling.repeat_penalty != 1 and sampling.repeat_last_n > 0:
            for token in prompt[-sampling.repeat_last_n :]:
                library.llama_sampler_accept(self.chain, token)

    def _links(self, n_vocab: int, sampling: Sampling) -> list[Any]:
        library, links = self._library, []
        if sampling.repeat_penalty != 1:
            penalty = (n_vocab, sampling.repeat_last_n, sampling.repeat_penalty, 0.0, 0.0)
            links.append(library.llama_sampler_init_penalties(*penalty))
        if sampling.temperature == 0:
            return [*links, library.llama_sampler_init_greedy()]
        return [
            *links,
            library.llama_sampler_init_top_k(sampling.top_k),
            library.llama_sampler_init_top_p(sampling.top_p, 1),
            library.llama_sampler_init_min_p(sampling.min_p, 1),
            library.llama_sampler_init_temp(sampling.temperature),
            library.llama_sampler_init_dist(_seed(sampling.seed)),
        ]

    def close(self) -> None:
        if self.chain is not None:
            self._library.llama_sampler_free(self.chain)
            self.chain = None


def _seed(seed: int | None) -> int:
    """32 bits; llama.cpp takes the largest for "any", which here is None."""
    return SystemRandom().randrange(0xFFFFFFFF) if seed is None else seed % 0xFFFFFFFF
