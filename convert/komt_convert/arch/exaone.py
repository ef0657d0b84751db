"""EXAONE 3.0 and 3.5: ExaoneForCausalLM → GGUF's `exaone`.

It computes what Llama does, under names of its own. Its class came with the checkpoints and is not
in transformers; nothing of that code is run here. The names: modeling_exaone.py and
configuration_exaone.py of LGAI-EXAONE/EXAONE-3.5-7.8B-Instruct.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from komt_convert.arch.base import refuse
from komt_convert.arch.decoder import Decoder
from komt_convert.arch.rope import STRETCHED_BY_FACTORS
from komt_convert.metadata import Metadata, u32


def architecture(config: Mapping[str, Any]) -> Decoder:
    return Exaone.from_config(config)


class Exaone(Decoder):
    NAME = "exaone"
    DEFAULTS: ClassVar[Mapping[str, Any]] = {
        "vocab_size": 102400,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
    }
    RENAMED: ClassVar[Mapping[str, str]] = {
        "num_layers": "num_hidden_layers",
        "layer_norm_epsilon": "rms_norm_eps",
        "activation_function": "hidden_act",
    }
    ROPES = STRETCHED_BY_FACTORS
    MODEL: ClassVar[Mapping[str, str]] = {
        "token_embd": "transformer.wte",
        "blk": "transformer.h",
        "output_norm": "transformer.ln_f",
        "output": "lm_head",
    }
    NORMS: ClassVar[Mapping[str, str]] = {"attn_norm": "ln_1", "ffn_norm": "ln_2"}
    LINEAR: ClassVar[Mapping[str, str]] = {
        "attn_q": "attn.attention.q_proj",
        "attn_k": "attn.attention.k_proj",
        "attn_v": "attn.attention.v_proj",
        "attn_output": "attn.attention.out_proj",
        "ffn_gate": "mlp.c_fc_0",
        "ffn_up": "mlp.c_fc_1",
        "ffn_down": "mlp.c_proj",
    }
    UNUSED = (".rotary_emb.inv_freq", ".rotary.inv_freq")

    def check_sizes(self) -> None:
        super().check_sizes()
        if self.n_heads * self.head_dim != self.hidden_size:
            raise refuse("num_attention_heads", self.n_heads)

    def more_metadata(self) -> Metadata:
        return {"rope.dimension_count": u32(self.head_dim)}
