"""Tiny checkpoints of each architecture: the config as its authors write it, and the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .files import Dtype, noise, write_json, write_weights
from .shapes import shapes
from .vocabularies import Vocab, write_tokenizer

TORCH_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


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
        **(config or {}),
    }
    return write_checkpoint(
        folder,
        settings,
        vocab=vocab,
        full_vocab=full_vocab,
        dtype=dtype,
        shards=shards,
        n_rows=n_rows,
        seed=seed,
        tokenizer_config=tokenizer_config,
    )


def write_family_checkpoint(
    folder: Path,
    family: str,
    *,
    dtype: Dtype = "BF16",
    config: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> Path:
    """Write a checkpoint of two layers of a `family` of FAMILIES, with `config` merged over it."""
    settings = {**FAMILIES[family](), **(config or {})}
    return write_checkpoint(folder, settings, dtype=dtype, **{"vocab": "byte-level", **arguments})


def write_checkpoint(
    folder: Path,
    settings: Mapping[str, Any],
    *,
    vocab: Vocab,
    full_vocab: bool = False,
    dtype: Dtype = "F16",
    shards: int = 1,
    n_rows: int | None = None,
    seed: int = 0,
    tokenizer_config: Mapping[str, Any] | None = None,
) -> Path:
    """Write the checkpoint of a config, to which the size and ids of the vocabulary are added."""
    folder.mkdir(parents=True, exist_ok=True)
    n_tokens = write_tokenizer(folder, vocab, full=full_vocab, overrides=tokenizer_config or {})
    special = {"byte-level": n_tokens - 1, "polyglot": 0}.get(vocab, 1)
    ids = {"bos_token_id": special, "eos_token_id": special if special != 1 else 2}
    given = {"vocab_size": n_rows or n_tokens, **ids, "torch_dtype": TORCH_DTYPES[dtype]}
    config = {**given, **settings}
    if inner := config.get("text_config"):
        config["text_config"] = {**given, **inner}
    write_json(folder / "config.json", config)
    generation = {k: config[k] for k in ("bos_token_id", "eos_token_id")}
    write_json(folder / "generation_config.json", generation)
    write_weights(folder, weights_of(config, seed), dtype=dtype, shards=shards)
    return folder


def weights_of(config: Mapping[str, Any], seed: int) -> dict[str, NDArray[np.float32]]:
    """The float32 weights of a model with this config.json, by Hugging Face name."""
    weights = {}
    adds_one = config["architectures"][0].startswith("Gemma")  # to the weights of its norms
    for i, (name, shape) in enumerate(shapes(config).items()):
        values = noise(shape, (seed, i))
        around_zero = name.endswith(".bias") or (adds_one and name.endswith("norm.weight"))
        weights[name] = values - 1 if around_zero else values
    return weights


def decoder(name: str, **entries: Any) -> dict[str, Any]:
    return {
        "architectures": [f"{name}ForCausalLM"],
        "model_type": name.lower(),
        "hidden_act": "silu",
        "hidden_size": 128,
        "intermediate_size": 192,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-06,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        **entries,
    }


def gpt_neox() -> dict[str, Any]:
    """As polyglot-ko 5.8B: a quarter of each head is rotated; the ids of GPTNeoXConfig."""
    return {
        "architectures": ["GPTNeoXForCausalLM"],
        "model_type": "gpt_neox",
        "hidden_act": "gelu",
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 2048,
        "layer_norm_eps": 1e-05,
        "rotary_pct": 0.25,
        "rotary_emb_base": 10000,
        "use_parallel_residual": True,
        "tie_word_embeddings": False,
    }


def exaone() -> dict[str, Any]:
    """As EXAONE 3.5 7.8B, with names of its own and Llama 3's stretching."""
    settings = decoder(
        "Exaone",
        activation_function="silu",
        num_layers=2,
        layer_norm_epsilon=1e-05,
        rope_theta=1000000.0,
        rope_scaling={
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 256,
            "rope_type": "llama3",
        },
    )
    for name in ("hidden_act", "num_hidden_layers", "rms_norm_eps"):
        del settings[name]
    return settings


def exaone4() -> dict[str, Any]:
    return decoder(
        "Exaone4",
        sliding_window=None,
        sliding_window_pattern=None,
        layer_types=["full_attention", "full_attention"],
    )


def gemma(name: str, **entries: Any) -> dict[str, Any]:
    settings = decoder(
        name,
        hidden_activation="gelu_pytorch_tanh",
        head_dim=64,
        query_pre_attn_scalar=64,
        sliding_window=32,
        tie_word_embeddings=True,
        num_hidden_layers=3,
        **entries,
    )
    del settings["hidden_act"]
    return settings


def gemma2() -> dict[str, Any]:
    return gemma("Gemma2", attn_logit_softcapping=50.0, final_logit_softcapping=30.0)


def gemma3() -> dict[str, Any]:
    entries = {"rope_theta": 1000000.0, "rope_local_base_freq": 10000.0}
    return gemma("Gemma3", **entries) | {"model_type": "gemma3_text", "num_hidden_layers": 7}


def gemma3_with_images() -> dict[str, Any]:
    return {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "text_config": {**gemma3(), "num_hidden_layers": 2},
        "vision_config": {"hidden_size": 32, "model_type": "siglip_vision_model"},
    }


FAMILIES: Mapping[str, Callable[[], dict[str, Any]]] = {
    "exaone": exaone,
    "exaone4": exaone4,
    "gemma2": gemma2,
    "gemma3": gemma3,
    "gemma3-images": gemma3_with_images,
    "gpt-neox": gpt_neox,
    "qwen2": lambda: decoder("Qwen2", use_sliding_window=False, sliding_window=32768),
    "qwen3": lambda: decoder("Qwen3", head_dim=64),
}
