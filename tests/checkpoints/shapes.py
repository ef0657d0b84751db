"""Names and shapes of the parameters of each architecture, as transformers saves them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Shape = tuple[int, ...]
Config = Mapping[str, Any]

LLAMA = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
GATED = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
NORMS = ("input_layernorm", "post_attention_layernorm")
HEAD_NORMS = ("self_attn.q_norm", "self_attn.k_norm")
POST_NORMS = ("post_attention_layernorm", "post_feedforward_layernorm")


def shapes(config: Config) -> dict[str, Shape]:
    """Shapes by name, for the class that the config names."""
    return dict(SHAPES[config["architectures"][0]](config))


def llama(config: Config) -> Iterator[tuple[str, Shape]]:
    def has_bias(name: str) -> bool:
        return bool(config.get("attention_bias" if name.startswith("self_attn") else "mlp_bias"))

    yield from decoder(config, NORMS, has_bias=has_bias)


def qwen2(config: Config) -> Iterator[tuple[str, Shape]]:
    yield from decoder(config, NORMS, has_bias=lambda name: name in LLAMA[:3])


def qwen3(config: Config) -> Iterator[tuple[str, Shape]]:
    yield from decoder(config, NORMS + HEAD_NORMS)


def exaone4(config: Config) -> Iterator[tuple[str, Shape]]:
    yield from decoder(config, POST_NORMS + HEAD_NORMS)


def gemma2(config: Config) -> Iterator[tuple[str, Shape]]:
    yield from decoder(config, ("input_layernorm", "pre_feedforward_layernorm", *POST_NORMS))


def gemma3(config: Config) -> Iterator[tuple[str, Shape]]:
    norms = ("input_layernorm", "pre_feedforward_layernorm", *POST_NORMS, *HEAD_NORMS)
    yield from decoder(config, norms)


def gemma3_with_images(config: Config) -> Iterator[tuple[str, Shape]]:
    for name, shape in gemma3(config["text_config"]):
        yield f"language_model.{name}", shape
    yield "vision_tower.vision_model.embeddings.position_embedding.weight", (16, 32)
    yield "multi_modal_projector.mm_input_projection_weight", (32, 64)


def decoder(
    config: Config, norms: tuple[str, ...], has_bias: Any = lambda name: False
) -> Iterator[tuple[str, Shape]]:
    """What Llama and most of those after it have."""
    d, f, v = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    head_dim = config.get("head_dim") or d // config["num_attention_heads"]
    q, kv = (config[k] * head_dim for k in ("num_attention_heads", "num_key_value_heads"))
    projections: list[Shape] = [(q, d), (kv, d), (kv, d), (d, q), (f, d), (f, d), (d, f)]
    linear = dict(zip(LLAMA + GATED, projections, strict=True))
    yield "model.embed_tokens.weight", (v, d)
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        for name, shape in linear.items():
            yield f"{layer}{name}.weight", shape
            if has_bias(name):
                yield f"{layer}{name}.bias", shape[:1]
        for name in norms:
            yield f"{layer}{name}.weight", (head_dim if name in HEAD_NORMS else d,)
    yield "model.norm.weight", (d,)
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (v, d)


def exaone(config: Config) -> Iterator[tuple[str, Shape]]:
    """The remote code of EXAONE 3.5 has Llama's parameters under names of its own."""
    names = {
        "model.embed_tokens": "transformer.wte",
        "model.layers": "transformer.h",
        "model.norm": "transformer.ln_f",
        "input_layernorm": "ln_1",
        "post_attention_layernorm": "ln_2",
        "self_attn.o_proj": "attn.attention.out_proj",
        "self_attn": "attn.attention",
        "gate_proj": "c_fc_0",
        "up_proj": "c_fc_1",
        "down_proj": "c_proj",
    }
    for name, shape in decoder({**config, "num_hidden_layers": config["num_layers"]}, NORMS):
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        yield name, shape


def gpt_neox(config: Config) -> Iterator[tuple[str, Shape]]:
    d, f, v = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    linear = {
        "attention.query_key_value": (3 * d, d),
        "attention.dense": (d, d),
        "mlp.dense_h_to_4h": (f, d),
        "mlp.dense_4h_to_h": (d, f),
    }
    parts: dict[str, Shape] = {**dict.fromkeys(NORMS, (d,)), **linear}
    yield "gpt_neox.embed_in.weight", (v, d)
    for i in range(config["num_hidden_layers"]):
        for name, shape in parts.items():
            yield f"gpt_neox.layers.{i}.{name}.weight", shape
            yield f"gpt_neox.layers.{i}.{name}.bias", shape[:1]
    yield "gpt_neox.final_layer_norm.weight", (d,)
    yield "gpt_neox.final_layer_norm.bias", (d,)
    yield "embed_out.weight", (v, d)


SHAPES = {
    "Exaone4ForCausalLM": exaone4,
    "ExaoneForCausalLM": exaone,
    "GPTNeoXForCausalLM": gpt_neox,
    "Gemma2ForCausalLM": gemma2,
    "Gemma3ForCausalLM": gemma3,
    "Gemma3ForConditionalGeneration": gemma3_with_images,
    "LLaMAForCausalLM": llama,
    "LlamaForCausalLM": llama,
    "MistralForCausalLM": llama,
    "Qwen2ForCausalLM": qwen2,
    "Qwen3ForCausalLM": qwen3,
}
