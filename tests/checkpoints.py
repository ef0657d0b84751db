"""Tiny Llama checkpoints in the real layout, made on the fly and the same on every machine.

A checkpoint here is a folder as the Hugging Face libraries write it: config.json, safetensors in
one file or in shards with an index, a tokenizer, the generation config. The weights are noise
(integers from PCG64, whose stream is fixed, added up and scaled), the vocabularies are excerpts of
two real ones in `tests/vocab`. Neither torch nor transformers nor safetensors is needed.

    write_llama_checkpoint(folder)                            1,024 SentencePiece tokens, 3 M values
    write_llama_checkpoint(folder, vocab="byte-level", n_kv_heads=2, tied=True, dtype="BF16")
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

VOCABULARIES = Path(__file__).parent / "vocab"

Vocab = Literal["spm", "hf-bpe", "byte-level"]
Dtype = Literal["F32", "F16", "BF16"]

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


@dataclass(frozen=True)
class Pieces:
    """A SentencePiece vocabulary: texts, scores and types by id."""

    texts: tuple[str, ...]
    scores: tuple[float, ...]
    types: tuple[int, ...]

    @property
    def ids(self) -> dict[str, int]:
        return {text: i for i, text in enumerate(self.texts)}


@dataclass(frozen=True)
class ByteLevel:
    """A byte-level BPE vocabulary: ids by token, and merges in rank order."""

    vocab: Mapping[str, int]
    merges: tuple[tuple[str, str], ...]
    end: str = "<|endoftext|>"


# --- the checkpoint ------------------------------------------------------------------------------


def write_llama_checkpoint(
    folder: Path,
    *,
    vocab: Vocab = "spm",
    full_vocab: bool = False,
    n_layers: int = 4,
    hidden_size: int = 256,
    intermediate_size: int = 512,
    n_heads: int = 8,
    n_kv_heads: int | None = None,
    tied: bool = False,
    bias: bool = False,
    dtype: Dtype = "F16",
    shards: int = 1,
    n_rows: int | None = None,
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
    tokenizer_config: Mapping[str, Any] | None = None,
) -> Path:
    """Write a LlamaForCausalLM checkpoint into `folder` (made if it is not there); returns it.

    `full_vocab` takes the whole real vocabulary (32,000 or 50,257 tokens) instead of an excerpt
    (1,024 or 768). `n_rows` pads the embedding beyond the tokenizer. `config` and
    `tokenizer_config` are merged over what is written to the files of these names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    n_tokens = write_tokenizer(folder, vocab, full=full_vocab, overrides=tokenizer_config or {})
    special = 1 if vocab != "byte-level" else n_tokens - 1
    settings = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": hidden_size,
        "intermediate_size": intermediate_size,
        "num_hidden_layers": n_layers,
        "num_attention_heads": n_heads,
        "num_key_value_heads": n_kv_heads or n_heads,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "tie_word_embeddings": tied,
        "attention_bias": bias,
        "mlp_bias": bias,
        "vocab_size": n_rows or n_tokens,
        "bos_token_id": special,
        "eos_token_id": 2 if vocab != "byte-level" else special,
        "torch_dtype": {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[dtype],
        **(config or {}),
    }
    write_json(folder / "config.json", settings)
    generation = {k: settings[k] for k in ("bos_token_id", "eos_token_id")}
    write_json(folder / "generation_config.json", generation)
    write_weights(folder, llama_weights(settings, seed), dtype=dtype, shards=shards)
    return folder


GOLDEN: Mapping[str, Mapping[str, Any]] = {
    "plain-tiny": {
        "dtype": "F16",
        "tokenizer_config": {"chat_template": "{{ messages[0]['content'] }}"},
    },
    "grouped-tiny": {"dtype": "BF16", "n_kv_heads": 2, "vocab": "hf-bpe", "shards": 3},
    "tied-tiny": {"dtype": "F32", "vocab": "byte-level", "tied": True, "n_rows": 800},
    "stretched-tiny": {
        "dtype": "BF16",
        "n_layers": 2,
        "bias": True,
        "config": {
            "head_dim": 64,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 256,
            },
        },
    },
}
"""Arguments of the checkpoints whose conversion by llama.cpp is recorded in `tests/golden`."""

CARD = """\
---
license: apache-2.0
language: [ko, en]
base_model: meta-llama/Llama-2-7b-hf
tags: [komt]
pipeline_tag: text-generation
---
# A card
"""


def write_golden_checkpoint(parent: Path, name: str) -> Path:
    """Write the checkpoint `name` of GOLDEN, with a model card, into a folder of that name."""
    folder = write_llama_checkpoint(parent / name, **GOLDEN[name])
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    return folder


def llama_weights(config: Mapping[str, Any], seed: int) -> dict[str, NDArray[np.float32]]:
    """The float32 weights of a Llama with this config.json, by Hugging Face name."""
    weights = {}
    for i, (name, shape) in enumerate(llama_shapes(config).items()):
        values = noise(shape, (seed, i))
        weights[name] = values - 1 if name.endswith(".bias") else values
    return weights


def llama_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a LlamaForCausalLM's parameters, as transformers saves them."""
    d, f, v = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    head_dim = config.get("head_dim") or d // config["num_attention_heads"]
    q, kv = (config[k] * head_dim for k in ("num_attention_heads", "num_key_value_heads"))
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (v, d)}
    linear = {
        "self_attn.q_proj": (q, d),
        "self_attn.k_proj": (kv, d),
        "self_attn.v_proj": (kv, d),
        "self_attn.o_proj": (d, q),
        "mlp.gate_proj": (f, d),
        "mlp.up_proj": (f, d),
        "mlp.down_proj": (d, f),
    }
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        for name, shape in linear.items():
            shapes[f"{layer}{name}.weight"] = shape
            if config.get("attention_bias" if name.startswith("self_attn") else "mlp_bias"):
                shapes[f"{layer}{name}.bias"] = shape[:1]
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{layer}{name}.weight"] = (d,)
    shapes["model.norm.weight"] = (d,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (v, d)
    return shapes


def noise(shape: tuple[int, ...], seed: int | tuple[int, ...]) -> NDArray[np.float32]:
    """Bell-shaped noise of standard deviation 1/sqrt(row length), around 1 for a vector.

    Four 16-bit integers of one PCG64 draw are added up: exact, so the same with every numpy.
    """
    draws = np.random.PCG64(np.random.SeedSequence(seed)).random_raw(int(np.prod(shape)))
    quarters = draws.astype("<u8").view("<u2").reshape(-1, 4).astype(np.int32)
    values = (quarters.sum(axis=1) - 131070).astype(np.float32) / np.float32(37837.0)
    values = values.reshape(shape)
    if len(shape) == 1:
        return 1 + values / np.float32(16)
    return values / np.float32(2 ** round(np.log2(shape[-1]) / 2))


# --- safetensors ---------------------------------------------------------------------------------


def write_weights(
    folder: Path, weights: Mapping[str, NDArray[np.float32]], *, dtype: Dtype, shards: int = 1
) -> None:
    """Write model.safetensors, or `shards` files of consecutive tensors and their index."""
    if shards == 1:
        write_safetensors(folder / "model.safetensors", weights, dtype)
        return
    names = sorted(weights)
    weight_map = {}
    for number, part in enumerate(np.array_split(np.array(names), shards), start=1):
        file = f"model-{number:05}-of-{shards:05}.safetensors"
        write_safetensors(folder / file, {name: weights[name] for name in part.tolist()}, dtype)
        weight_map |= dict.fromkeys(part.tolist(), file)
    total = sum(w.size for w in weights.values()) * (4 if dtype == "F32" else 2)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    write_json(folder / "model.safetensors.index.json", index)


def write_safetensors(path: Path, tensors: Mapping[str, NDArray[np.float32]], dtype: Dtype) -> None:
    """https://github.com/huggingface/safetensors#format: header length, JSON header, values."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    blobs, offset = [], 0
    for name in sorted(tensors):
        blob = encode_values(tensors[name], dtype)
        shape, offsets = list(tensors[name].shape), [offset, offset + len(blob)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        offset += len(blob)
        blobs.append(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def encode_values(values: NDArray[np.float32], dtype: Dtype) -> bytes:
    """Little-endian bytes; BF16 rounds to nearest, ties to even."""
    if dtype == "F32":
        return values.astype("<f4").tobytes()
    if dtype == "F16":
        return values.astype("<f2").tobytes()
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()


# --- tokenizers ----------------------------------------------------------------------------------


def write_tokenizer(
    folder: Path, vocab: Vocab, *, full: bool = False, overrides: Mapping[str, Any] | None = None
) -> int:
    """Write the tokenizer files of a kind; returns the number of tokens."""
    if vocab == "byte-level":
        tokens = byte_level(full)
        write_json(folder / "tokenizer.json", byte_level_json(tokens))
        special = {"bos_token": tokens.end, "eos_token": tokens.end, "unk_token": tokens.end}
        settings = {"tokenizer_class": "GPT2Tokenizer", **special}
        n_tokens = len(tokens.vocab)
    else:
        pieces = llama_pieces(full)
        if vocab == "spm":
            (folder / "tokenizer.model").write_bytes(sentencepiece_model(pieces))
        else:
            write_json(folder / "tokenizer.json", metaspace_json(pieces))
        special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
        flags = {"add_bos_token": True, "add_eos_token": False, "legacy": True}
        settings = {"tokenizer_class": "LlamaTokenizer", **special, **flags}
        n_tokens = len(pieces.texts)
    write_json(folder / "tokenizer_config.json", {**settings, **(overrides or {})})
    return n_tokens


@cache
def llama_pieces(full: bool = False) -> Pieces:
    """Llama-2's vocabulary, or 1,024 pieces of it: all bytes, Latin and Hangul, early merges."""
    fields = read_vocabulary(VOCABULARIES / "ggml-vocab-llama-spm.gguf")
    texts, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    if full:
        return Pieces(texts, fields["tokenizer.ggml.scores"], types)
    letters = [
        t for t in texts[259:] if len(t) == 1 and (t <= "~" or "가" <= t <= "힣" or t == "▁")
    ]
    known = set(letters)
    merges = [t for t in texts[259:] if len(t) > 1 and known.issuperset(t)]
    kept = texts[:259] + tuple(merges[: 1024 - 259 - len(letters)] + letters)
    scores = (0.0,) * 259 + tuple(float(-i) for i in range(len(kept) - 259))
    return Pieces(kept, scores, types[:259] + (NORMAL,) * (len(kept) - 259))


@cache
def byte_level(full: bool = False) -> ByteLevel:
    """GPT-2's vocabulary, or its 256 bytes, first 511 merges and end token."""
    fields = read_vocabulary(VOCABULARIES / "ggml-vocab-gpt-2.gguf")
    tokens = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    if not full:
        tokens, merges = (*tokens[:767], tokens[-1]), merges[:511]
    return ByteLevel({token: i for i, token in enumerate(tokens)}, tuple(merges), tokens[-1])


def read_vocabulary(path: Path) -> dict[str, Any]:
    """The arrays under `tokenizer.ggml.` in a GGUF file of ours, as tuples."""
    import gguf

    reader = gguf.GGUFReader(path)
    keys = ("tokens", "scores", "token_type", "merges")
    fields = (reader.fields.get(f"tokenizer.ggml.{key}") for key in keys)
    return {field.name: tuple(field.contents()) for field in fields if field is not None}


def sentencepiece_model(
    pieces: Pieces,
    *,
    model_type: int = 2,
    add_dummy_prefix: bool = True,
    remove_extra_whitespaces: bool = False,
) -> bytes:
    """A tokenizer.model (`model_type` 2: BPE, 1: unigram) with byte fallback and no normalizing.

    The message is ModelProto of sentencepiece_model.proto, written field by field.
    """
    entries = (
        field(1, text.encode()) + tag(2, 5) + struct.pack("<f", score) + field(3, kind)
        for text, score, kind in zip(pieces.texts, pieces.scores, pieces.types, strict=True)
    )
    trainer = field(3, model_type) + field(4, len(pieces.texts)) + field(35, 1)
    trainer += field(40, 0) + field(41, 1) + field(42, 2) + field(43, -1)
    normalizer = field(1, b"identity") + field(3, int(add_dummy_prefix))
    normalizer += field(4, int(remove_extra_whitespaces)) + field(5, 1)
    body = b"".join(field(1, entry) for entry in entries)
    return body + field(2, trainer) + field(3, normalizer)


def tag(number: int, wire_type: int) -> bytes:
    return varint(number << 3 | wire_type)


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return tag(number, 0) + varint(value & (2**64 - 1))
    return tag(number, 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def metaspace_json(pieces: Pieces) -> dict[str, Any]:
    """The tokenizer.json that transformers 4 wrote for a Llama-2 tokenizer.model."""
    return {
        "version": "1.0",
        "added_tokens": [added_token(i, pieces.texts[i]) for i in range(3)],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": begins_with("<s>", 1),
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": pieces.ids,
            "merges": [f"{left} {right}" for left, right in merges_of(pieces)],
        },
    }


def merges_of(pieces: Pieces) -> Iterable[tuple[str, str]]:
    """All pairs of pieces that make a piece, best score first, as transformers derives them."""
    ids = pieces.ids
    found = []
    for text, score, kind in zip(pieces.texts, pieces.scores, pieces.types, strict=True):
        pairs = [(text[:i], text[i:]) for i in range(1, len(text) * (kind == NORMAL))]
        known = [pair for pair in pairs if pair[0] in ids and pair[1] in ids]
        found += [(-score, ids[left], ids[right], left, right) for left, right in known]
    return [(left, right) for *_, left, right in sorted(found)]


def byte_level_json(tokens: ByteLevel) -> dict[str, Any]:
    """The tokenizer.json of GPT-2."""
    byte_level_step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "added_tokens": [added_token(tokens.vocab[tokens.end], tokens.end)],
        "normalizer": None,
        "pre_tokenizer": {**byte_level_step, "use_regex": True},
        "post_processor": byte_level_step,
        "decoder": byte_level_step,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": dict(tokens.vocab),
            "merges": [list(merge) for merge in tokens.merges],
        },
    }


def added_token(i: int, content: str, *, special: bool = True) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": i, "content": content, **flags, "special": special}


def begins_with(token: str, i: int) -> dict[str, Any]:
    """A post-processor that puts one special token in front of a text."""
    first = {"SpecialToken": {"id": token, "type_id": 0}}
    a, b = ({"Sequence": {"id": id_, "type_id": t}} for t, id_ in enumerate("AB"))
    second = {"SpecialToken": {"id": token, "type_id": 1}}
    special = {token: {"id": token, "ids": [i], "tokens": [token]}}
    template = {"single": [first, a], "pair": [first, a, second, b]}
    return {"type": "TemplateProcessing", **template, "special_tokens": special}


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
