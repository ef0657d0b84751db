"""The checkpoints whose conversion by llama.cpp's own tools is recorded in `tests/golden`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .families import write_family_checkpoint, write_llama_checkpoint

WIDE = {"hidden_size": 256, "intermediate_size": 512}
"""Rows of 256, the block of K-quants."""

GEMMA = {"vocab": "spm", "tokenizer_config": {"add_prefix_space": False}}

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
    "gpt-neox-tiny": {"family": "gpt-neox", "n_rows": 800},
    "qwen2-tiny": {"family": "qwen2", "config": WIDE},
    "qwen3-tiny": {"family": "qwen3", "config": {**WIDE, "tie_word_embeddings": True}},
    "gemma2-tiny": {"family": "gemma2", "config": WIDE, **GEMMA},
    "gemma3-tiny": {"family": "gemma3", "config": WIDE, **GEMMA},
    "exaone4-tiny": {"family": "exaone4", "config": WIDE},
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
    arguments = dict(GOLDEN[name])
    family = arguments.pop("family", None)
    if family is None:
        folder = write_llama_checkpoint(parent / name, **arguments)
    else:
        folder = write_family_checkpoint(parent / name, family, **arguments)
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    return folder
