"""The seam to llama.cpp: everything that touches `llama_cpp`, and nothing that decides anything.

    gpus() -> list[Device]        what it can compute on besides the processor
    load(path) -> NativeModel     weights and vocabulary: facts, tokenize, piece
    Context(model, ...)           memory for sequences: decode, sample, logits, keep, copy
    Sampler(model, sampling)      how the next token is chosen, a chain in C
    check_grammar(model, text)    GBNF, before a sampler has it
    load_adapter(model, path)     LoRA, for `Context.set_adapters`

These are thin wrappers of the low-level API with llama.cpp's failures turned into `errors`, its
log captured (never printed) and quoted there. A context and its samplers belong to one thread; a
model may be used from many. https://github.com/ggml-org/llama.cpp/blob/master/include/llama.h
"""

from __future__ import annotations

from .adapters import Adapter, load_adapter
from .context import ABORTED, NO_SLOT, Context, Span
from .devices import gpus
from .grammar import check_grammar
from .library import PINNED_VERSION
from .loaded import NativeModel, check, load
from .sampler import Sampler

__all__ = [
    "ABORTED",
    "NO_SLOT",
    "PINNED_VERSION",
    "Adapter",
    "Context",
    "NativeModel",
    "Sampler",
    "Span",
    "check",
    "check_grammar",
    "gpus",
    "load",
    "load_adapter",
]
