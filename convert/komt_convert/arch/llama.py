"""Llama, and Mistral, which has the same tensors: LlamaForCausalLM → GGUF's `llama`.

What is not a matter of names is the rotary embedding: Hugging Face turns dimension `i` together
with `i + head_dim / 2`, GGUF's `llama` with its neighbour, so the rows of Q and K change places
(https://github.com/ggml-org/llama.cpp, conversion/llama.py, `permute`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from komt_convert.arch.base import Slot, Source, fill, integer, number, refuse
from komt_convert.metadata import Metadata, f32, text, u32
from komt_convert.tensors import Tensor, from_array, permute_rows

MAX_LAYERS = 512
"""LLAMA_MAX_LAYERS of llama.cpp, which aborts beyond it."""

ROPE_TYPES = ("default", "linear", "llama3", "yarn", "dynamic")
"""`dynamic` changes nothing up to the trained context, which is the context that is written."""


def architecture(config: Mapping[str, Any]) -> Llama:
    return Llama.from_config(config)


@dataclass(frozen=True, slots=True)
class Llama:
    """The entries of config.json that are read; defaults as in transformers' LlamaConfig."""

    hidden_size: int
    intermediate_size: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    n_rows: int
    n_context: int
    norm_epsilon: float
    tied: bool
    rope: Rope

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Llama:
        if config.get("hidden_act", "silu") != "silu":
            raise refuse("hidden_act", config["hidden_act"])
        n_heads, hidden_size = (
            integer(config, "num_attention_heads"),
            integer(config, "hidden_size"),
        )
        n_kv_heads = integer(config, "num_key_value_heads", n_heads)
        head_dim = integer(config, "head_dim", hidden_size // n_heads)
        n_layers = integer(config, "num_hidden_layers")
        if n_layers > MAX_LAYERS:
            raise refuse("num_hidden_layers", n_layers)
        if n_heads % n_kv_heads:
            raise refuse("num_key_value_heads", n_kv_heads)
        if head_dim % 2:
            raise refuse("head_dim", head_dim)
        n_context = integer(config, "max_position_embeddings", 2048)
        return cls(
            hidden_size=hidden_size,
            intermediate_size=integer(config, "intermediate_size"),
            n_layers=n_layers,
            n_heads=n_heads,
            n_kv_heads=n_kv_heads,
            head_dim=head_dim,
            n_rows=integer(config, "vocab_size", 32000),
            # llama.cpp's `llama` attends to everything; up to the window that is the same.
            n_context=min(n_context, integer(config, "sliding_window", n_context)),
            norm_epsilon=number(config, "rms_norm_eps", 1e-6),
            tied=bool(config.get("tie_word_embeddings", False)),
            rope=Rope.from_config(config, n_context),
        )

    def metadata(self, source: Source) -> Metadata:
        return {
            "general.architecture": text("llama"),
            "llama.block_count": u32(self.n_layers),
            "llama.context_length": u32(self.n_context),
            "llama.embedding_length": u32(self.hidden_size),
            "llama.feed_forward_length": u32(self.intermediate_size),
            "llama.attention.head_count": u32(self.n_heads),
            "llama.attention.head_count_kv": u32(self.n_kv_heads),
            "llama.attention.layer_norm_rms_epsilon": f32(self.norm_epsilon),
            "llama.attention.key_length": u32(self.head_dim),
            "llama.attention.value_length": u32(self.head_dim),
            "llama.vocab_size": u32(self.n_rows),
            "llama.rope.dimension_count": u32(self.head_dim),
            **self.rope.metadata(),
        }

    def tensors(self, source: Source) -> list[Tensor]:
        computed = [self.rope.factors(self.head_dim)] if self.rope.kind == "llama3" else []
        return computed + fill(self.slots(), source.tensors, unused=".rotary_emb.inv_freq")

    def slots(self) -> Iterator[Slot]:
        table = (self.n_rows, self.hidden_size)
        yield Slot("model.embed_tokens.weight", "token_embd.weight", table)
        for i in range(self.n_layers):
            yield from self.layer_slots(f"model.layers.{i}", f"blk.{i}")
        yield Slot("model.norm.weight", "output_norm.weight", (self.hidden_size,))
        yield Slot("lm_head.weight", "output.weight", table, optional=self.tied)

    def layer_slots(self, source: str, target: str) -> Iterator[Slot]:
        d, f = self.hidden_size, self.intermediate_size
        q, kv = self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim
        for norm, name in (
            ("input_layernorm", "attn_norm"),
            ("post_attention_layernorm", "ffn_norm"),
        ):
            yield Slot(f"{source}.{norm}.weight", f"{target}.{name}.weight", (d,))
        for linear, name, rows, columns in (
            ("self_attn.q_proj", "attn_q", q, d),
            ("self_attn.k_proj", "attn_k", kv, d),
            ("self_attn.v_proj", "attn_v", kv, d),
            ("self_attn.o_proj", "attn_output", d, q),
            ("mlp.gate_proj", "ffn_gate", f, d),
            ("mlp.up_proj", "ffn_up", f, d),
            ("mlp.down_proj", "ffn_down", d, f),
        ):
            change = self.interleave if name in ("attn_q", "attn_k") else None
            yield Slot(
                f"{source}.{linear}.weight", f"{target}.{name}.weight", (rows, columns), change
            )
            bias = f"{source}.{linear}.bias", f"{target}.{name}.bias"
            yield Slot(*bias, (rows,), change, optional=True)

    def interleave(self, tensor: Tensor) -> Tensor:
        """Rows of each head from halves (0 1 2 … | n/2 …) to pairs (0, n/2, 1, n/2 + 1, …)."""
        rows: NDArray[np.intp] = np.arange(tensor.shape[0], dtype=np.intp)
        return permute_rows(tensor, rows.reshape(-1, 2, self.head_dim // 2).swapaxes(1, 2).ravel())


@dataclass(frozen=True, slots=True)
class Rope:
    """The rotary embedding: `theta` and how it is stretched beyond the trained context."""

    kind: str
    theta: float
    parameters: Mapping[str, Any]
    n_trained: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any], n_context: int) -> Rope:
        """`rope_parameters` (transformers 5), or `rope_scaling` and `rope_theta` (before)."""
        parameters = config.get("rope_parameters") or config.get("rope_scaling") or {}
        if not isinstance(parameters, dict):
            raise refuse("rope_scaling", parameters)
        kind = parameters.get("rope_type", parameters.get("type", "default"))
        if kind not in ROPE_TYPES or parameters.get("partial_rotary_factor", 1) != 1:
            raise refuse("rope_scaling", parameters)
        theta = number(config, "rope_theta", 10000.0)
        trained = integer(config, "original_max_position_embeddings", n_context)
        return cls(
            kind=kind,
            theta=number(parameters, "rope_theta", theta),
            parameters=parameters,
            n_trained=integer(parameters, "original_max_position_embeddings", trained),
        )

    def metadata(self) -> Metadata:
        keys = {"llama.rope.freq_base": f32(self.theta)}
        if self.kind in ("linear", "yarn"):
            keys["llama.rope.scaling.type"] = text(self.kind)
            keys["llama.rope.scaling.factor"] = f32(number(self.parameters, "factor"))
        if self.kind == "yarn":
            keys["llama.rope.scaling.original_context_length"] = u32(self.n_trained)
            keys |= self.yarn_metadata()
        return keys

    def yarn_metadata(self) -> Metadata:
        names = {
            "extrapolation_factor": "yarn_ext_factor",
            "attention_factor": "yarn_attn_factor",
            "beta_fast": "yarn_beta_fast",
            "beta_slow": "yarn_beta_slow",
        }
        given = {key: name for key, name in names.items() if self.parameters.get(key) is not None}
        return {
            f"llama.rope.scaling.{name}": f32(number(self.parameters, key))
            for key, name in given.items()
        }

    def factors(self, head_dim: int) -> Tensor:
        """`rope_freqs.weight`: what each frequency is divided by, for Llama 3.1's stretching.

        transformers' modeling_rope_utils.py, `llama3`. The float32 steps are those of upstream's
        converter to the last bit: torch divides a number by a tensor as number * (1 / tensor).
        """
        one, old = np.float32(1), np.float32(self.n_trained)
        factor = np.float32(number(self.parameters, "factor", 8.0))
        low = np.float32(number(self.parameters, "low_freq_factor", 1.0))
        high = np.float32(number(self.parameters, "high_freq_factor", 4.0))
        if high <= low:
            raise refuse("rope_scaling", self.parameters)
        exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
        frequencies = one / np.power(self.theta, exponents, dtype=np.float64).astype(np.float32)
        wavelengths = np.float32(2 * math.pi) * (one / frequencies)
        smooth = (old * (one / wavelengths) - low) / (high - low)
        factors = one / ((one - smooth) / factor + smooth)
        factors[wavelengths < old / high] = one
        factors[wavelengths > old / low] = factor
        return from_array("rope_freqs.weight", factors)
