"""A converted file computes what transformers computes: every logit, at every position."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest
from numpy.typing import NDArray

from checkpoints import (
    FAMILIES,
    shapes,
    weights_of,
    write_checkpoint,
    write_family_checkpoint,
    write_llama_checkpoint,
    write_weights,
)
from komt_convert import convert

N_TOKENS = 200
SMALL = {"n_layers": 2, "hidden_size": 128, "intermediate_size": 192, "dtype": "BF16"}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}

YARN = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64}
UNUSUAL_YARN: dict[str, dict[str, Any]] = {
    "Kanana's betas": {"beta_fast": 64, "beta_slow": 2},
    "an attention factor": {"attention_factor": 1.3},
    "mscale": {"mscale": 0.7, "mscale_all_dim": 1.0},
    "not truncated": {"truncate": False, "attention_factor": 1.1},
}

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "grouped": {"n_kv_heads": 2},
    "one key-value head": {"n_kv_heads": 1, "dtype": "F16"},
    "tied": {"tied": True, "dtype": "F32"},
    "wide heads": {"n_kv_heads": 4, "config": {"head_dim": 64}},
    "biases": {"n_kv_heads": 2, "bias": True},
    "padded rows": {"n_rows": 1056},
    "old rope_theta": {"config": {"rope_theta": 500000.0}},
    "rope_parameters": {
        "config": {
            "rope_theta": None,
            "rope_parameters": {"rope_type": "default", "rope_theta": 2000.0},
        }
    },
    "linear": {"config": {"rope_scaling": {"type": "linear", "factor": 4.0}}},
    "llama3": {
        "config": {"rope_scaling": {**LLAMA3, "original_max_position_embeddings": 64}},
    },
    "yarn": {
        "config": {
            "rope_scaling": {
                "rope_type": "yarn",
                "factor": 8.0,
                "original_max_position_embeddings": 64,
            },
            "max_position_embeddings": 512,
        },
    },
    **{
        f"yarn, {name}": {
            "config": {
                "rope_scaling": {**YARN, **change},
                "max_position_embeddings": 512,
            }
        }
        for name, change in UNUSUAL_YARN.items()
    },
    "mistral": {
        "n_kv_heads": 2,
        "config": {"architectures": ["MistralForCausalLM"], "model_type": "mistral"},
    },
}


EXAONE_NAMES = {
    "num_layers": "num_hidden_layers",
    "layer_norm_epsilon": "rms_norm_eps",
    "activation_function": "hidden_act",
}
FAMILY_CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt-neox": ("gpt-neox", {}),
    "gpt-neox, half of each head": ("gpt-neox", {"rotary_pct": 0.5, "rotary_emb_base": 50000}),
    "gpt-neox, one after the other": ("gpt-neox", {"use_parallel_residual": False}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
    "gemma2": ("gemma2", {}),
    "gemma3": ("gemma3", {}),
    "gemma3, rope_parameters": (
        "gemma3",
        {
            "rope_theta": None,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 500000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 5000.0},
            },
        },
    ),
    "exaone4": ("exaone4", {}),
    "exaone4, windows": (
        "exaone4",
        {
            "hidden_size": 64,
            "intermediate_size": 64,
            "num_hidden_layers": 64,
            "sliding_window": 32,
            "sliding_window_pattern": "LLLG",
            "layer_types": (["sliding_attention"] * 3 + ["full_attention"]) * 16,
            "rope_scaling": {**LLAMA3, "original_max_position_embeddings": 64},
        },
    ),
    "gpt-neox, rope_parameters": (
        "gpt-neox",
        {
            "rotary_pct": None,
            "rotary_emb_base": None,
            "rope_parameters": {
                "rope_type": "linear",
                "factor": 2.0,
                "rope_theta": 5000.0,
                "partial_rotary_factor": 0.5,
            },
        },
    ),
    "qwen3, yarn": ("qwen3", {"rope_scaling": {**YARN, "attention_factor": 1.0}}),
    "qwen2, yarn": (
        "qwen2",
        {
            "rope_scaling": {
                "type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_logits_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    checkpoint = write_llama_checkpoint(tmp_path / "tiny", **{**SMALL, **CASES[name]})
    compare_logits(checkpoint, tmp_path / "tiny.gguf", 1024)


@pytest.mark.parametrize("name", FAMILY_CASES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_logits_of_other_families_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    family, config = FAMILY_CASES[name]
    checkpoint = write_family_checkpoint(tmp_path / "tiny", family, config=config)
    compare_logits(checkpoint, tmp_path / "tiny.gguf", 767)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_logits_of_exaone_are_those_of_a_llama_with_its_weights(tmp_path: Path) -> None:
    """transformers has no such class: it came with the checkpoints, and computes the same."""
    config = {**FAMILIES["exaone"](), "vocab_size": 768}
    twin = {**config, "architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    for theirs, ours in EXAONE_NAMES.items():
        twin[ours] = twin.pop(theirs)
    weights = weights_of(config, seed=0)
    names = dict(zip(shapes(twin), weights, strict=True))
    llama = write_checkpoint(tmp_path / "llama", twin, vocab="byte-level")
    write_weights(llama, {llama: weights[exaone] for llama, exaone in names.items()}, dtype="BF16")
    exaone = write_family_checkpoint(tmp_path / "exaone", "exaone")
    compare_logits(exaone, tmp_path / "tiny.gguf", 767, reference=llama)


def compare_logits(
    checkpoint: Path, out: Path, n_tokens: int, *, reference: Path | None = None
) -> None:
    convert(checkpoint, out, quant="F32", verify=False)
    ids = np.random.default_rng(1).integers(3, n_tokens, N_TOKENS).tolist()
    expected = log_softmax(transformers_logits(reference or checkpoint, ids))
    found = log_softmax(llama_cpp_logits(out, ids))
    divergence = (np.exp(expected) * (expected - found)).sum(axis=1)
    assert expected.std() > 0.5  # the noise is not so faint that everything would pass
    assert divergence.max() < 1e-5


def transformers_logits(folder: Path, ids: list[int]) -> NDArray[np.float32]:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0].numpy()


def llama_cpp_logits(path: Path, ids: list[int]) -> NDArray[np.float32]:
    """Logits of every position, with keys and values kept as float32."""
    settings = llama_cpp.llama_context_default_params()
    settings.n_ctx = settings.n_batch = settings.n_ubatch = 256
    settings.type_k = settings.type_v = 0  # GGML_TYPE_F32
    settings.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    settings.n_threads = settings.n_threads_batch = 2
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    model = llama_cpp.llama_model_load_from_file(
        str(path).encode(), llama_cpp.llama_model_default_params()
    )
    context = llama_cpp.llama_init_from_model(model, settings)
    batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
    try:
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.logits[i] = token, i, 1
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
        assert llama_cpp.llama_decode(context, batch) == 0
        n_rows = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        logits = llama_cpp.llama_get_logits(context)
        return np.ctypeslib.as_array(logits, (len(ids), n_rows)).copy()
    finally:
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(model)


@llama_cpp.llama_log_callback
def quiet(level: int, text: bytes, data: object) -> None:
    pass


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
