"""EXAONE 4.0: Exaone4ForCausalLM → GGUF's `exaone4`.

Its norms come after attention and feed-forward part, and each head's query and key are normed. In
the 32B model, three of four layers look at a window, and the fourth at everything, without a rotary
embedding. llama.cpp computes that for models of 64 layers, and for no others
(src/models/exaone4.cpp), so the rest of the combinations are refused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from komt_convert.arch.base import integer, refuse
from komt_convert.arch.decoder import HEAD_NORMS, POST_NORMS, Decoder
from komt_convert.arch.rope import STRETCHED_BY_FACTORS
from komt_convert.metadata import Metadata, flags, u32

LAYERS_WITH_WINDOW = 64


def architecture(config: Mapping[str, Any]) -> Decoder:
    return Exaone4.from_config(config)


@dataclass(frozen=True)
class Exaone4(Decoder):
    """`window` is None where every layer looks at everything; `slides` says which layers do not."""

    window: int | None
    slides: tuple[bool, ...]

    NAME = "exaone4"
    DEFAULTS: ClassVar[Mapping[str, Any]] = {
        "vocab_size": 102400,
        "hidden_size": 4096,
        "intermediate_size": 16384,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "sliding_window": 4096,
        "sliding_window_pattern": 4,
    }
    ROPES = STRETCHED_BY_FACTORS
    NORMS = POST_NORMS
    HEAD_NORMS = HEAD_NORMS

    @classmethod
    def context(cls, config: Mapping[str, Any], n_context: int) -> int:
        return n_context

    @classmethod
    def more(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        if config["sliding_window"] is None:
            return {"window": None, "slides": ()}
        return {"window": integer(config, "sliding_window"), "slides": sliding_layers(config)}

    def check_sizes(self) -> None:
        super().check_sizes()
        if self.n_heads * self.head_dim != self.hidden_size:
            raise refuse("head_dim", self.head_dim)
        if (self.window is not None) != (self.n_layers == LAYERS_WITH_WINDOW):
            raise refuse(f"{self.n_layers} layers with the sliding_window", self.window)

    def more_metadata(self) -> Metadata:
        keys = {"vocab_size": u32(self.n_rows)}
        if self.window is not None:
            keys["attention.sliding_window"] = u32(self.window)
            keys["attention.sliding_window_pattern"] = flags(self.slides)
        return keys


def sliding_layers(config: Mapping[str, Any]) -> tuple[bool, ...]:
    """For each layer, whether it looks at the window only: from `layer_types`, or the pattern.

    A pattern is a number (every n-th layer looks at everything) or letters (L for a window, G for
    everything), repeated; the last layer looks at everything.
    """
    n_layers = integer(config, "num_hidden_layers")
    if (types := config.get("layer_types")) is not None:
        found = tuple(type_ == "sliding_attention" for type_ in types)
        if len(found) != n_layers:
            raise refuse("layer_types", types)
        return found
    pattern = config["sliding_window_pattern"]
    if isinstance(pattern, str) and pattern and set(pattern) <= {"L", "G"}:
        letters = (pattern * n_layers)[: n_layers - 1] + "G"
        return tuple(letter == "L" for letter in letters)
    every = integer(config, "sliding_window_pattern")
    return tuple((i + 1) % every != 0 for i in range(n_layers))
