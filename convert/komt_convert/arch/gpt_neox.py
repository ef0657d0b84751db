"""GPT-NeoX, which polyglot-ko and all its descendants are: GPTNeoXForCausalLM → GGUF's `gptneox`.

Query, key and value of a head lie side by side in one tensor; GGUF has all queries first, then all
keys, then all values. Norms have biases, only a part of each head is rotated, and attention and
feed-forward part work side by side unless the config says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from komt_convert.arch.base import refuse
from komt_convert.arch.decoder import Change, Decoder
from komt_convert.metadata import Metadata, flag, u32
from komt_convert.tensors import FloatArray, Tensor

GELUS = ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh")
"""llama.cpp computes the one by tanh, which differs from the others by less than 0.0005."""


def architecture(config: Mapping[str, Any]) -> Decoder:
    return GPTNeoX.from_config(config)


@dataclass(frozen=True)
class GPTNeoX(Decoder):
    parallel: bool

    NAME = "gptneox"
    DEFAULTS: ClassVar[Mapping[str, Any]] = {
        "vocab_size": 50432,
        "hidden_size": 6144,
        "intermediate_size": 24576,
        "num_hidden_layers": 44,
        "num_attention_heads": 64,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.25,
    }
    RENAMED: ClassVar[Mapping[str, str]] = {
        "layer_norm_eps": "rms_norm_eps",
        "rotary_emb_base": "rope_theta",
        "rotary_pct": "partial_rotary_factor",
    }
    EPSILON = "attention.layer_norm_epsilon"
    ACTIVATIONS = GELUS
    PARTIAL_ROTATION = True
    MODEL: ClassVar[Mapping[str, str]] = {
        "token_embd": "gpt_neox.embed_in",
        "blk": "gpt_neox.layers",
        "output_norm": "gpt_neox.final_layer_norm",
        "output": "embed_out",
    }
    LINEAR: ClassVar[Mapping[str, str]] = {
        "attn_qkv": "attention.query_key_value",
        "attn_output": "attention.dense",
        "ffn_up": "mlp.dense_h_to_4h",
        "ffn_down": "mlp.dense_4h_to_h",
    }
    BIASES = ("output_norm", *Decoder.NORMS, *LINEAR)
    UNUSED = (".attention.bias", ".attention.masked_bias", ".attention.rotary_emb.inv_freq")

    @classmethod
    def check(cls, config: Mapping[str, Any]) -> None:
        super().check(config)
        for entry, expected in (("attention_bias", True), ("tie_word_embeddings", False)):
            if config.get(entry, expected) != expected:
                raise refuse(entry, config[entry])

    @classmethod
    def more(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        return {"parallel": bool(config.get("use_parallel_residual", True))}

    def check_sizes(self) -> None:
        super().check_sizes()
        if self.n_heads * self.head_dim != self.hidden_size or self.n_kv_heads != self.n_heads:
            raise refuse("num_attention_heads", self.n_heads)

    def more_metadata(self) -> Metadata:
        return {
            "use_parallel_residual": flag(self.parallel),
            "rope.dimension_count": u32(self.n_rotated),
        }

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {**super().shapes(), "attn_qkv": (3 * self.hidden_size, self.hidden_size)}

    def change(self, part: str) -> Change | None:
        return self.separate if part == "attn_qkv" else None

    def separate(self, tensor: Tensor) -> Tensor:
        """Rows from (head, q k v, width) to (q k v, head, width), a head's block at a time."""
        blocks = np.arange(3 * self.n_heads).reshape(self.n_heads, 3).T.ravel()
        rows = np.arange(tensor.shape[0]).reshape(-1, self.head_dim)[blocks].ravel()

        def read_rows(start: int, stop: int) -> FloatArray:
            out = np.empty((stop - start, tensor.row_length), np.float32)
            cuts = np.flatnonzero(np.diff(rows[start:stop]) != 1) + 1
            for part in np.split(np.arange(stop - start), cuts):
                first = int(rows[start + part[0]])
                out[part] = tensor.read(first, first + part.size)
            return out

        def read_vector(start: int, stop: int) -> FloatArray:
            return tensor.read(start, stop)[:, rows]

        return replace(tensor, read=read_vector if len(tensor.shape) == 1 else read_rows)
