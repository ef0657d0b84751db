"""A model in llama.cpp: its weights, and a vocabulary to turn text into tokens and back."""

from __future__ import annotations

import ctypes
import os
import threading
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import Closed, InvalidModel, UsageError
from .library import complaint, logging, native

if TYPE_CHECKING:
    from komt_convert.gguf_file import Header


def check(path: Path) -> Header:
    """The header of a GGUF file that llama.cpp may see. Raises InvalidModel for any other."""
    from komt_convert import gguf_file
    from komt_convert.errors import GGUFError

    try:
        return gguf_file.check(path)
    except GGUFError as error:
        raise InvalidModel(str(error), error.ko) from error


def load(path: Path, *, n_gpu_layers: int = 0) -> NativeModel:
    """Check a GGUF file and have llama.cpp map it, its last layers on GPUs.

    Raises InvalidModel for a file that is not a whole, sane GGUF or that llama.cpp refuses.
    """
    check(path)
    library = native()
    params = library.llama_model_default_params()
    params.n_gpu_layers = n_gpu_layers
    with logging():
        pointer = library.llama_model_load_from_file(os.fsencode(path), params)
        if not pointer:
            raise _refused(path, complaint())
    return NativeModel(library, pointer, path)


def _refused(path: Path, why: str) -> InvalidModel:
    return InvalidModel(
        f"llama.cpp cannot load {str(path)!r} ({why}); convert the model again, "
        "or check that its architecture is supported.",
        f"llama.cpp가 {str(path)!r} 파일을 열지 못합니다({why}). 모델을 다시 변환하거나 "
        "지원하는 구조인지 확인하세요.",
    )


NormalForm = Literal["NFC", "NFD", "NFKC", "NFKD"]
_NORMAL_FORMS: Mapping[str, NormalForm] = {form: form for form in get_args(NormalForm)}


class Dimensions(NamedTuple):
    """Layers, width, and attention heads (of the first layer)."""

    n_layer: int
    n_embd: int
    n_head: int
    n_head_kv: int


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
        self.bos_token = self._token("bos")
        self.eos = self._token("eos")
        self.bos = self.bos_token if library.llama_vocab_get_add_bos(self._vocab) else None
        """The token that the file wants in front of every prompt, None when it wants none."""
        self.is_sentencepiece: bool = library.llama_vocab_type(self._vocab) == 1

    def _token(self, name: str) -> int | None:
        token = int(getattr(self._library, f"llama_vocab_{name}")(self._vocab))
        return token if 0 <= token < self.n_vocab else None

    @contextmanager
    def open(self) -> Iterator[Any]:
        """The model in C, which nobody frees meanwhile. Raises Closed when it is freed already."""
        with self._lock:
            if self._pointer is None:
                raise Closed
            yield self._pointer

    @contextmanager
    def open_vocabulary(self) -> Iterator[Any]:
        """The vocabulary in C, as `open` gives the model."""
        with self.open():
            yield self._vocab

    def close(self) -> None:
        """Free the weights; every context of this model must be closed before."""
        with self._lock:
            if self._pointer is not None:
                self._library.llama_model_free(self._pointer)
                self._pointer = None

    @cached_property
    def dimensions(self) -> Dimensions:
        library = self._library
        with self.open() as pointer:
            return Dimensions(
                library.llama_model_n_layer(pointer),
                library.llama_model_n_embd(pointer),
                library.llama_model_n_head(pointer),
                library.llama_model_n_head_kv(pointer),
            )

    @cached_property
    def control_tokens(self) -> Mapping[str, int]:
        """Every control token by its text."""
        is_control = self._library.llama_vocab_is_control
        with self.open():
            ids = [token for token in range(self.n_vocab) if is_control(self._vocab, token)]
        return {self.token_text(token): token for token in ids}

    @cached_property
    def end_tokens(self) -> frozenset[int]:
        """Every token after which the file says that an answer is over."""
        is_end = self._library.llama_vocab_is_eog
        with self.open():
            return frozenset(t for t in range(self.n_vocab) if is_end(self._vocab, t))

    @cached_property
    def metadata(self) -> Mapping[str, str]:
        """The scalars and texts of the file's metadata, as llama.cpp spells them."""
        library = self._library
        key = library.llama_model_meta_key_by_index
        value = library.llama_model_meta_val_str_by_index
        with self.open() as pointer:
            indices = range(library.llama_model_meta_count(pointer))
            return {_string(key, pointer, i): _string(value, pointer, i) for i in indices}

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
        with self.open() as pointer:
            return _string(self._library.llama_model_desc, pointer)

    def token_text(self, token: int) -> str:
        """The text under which a token stands in the vocabulary."""
        self._check(token)
        with self.open():
            text: bytes = self._library.llama_vocab_get_text(self._vocab, token)
        return text.decode("utf-8", "replace")

    def tokenize(self, text: str, parse_special: bool = False) -> list[int]:
        """Token ids of a text, never with BOS; control tokens in it only with `parse_special`."""
        try:
            raw = self._prepared(text).encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"The text has a broken character at position {error.start}; give valid Unicode.",
                f"글의 {error.start}번째 위치에 깨진 문자가 있습니다. 올바른 유니코드로 주세요.",
            ) from None
        with self.open():
            tokens = np.empty(len(raw) + 16, np.int32)
            found = self._tokenize(raw, tokens, parse_special)
            if found < 0:
                tokens = np.empty(-found, np.int32)
                found = self._tokenize(raw, tokens, parse_special)
        return cast(list[int], tokens[:found].tolist())

    def _prepared(self, text: str) -> str:
        """The text as llama.cpp must be given it to find the ids of the source tokenizer.

        What a tokenizer does to a text and llama.cpp does not, the conversion records.
        """
        form = _NORMAL_FORMS.get(self.metadata.get("komt.tokenizer.normal_form", ""))
        if form:
            text = unicodedata.normalize(form, text)
        absorbs = self.metadata.get("komt.tokenizer.absorbs_space") == "true"
        return text[1:] if absorbs and text.startswith((" ", "▁")) else text

    def _tokenize(self, raw: bytes, tokens: NDArray[np.int32], parse_special: bool) -> int:
        target = tokens.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        arguments = (self._vocab, raw, len(raw), target, len(tokens), False, parse_special)
        return int(self._library.llama_tokenize(*arguments))

    def piece(self, token: int, special: bool = False) -> bytes:
        """The bytes of a token; those of a control token are empty without `special`."""
        known = self._pieces.get((token, special))
        if known is None:
            self._check(token)
            known = self._pieces[token, special] = self._read_piece(token, special)
        return known

    def _read_piece(self, token: int, special: bool) -> bytes:
        convert = self._library.llama_token_to_piece
        with self.open():
            buffer = ctypes.create_string_buffer(64)
            length = convert(self._vocab, token, buffer, len(buffer), 0, special)
            if length < 0:
                buffer = ctypes.create_string_buffer(-length)
                length = convert(self._vocab, token, buffer, len(buffer), 0, special)
        return buffer.raw[:length]

    def _check(self, token: int) -> None:
        if not 0 <= token < self.n_vocab:
            raise UsageError(
                f"There is no token {token}; the vocabulary has {self.n_vocab:,}.",
                f"{token}번 토큰은 없습니다. 어휘는 {self.n_vocab:,}개입니다.",
            )


def _string(read: Any, *arguments: Any) -> str:
    """Call one of llama.cpp's `snprintf`-like readers with a buffer that is large enough."""
    buffer = ctypes.create_string_buffer(256)
    length = read(*arguments, buffer, len(buffer))
    if length >= len(buffer):
        buffer = ctypes.create_string_buffer(length + 1)
        read(*arguments, buffer, len(buffer))
    return buffer.value.decode("utf-8", "replace")
