"""Qwen 2, which A.X 4.0 is as well, and Qwen 3: their classes → GGUF's `qwen2` and `qwen3`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from komt_convert.arch.base import refuse
from komt_convert.arch.decoder import HEAD_NORMS, QKV, Decoder


def architecture(config: Mapping[str, Any]) -> Decoder:
    kind = Qwen3 if config["architectures"][0] == "Qwen3ForCausalLM" else Qwen2
    return kind.from_config(config)


class Qwen2(Decoder):
    """Q, K and V have biases; a head is as wide as fits the hidden size."""

    NAME = "qwen2"
    DEFAULTS: ClassVar[Mapping[str, Any]] = {
        "vocab_size": 151936,
        "hidden_size": 4096,
        "intermediate_size": 22016,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "use_sliding_window": False,
        "sliding_window": 4096,
    }
    BIASES: ClassVar[Collection[str]] = QKV

    @classmethod
    def context(cls, config: Mapping[str, Any], n_context: int) -> int:
        """The window counts only where it is switched on."""
        return super().context(config, n_context) if config["use_sliding_window"] else n_context

    def check_sizes(self) -> None:
        super().check_sizes()
        if self.n_heads * self.head_dim != self.hidden_size:
            raise refuse("head_dim", self.head_dim)


class Qwen3(Qwen2):
    """Each head's query and key are normed; heads have a width of their own."""

    NAME = "qwen3"
    DEFAULTS: ClassVar[Mapping[str, Any]] = {**Qwen2.DEFAULTS, "head_dim": 128}
    HEAD_NORMS = HEAD_NORMS
    BIASES = ()
    OPTIONAL_BIASES = QKV

    def check_sizes(self) -> None:
        Decoder.check_sizes(self)
