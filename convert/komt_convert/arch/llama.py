"""Llama, and Mistral, which has the same tensors: LlamaForCausalLM → GGUF's `llama`.

What is not a matter of names is the rotary embedding: Hugging Face turns dimension `i` together
with `i + head_dim / 2`, GGUF's `llama` with its neighbour, so the rows of Q and K change places
(https://github.com/ggml-org/llama.cpp, conversion/llama.py, `permute`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from komt_convert.arch.decoder import LINEAR, Change, Decoder
from komt_convert.arch.rope import STRETCHED_BY_FACTORS
from komt_convert.metadata import Metadata, u32
from komt_convert.tensors import Tensor, permute_rows


def architecture(config: Mapping[str, Any]) -> Decoder:
    kind = Mistral if config.get("architectures") == ["MistralForCausalLM"] else Llama
    return kind.from_config(config)


class Llama(Decoder):
    """Any of its linear layers may have a bias."""

    NAME = "llama"
    DEFAULTS: ClassVar[Mapping[str, Any]] = {
        "vocab_size": 32000,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
    }
    ROPES = STRETCHED_BY_FACTORS
    OPTIONAL_BIASES = tuple(LINEAR)

    def more_metadata(self) -> Metadata:
        return {
            "vocab_size": u32(self.n_rows),
            "rope.dimension_count": u32(self.head_dim),
        }

    def change(self, part: str) -> Change | None:
        return self.interleave if part in ("attn_q", "attn_k") else None

    def interleave(self, tensor: Tensor) -> Tensor:
        """Rows of each head from halves (0 1 2 … | n/2 …) to pairs (0, n/2, 1, n/2 + 1, …)."""
        rows: NDArray[np.intp] = np.arange(tensor.shape[0], dtype=np.intp)
        return permute_rows(tensor, rows.reshape(-1, 2, self.head_dim // 2).swapaxes(1, 2).ravel())


class Mistral(Llama):
    """The same under GGUF's name; its class has other defaults."""

    DEFAULTS: ClassVar[Mapping[str, Any]] = {
        **Llama.DEFAULTS,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
    }
