"""Gemma 3, its text part: Gemma3ForCausalLM and Gemma3ForConditionalGeneration → GGUF's `gemma3`.

Of six layers, five look at a window and rotate by a base of their own; each head's query and key
are normed. A checkpoint that sees images has the same text part under longer names; what belongs to
the images is left out, as llama.cpp keeps it in another file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from komt_convert.arch.base import Source, number, refuse
from komt_convert.arch.decoder import HEAD_NORMS, Decoder
from komt_convert.arch.gemma2 import Gemma
from komt_convert.metadata import Metadata, f32
from komt_convert.tensors import Tensor

TEXT = ("language_model.model.", "model.language_model.")
"""How the names of the text part begin in a model that sees images; the later one is newer."""

IMAGES = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.")
IMAGES_TOO = "model.multi_modal_projector."


def architecture(config: Mapping[str, Any]) -> Decoder:
    inner = config.get("text_config")
    return Gemma3.from_config(inner if isinstance(inner, dict) else config)


class Parts(NamedTuple):
    """Of a checkpoint, its config and those tensors that are wanted."""

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True)
class Gemma3(Gemma):
    window_theta: float
    logit_cap: float | None

    NAME = "gemma3"
    PATTERN = 6
    LAYERS_OF_27B = 62
    DEFAULTS: ClassVar[Mapping[str, Any]] = {
        "vocab_size": 262208,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
    }
    HEAD_NORMS = HEAD_NORMS

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Gemma3:
        """The rotary settings of transformers 5 stand by kind of layer."""
        by_layer = config.get("rope_parameters")
        if isinstance(by_layer, dict) and "full_attention" in by_layer:
            window = by_layer.get("sliding_attention") or {}
            local = {"rope_local_base_freq": window.get("rope_theta", 10000.0)}
            config = {**config, "rope_parameters": by_layer["full_attention"], **local}
        return super().from_config(config)

    @classmethod
    def check(cls, config: Mapping[str, Any]) -> None:
        super().check(config)
        if config.get("attn_logit_softcapping") is not None:
            raise refuse("attn_logit_softcapping", config["attn_logit_softcapping"])

    @classmethod
    def more(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        capped = config.get("final_logit_softcapping") is not None
        return super().more(config) | {
            "window_theta": number(config, "rope_local_base_freq"),
            "logit_cap": number(config, "final_logit_softcapping") if capped else None,
        }

    def more_metadata(self) -> Metadata:
        keys = super().more_metadata() | {"rope.freq_base_swa": f32(self.window_theta)}
        if self.logit_cap is not None:
            keys["final_logit_softcapping"] = f32(self.logit_cap)
        return keys

    def tensors(self, source: Source) -> list[Tensor]:
        of_text = {
            _plain_name(name): tensor
            for name, tensor in source.tensors.items()
            if not name.startswith((*IMAGES, IMAGES_TOO))
        }
        return super().tensors(Parts(source.config, of_text))


def _plain_name(name: str) -> str:
    for beginning in TEXT:
        if name.startswith(beginning):
            return "model." + name.removeprefix(beginning)
    return name.removeprefix("language_model.")
