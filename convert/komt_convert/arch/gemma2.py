"""Gemma 2: Gemma2ForCausalLM → GGUF's `gemma2`.

Each part has a norm before and after it, a norm's weight is what is added to 1, every other layer
looks at a window, and scores and logits go through a soft cap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from komt_convert.arch.base import integer, number, refuse
from komt_convert.arch.decoder import POST_NORMS, Change, Decoder
from komt_convert.metadata import Metadata, f32, u32
from komt_convert.tensors import FloatArray, Tensor

TANH = ("gelu_pytorch_tanh", "gelu_new")
"""Two names for the GELU by tanh, which is what llama.cpp computes."""


def architecture(config: Mapping[str, Any]) -> Decoder:
    return Gemma2.from_config(config)


@dataclass(frozen=True)
class Gemma(Decoder):
    """What Gemma 2 and 3 share; `PATTERN` layers of which the last looks at everything."""

    window: int

    PATTERN: ClassVar[int]
    LAYERS_OF_27B: ClassVar[int]
    ACTIVATIONS = TANH
    RENAMED: ClassVar[Mapping[str, str]] = {"hidden_activation": "hidden_act"}
    NORMS: ClassVar[Mapping[str, str]] = {
        "attn_norm": "input_layernorm",
        "ffn_norm": "pre_feedforward_layernorm",
        **POST_NORMS,
    }

    @classmethod
    def context(cls, config: Mapping[str, Any], n_context: int) -> int:
        return n_context

    @classmethod
    def check(cls, config: Mapping[str, Any]) -> None:
        super().check(config)
        if config.get("use_bidirectional_attention"):
            raise refuse("use_bidirectional_attention", True)
        slides = ["sliding_attention"] * (cls.PATTERN - 1) + ["full_attention"]
        n_layers = integer(config, "num_hidden_layers")
        if config.get("layer_types") not in (None, (slides * n_layers)[:n_layers]):
            raise refuse("layer_types", config["layer_types"])
        if config.get("sliding_window_pattern") not in (None, cls.PATTERN):
            raise refuse("sliding_window_pattern", config["sliding_window_pattern"])
        cls.check_scale(config, n_layers)

    @classmethod
    def check_scale(cls, config: Mapping[str, Any], n_layers: int) -> None:
        """llama.cpp has no key for what scores are divided by (the root of this)."""
        expected = integer(config, "head_dim")
        if n_layers == cls.LAYERS_OF_27B:
            expected = integer(config, "hidden_size") // integer(config, "num_attention_heads")
        if number(config, "query_pre_attn_scalar") != expected:
            raise refuse("query_pre_attn_scalar", config["query_pre_attn_scalar"])

    @classmethod
    def more(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        return {"window": integer(config, "sliding_window")}

    def more_metadata(self) -> Metadata:
        return {"attention.sliding_window": u32(self.window)}

    def change(self, part: str) -> Change | None:
        return plus_one if part.endswith("norm") else None


def plus_one(tensor: Tensor) -> Tensor:
    """Gemma multiplies by 1 + weight, GGUF by the weight."""

    def read(start: int, stop: int) -> FloatArray:
        return tensor.read(start, stop) + 1

    return replace(tensor, read=read, dtype="F32")


@dataclass(frozen=True)
class Gemma2(Gemma):
    score_cap: float
    logit_cap: float

    NAME = "gemma2"
    PATTERN = 2
    LAYERS_OF_27B = 46
    DEFAULTS: ClassVar[Mapping[str, Any]] = {
        "vocab_size": 256000,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "final_logit_softcapping": 30.0,
        "attn_logit_softcapping": 50.0,
    }
    UNUSED = ("lm_head.weight", *Decoder.UNUSED)  # llama.cpp has no place for it

    @classmethod
    def check(cls, config: Mapping[str, Any]) -> None:
        super().check(config)
        if not config["tie_word_embeddings"]:
            raise refuse("tie_word_embeddings", config["tie_word_embeddings"])

    @classmethod
    def more(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        caps = {"score_cap": "attn_logit_softcapping", "logit_cap": "final_logit_softcapping"}
        found = {field: number(config, entry) for field, entry in caps.items()}
        return super().more(config) | found

    def more_metadata(self) -> Metadata:
        return super().more_metadata() | {
            "attn_logit_softcapping": f32(self.score_cap),
            "final_logit_softcapping": f32(self.logit_cap),
        }
