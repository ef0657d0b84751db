"""Tiny GGUF files that say what a test wants, run by the real llama.cpp.

`write_chain` makes a Llama whose next token depends on the last one alone: attention and
feed-forward are zero, so what comes out of the last layer is the token's own embedding, and the
output matrix maps the embedding of each token to its successor. `write_random` has random weights.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import gguf
import numpy as np

# Byte-level vocabularies write a byte that cannot be seen as the next character from 256 on.
_SEEN = [*range(33, 127), *range(161, 173), *range(174, 256)]
_UNSEEN = [byte for byte in range(256) if byte not in _SEEN]
_BYTE_LEVEL = {byte: chr(byte) for byte in _SEEN} | {
    byte: chr(256 + n) for n, byte in enumerate(_UNSEEN)
}

VOCABULARIES = Path(__file__).parent.parent / "vocab"
N_EMBD, N_HEAD, N_HEAD_KV, N_FF = 64, 4, 2, 128


@cache
def vocabulary(name: str = "llama-spm") -> Mapping[str, Any]:
    """The tokenizer keys of a committed vocabulary file."""
    reader = gguf.GGUFReader(VOCABULARIES / f"ggml-vocab-{name}.gguf")
    fields = reader.fields.items()
    return {key: value.contents() for key, value in fields if key.startswith("tokenizer.")}


def token_ids(*texts: str, name: str = "llama-spm") -> list[int]:
    """The ids of tokens by their text in the vocabulary (`▁안`, `<0xED>`)."""
    tokens = vocabulary(name)["tokenizer.ggml.tokens"]
    return [tokens.index(text) for text in texts]


def byte_ids(text: str, name: str = "llama-spm") -> list[int]:
    """A token for each byte of a text: those of byte fallback, or of a byte-level vocabulary."""
    if name == "llama-spm":
        return token_ids(*(f"<0x{byte:02X}>" for byte in text.encode()))
    return token_ids(*(_BYTE_LEVEL[byte] for byte in text.encode()), name=name)


def write_random(
    path: Path, *, n_layer: int = 2, n_ctx: int = 2048, seed: int = 0, **extra: Any
) -> Path:
    random = np.random.default_rng(seed)
    keys = vocabulary()
    n_vocab = len(keys["tokenizer.ggml.tokens"])

    def weights(*shape: int) -> np.ndarray[Any, Any]:
        return random.normal(0, 1, shape)

    return _write(
        path,
        keys,
        n_layer,
        n_ctx,
        weights,
        weights(n_vocab, N_EMBD),
        weights(n_vocab, N_EMBD),
        extra,
    )


def write_chain(
    path: Path,
    chains: Sequence[Sequence[int]],
    *,
    n_ctx: int = 2048,
    name: str = "llama-spm",
    **extra: Any,
) -> Path:
    """Each chain is followed from any of its tokens on; the last one of a chain ends the answer.

    A token may stand in one place only. A chain whose first token is repeated at the end loops.
    """
    successor = {a: b for chain in chains for a, b in pairwise(chain)}
    keys = vocabulary(name)
    n_vocab, random = len(keys["tokenizer.ggml.tokens"]), np.random.default_rng(0)
    for chain in chains:
        successor.setdefault(chain[-1], keys["tokenizer.ggml.eos_token_id"])
    embedding = random.normal(0, 1, (n_vocab, N_EMBD))
    output = np.zeros((n_vocab, N_EMBD))
    for token, following in successor.items():
        output[following] += embedding[token]

    def zeros(*shape: int) -> np.ndarray[Any, Any]:
        return np.zeros(shape)

    return _write(path, keys, 1, n_ctx, zeros, embedding, output, extra)


def _write(
    path: Path,
    vocabulary_keys: Mapping[str, Any],
    n_layer: int,
    n_ctx: int,
    weights: Any,
    embedding: np.ndarray[Any, Any],
    output: np.ndarray[Any, Any],
    extra: Mapping[str, Any],
) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(N_EMBD)
    writer.add_block_count(n_layer)
    writer.add_feed_forward_length(N_FF)
    writer.add_head_count(N_HEAD)
    writer.add_head_count_kv(N_HEAD_KV)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(N_EMBD // N_HEAD)
    writer.add_vocab_size(len(embedding))
    writer.add_name("tiny")
    _add_vocabulary(writer, {**vocabulary_keys, **extra})
    scale = N_EMBD**-0.5
    n_kv = N_EMBD * N_HEAD_KV // N_HEAD
    shapes = {
        "attn_q": (N_EMBD, N_EMBD),
        "attn_k": (n_kv, N_EMBD),
        "attn_v": (n_kv, N_EMBD),
        "attn_output": (N_EMBD, N_EMBD),
        "ffn_gate": (N_FF, N_EMBD),
        "ffn_up": (N_FF, N_EMBD),
        "ffn_down": (N_EMBD, N_FF),
    }
    _add(writer, "token_embd.weight", embedding, np.float32)
    _add(writer, "output.weight", output, np.float32)
    _add(writer, "output_norm.weight", np.ones(N_EMBD), np.float32)
    for layer in range(n_layer):
        for norm in ("attn_norm", "ffn_norm"):
            _add(writer, f"blk.{layer}.{norm}.weight", np.ones(N_EMBD), np.float32)
        for name, shape in shapes.items():
            _add(writer, f"blk.{layer}.{name}.weight", weights(*shape) * scale, np.float32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: Any, name: str, values: np.ndarray[Any, Any], dtype: Any) -> None:
    writer.add_tensor(name, values.astype(dtype))


def _add_vocabulary(writer: Any, keys: Mapping[str, Any]) -> None:
    kinds = {
        "tokenizer.ggml.scores": gguf.GGUFValueType.FLOAT32,
        "tokenizer.ggml.token_type": gguf.GGUFValueType.INT32,
    }
    for key, value in keys.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif key in kinds:
            writer.add_key_value(key, value, gguf.GGUFValueType.ARRAY, sub_type=kinds[key])
        else:
            writer.add_array(key, value)


def write_adapter(path: Path, *, seed: int = 1, rank: int = 3, alpha: float = 6.0) -> Path:
    """A LoRA adapter of random factors on some matrices of `write_random`'s models."""
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    n_kv = N_EMBD * N_HEAD_KV // N_HEAD
    for layer in range(2):
        for name, rows, columns in (
            ("attn_q", N_EMBD, N_EMBD),
            ("attn_v", n_kv, N_EMBD),
            ("ffn_down", N_EMBD, N_FF),
        ):
            for half, shape in (("a", (rank, columns)), ("b", (rows, rank))):
                values = random.normal(0, 0.2, shape)
                _add(writer, f"blk.{layer}.{name}.weight.lora_{half}", values, np.float32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_merged(path: Path, base: Path, adapters: Mapping[Path, float]) -> Path:
    """The model with adapters of `write_adapter` added to its weights, so many times each."""
    shutil.copyfile(base, path)
    weights = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path, "r+").tensors}
    for adapter, scale in adapters.items():
        reader = gguf.GGUFReader(adapter)
        halves = {tensor.name: tensor.data for tensor in reader.tensors}
        alpha = reader.fields["adapter.lora.alpha"].contents()
        for name, a in halves.items():
            if name.endswith("a"):
                product = halves[name[:-1] + "b"] @ a
                weights[name.removesuffix(".lora_a")] += scale * alpha / len(a) * product
    return path


def bare_greedy(path: Path, prompt: Sequence[int], n_tokens: int) -> list[int]:
    """What llama.cpp itself says: the prompt in one batch, then the likeliest token each time.

    Straight calls of the binding, nothing of ours in between.
    """
    import ctypes

    from llama_cpp import llama_cpp as library

    model = library.llama_model_load_from_file(bytes(path), library.llama_model_default_params())
    params = library.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = 2048
    params.type_k = params.type_v = library.GGML_TYPE_F32
    params.flash_attn_type = library.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = library.llama_init_from_model(model, params)
    n_vocab = library.llama_vocab_n_tokens(library.llama_model_get_vocab(model))
    said: list[int] = []
    batch = list(prompt)
    for _ in range(n_tokens):
        tokens = (ctypes.c_int32 * len(batch))(*batch)
        assert library.llama_decode(context, library.llama_batch_get_one(tokens, len(batch))) == 0
        logits = np.ctypeslib.as_array(library.llama_get_logits_ith(context, -1), (n_vocab,))
        batch = [int(logits.argmax())]
        said += batch
    library.llama_free(context)
    library.llama_model_free(model)
    return said
