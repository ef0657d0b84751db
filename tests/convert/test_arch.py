"""Names, shapes and layout: everything has its place, or there is an error that names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checkpoints import (
    FAMILIES,
    llama_weights,
    noise,
    weights_of,
    write_family_checkpoint,
    write_llama_checkpoint,
    write_weights,
)
from komt_convert import convert
from komt_convert.arch import MODULES, lookup
from komt_convert.checkpoint import open_checkpoint, read_json
from komt_convert.errors import SourceError, UnsupportedError
from komt_convert.tensors import Tensor

TINY = {"n_layers": 1, "hidden_size": 64, "intermediate_size": 96}


def tensors_of(folder: Path) -> dict[str, Tensor]:
    checkpoint = open_checkpoint(folder)
    return {tensor.name: tensor for tensor in lookup(checkpoint.config).tensors(checkpoint)}


def test_an_unknown_architecture_names_those_supported() -> None:
    with pytest.raises(UnsupportedError) as error:
        lookup({"architectures": ["GemmaForCausalLM"]})
    for name in ("GemmaForCausalLM", *MODULES):
        assert name in str(error.value)
        assert name in error.value.ko


@pytest.mark.parametrize("config", [{}, {"architectures": []}, {"architectures": "Llama"}])
def test_a_config_without_an_architecture(config: dict[str, Any]) -> None:
    with pytest.raises(SourceError, match="does not say which class"):
        lookup(config)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_of_a_family_has_its_place(family: str, tmp_path: Path) -> None:
    """And there is a family for each class in the table but those that are Llama itself."""
    tensors = tensors_of(write_family_checkpoint(tmp_path, family))
    assert len(tensors) > 10
    classes = {name for make in FAMILIES.values() for name in make()["architectures"]}
    llama = {"LLaMAForCausalLM", "LlamaForCausalLM", "MistralForCausalLM"}
    assert classes == MODULES.keys() - llama


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_converted_and_proven(family: str, tmp_path: Path) -> None:
    vocab, n_rows = ("polyglot", 800) if family == "gpt-neox" else ("byte-level", 768)
    folder = write_family_checkpoint(tmp_path / "tiny", family, vocab=vocab, n_rows=n_rows)
    report = convert(folder, tmp_path / "tiny.gguf", quant="Q4_K_M")
    assert report.verified and report.tokens_compared > 50_000
    assert not report.warnings


# --- GPT-NeoX ------------------------------------------------------------------------------------


def test_fused_rows_come_out_as_queries_then_keys_then_values(tmp_path: Path) -> None:
    """Any range of rows, also across the borders between heads and between Q, K and V."""
    folder = write_family_checkpoint(tmp_path, "gpt-neox", dtype="F32")
    weights = weights_of(read_json(folder / "config.json"), seed=0)
    found = tensors_of(folder)
    name = "gpt_neox.layers.1.attention.query_key_value"
    by_head = weights[f"{name}.weight"].reshape(4, 3, 64, 256)
    expected = np.concatenate([by_head[:, i].reshape(256, 256) for i in range(3)])
    tensor = found["blk.1.attn_qkv.weight"]
    for start, stop in ((0, 768), (0, 1), (60, 70), (250, 260), (511, 514), (700, 768)):
        np.testing.assert_array_equal(tensor.read(start, stop), expected[start:stop])
    by_head = weights[f"{name}.bias"].reshape(4, 3, 64)
    bias = found["blk.1.attn_qkv.bias"].read(0, 1)[0]
    np.testing.assert_array_equal(bias, by_head.swapaxes(0, 1).ravel())


def test_masks_and_buffers_of_gpt_neox_are_left_out(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    folder = write_family_checkpoint(tmp_path, "gpt-neox")
    names = tensors_of(folder).keys()
    weights = load_file(folder / "model.safetensors")
    layer = "gpt_neox.layers.0.attention"
    weights[f"{layer}.bias"] = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    weights[f"{layer}.masked_bias"] = torch.tensor(-1e9)
    weights[f"{layer}.rotary_emb.inv_freq"] = torch.ones(8)
    save_file(weights, folder / "model.safetensors")
    assert tensors_of(folder).keys() == names


ROTARY: dict[str, dict[str, Any]] = {
    "as its authors wrote it": {"rotary_pct": 0.5, "rotary_emb_base": 50000},
    "as transformers 5 writes it": {
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 50000.0,
            "partial_rotary_factor": 0.5,
        }
    },
    "as transformers 4.56 wrote it": {"partial_rotary_factor": 0.5, "rope_theta": 50000},
}


@pytest.mark.parametrize("name", ROTARY)
def test_the_rotary_part_and_base_under_all_their_names(name: str) -> None:
    config = {**FAMILIES["gpt-neox"](), "vocab_size": 768}
    config = {key: value for key, value in config.items() if not key.startswith("rotary")}
    metadata = lookup({**config, **ROTARY[name]}).metadata(_Source)
    assert metadata["gptneox.rope.dimension_count"].data == 32
    assert metadata["gptneox.rope.freq_base"].data == 50000.0
    default = lookup(config).metadata(_Source)
    assert default["gptneox.rope.dimension_count"].data == 16
    assert default["gptneox.rope.freq_base"].data == 10000.0


# --- Gemma and EXAONE ----------------------------------------------------------------------------


def test_the_text_part_of_a_model_that_sees_images(tmp_path: Path) -> None:
    """Under either of its names; what belongs to the images is left out."""
    images = write_family_checkpoint(tmp_path / "images", "gemma3-images")
    names = tensors_of(images).keys()
    config = {"num_hidden_layers": 2}
    text = write_family_checkpoint(tmp_path / "text", "gemma3", config=config)
    assert names == tensors_of(text).keys()
    weights = weights_of(read_json(images / "config.json"), seed=0)
    newer = {
        f"model.{name}".replace("language_model.model", "language_model"): values
        for name, values in weights.items()
    }
    write_weights(images, newer, dtype="BF16")
    assert tensors_of(images).keys() == names


def test_what_is_added_to_1_in_a_norm_of_gemma(tmp_path: Path) -> None:
    folder = write_family_checkpoint(tmp_path, "gemma2", dtype="F32")
    weights = weights_of(read_json(folder / "config.json"), seed=0)
    tensor = tensors_of(folder)["blk.0.post_ffw_norm.weight"]
    values = weights["model.layers.0.post_feedforward_layernorm.weight"]
    np.testing.assert_array_equal(tensor.read(0, 1)[0], values + 1)


def test_the_layers_of_exaone_4_that_slide() -> None:
    layers = {**FAMILIES["exaone4"](), "vocab_size": 768, "sliding_window": 32}
    layers |= {"num_hidden_layers": 64, "layer_types": None}
    expected = [True, True, True, False] * 16
    for pattern in ("LLLG", 4):
        metadata = lookup({**layers, "sliding_window_pattern": pattern}).metadata(_Source)
        assert list(metadata["exaone4.attention.sliding_window_pattern"].data) == expected


OTHER_FAMILIES: dict[str, tuple[str, dict[str, Any], str]] = {
    "no biases": ("gpt-neox", {"attention_bias": False}, "attention_bias False"),
    "a tied gpt-neox": ("gpt-neox", {"tie_word_embeddings": True}, "tie_word_embeddings"),
    "heads that do not fill": ("gpt-neox", {"num_attention_heads": 6}, "num_attention_heads 6"),
    "more than all is rotated": ("gpt-neox", {"rotary_pct": 1.5}, "partial_rotary_factor 1.5"),
    "an odd part is rotated": ("gpt-neox", {"rotary_pct": 0.27}, "partial_rotary_factor 0.27"),
    "relu": ("gpt-neox", {"hidden_act": "relu"}, "hidden_act 'relu'"),
    "wide heads": ("qwen2", {"head_dim": 64}, "head_dim 64"),
    "factors": ("qwen2", {"rope_scaling": {"rope_type": "llama3"}}, "'llama3'"),
    "betas of its own": (
        "qwen2",
        {"rope_scaling": {"type": "yarn", "factor": 4.0, "beta_fast": 64}},
        "'beta_fast': 64",
    ),
    "a base of one": ("qwen2", {"rope_theta": 1.0}, "rope_theta 1.0"),
    "a part is rotated": ("qwen3", {"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
    "both directions": ("gemma2", {"use_bidirectional_attention": True}, "bidirectional"),
    "another scale": ("gemma2", {"query_pre_attn_scalar": 32}, "query_pre_attn_scalar 32"),
    "a head of its own": ("gemma2", {"tie_word_embeddings": False}, "tie_word_embeddings"),
    "no cap": ("gemma2", {"final_logit_softcapping": None}, "'final_logit_softcapping'"),
    "every layer slides": ("gemma2", {"layer_types": ["sliding_attention"] * 3}, "layer_types"),
    "another pattern": ("gemma3", {"sliding_window_pattern": 4}, "sliding_window_pattern 4"),
    "capped scores": ("gemma3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
    "windows in few layers": ("exaone4", {"sliding_window": 32}, "2 layers with the sliding"),
    "no windows in 64": (
        "exaone4",
        {"num_hidden_layers": 64, "layer_types": None},
        "64 layers with the sliding_window None",
    ),
    "gelu in exaone": ("exaone", {"activation_function": "gelu"}, "hidden_act 'gelu'"),
}


@pytest.mark.parametrize("name", OTHER_FAMILIES)
def test_a_variant_that_llama_cpp_does_not_compute_is_refused(name: str) -> None:
    family, change, sentence = OTHER_FAMILIES[name]
    with pytest.raises(SourceError) as error:
        lookup({**FAMILIES[family](), "vocab_size": 768, **change})
    assert sentence in str(error.value)


def test_a_class_that_llama_cpp_lacks_is_told_apart_from_an_unknown_one() -> None:
    with pytest.raises(UnsupportedError, match="llama.cpp cannot run .* HyperCLOVAXForCausalLM"):
        lookup({"architectures": ["HyperCLOVAXForCausalLM"]})


def test_rows_of_q_and_k_are_interleaved(tmp_path: Path) -> None:
    folder = write_llama_checkpoint(tmp_path, **TINY, n_heads=4, n_kv_heads=2, dtype="F32")
    weights = llama_weights(read_json(folder / "config.json"), seed=0)
    found = tensors_of(folder)
    for name, n_heads in (("q", 4), ("k", 2)):
        source = weights[f"model.layers.0.self_attn.{name}_proj.weight"]
        heads = source.reshape(n_heads, 2, 8, 64)
        tensor = found[f"blk.0.attn_{name}.weight"]
        np.testing.assert_array_equal(
            tensor.read(0, tensor.n_rows), heads.swapaxes(1, 2).reshape(source.shape)
        )
        np.testing.assert_array_equal(tensor.read(1, 2)[0], heads[0, 1, 0])


def test_a_tied_model_has_no_output_unless_the_checkpoint_does(tmp_path: Path) -> None:
    folder = write_llama_checkpoint(tmp_path, **TINY, tied=True)
    assert "output.weight" not in tensors_of(folder)
    weights = llama_weights(read_json(folder / "config.json"), seed=0)
    weights["lm_head.weight"] = noise((1024, 64), 7)
    write_weights(folder, weights, dtype="F16")
    assert "output.weight" in tensors_of(folder)


def test_buffers_are_left_out(tmp_path: Path) -> None:
    folder = write_llama_checkpoint(tmp_path, **TINY)
    names = tensors_of(folder).keys()
    weights = llama_weights(read_json(folder / "config.json"), seed=0)
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = noise((4,), 7)
    write_weights(folder, weights, dtype="F32")
    assert tensors_of(folder).keys() == names


def test_a_tensor_without_a_place_is_named(tmp_path: Path) -> None:
    folder = write_llama_checkpoint(tmp_path, **TINY)
    weights = llama_weights(read_json(folder / "config.json"), seed=0)
    weights["model.layers.0.self_attn.q_norm.weight"] = noise((64,), 7)
    write_weights(folder, weights, dtype="F32")
    with pytest.raises(UnsupportedError, match=r"'model\.layers\.0\.self_attn\.q_norm\.weight'"):
        tensors_of(folder)


def test_a_place_without_a_tensor_is_named(tmp_path: Path) -> None:
    folder = write_llama_checkpoint(tmp_path, **TINY, config={"num_hidden_layers": 2})
    weights = llama_weights(read_json(folder / "config.json"), seed=0)
    write_weights(folder, dict(list(weights.items())[:-3]), dtype="F32")
    with pytest.raises(SourceError, match="lacks 3 tensors, 'model.layers.1.*' first"):
        tensors_of(folder)


def test_a_wrong_shape_is_named_with_both_shapes(tmp_path: Path) -> None:
    folder = write_llama_checkpoint(tmp_path, **TINY)
    weights = llama_weights(read_json(folder / "config.json"), seed=0)
    weights["model.norm.weight"] = noise((63,), 7)
    write_weights(folder, weights, dtype="F32")
    with pytest.raises(SourceError, match=r"'model.norm.weight' has the shape \[63\] .*\[64\]"):
        tensors_of(folder)


def test_integers_in_the_place_of_weights(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    folder = write_llama_checkpoint(tmp_path, **TINY)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"].to(torch.int8)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(UnsupportedError, match=r"'model.norm.weight' has the dtype I8"):
        tensors_of(folder)


CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 1,
    "num_attention_heads": 8,
    "vocab_size": 1024,
}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no size": ({"hidden_size": None}, "nothing for 'hidden_size'"),
    "a negative size": ({"hidden_size": -64}, "-64 for 'hidden_size'"),
    "zero layers": ({"num_hidden_layers": 0}, "0 for 'num_hidden_layers'"),
    "a size that is text": ({"vocab_size": "1024"}, "'1024' for 'vocab_size'"),
    "true as a size": ({"vocab_size": True}, "True for 'vocab_size'"),
    "half a layer": ({"num_hidden_layers": 1.5}, "1.5 for 'num_hidden_layers'"),
    "more layers than llama.cpp has": ({"num_hidden_layers": 2**31}, "num_hidden_layers"),
    "more heads than values": ({"num_attention_heads": 128}, "0 for 'head_dim'"),
    "heads that cannot be halved": ({"head_dim": 7}, "head_dim 7"),
    "groups that do not divide": ({"num_key_value_heads": 3}, "num_key_value_heads 3"),
    "another activation": ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
    "unknown rope": ({"rope_scaling": {"rope_type": "longrope"}}, "'longrope'"),
    "rope of a part": ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary"),
    "rope without a factor": ({"rope_scaling": {"type": "linear"}}, "nothing for 'factor'"),
    "rope as text": ({"rope_scaling": "linear"}, "rope_scaling 'linear'"),
    "not a number": ({"rms_norm_eps": float("nan")}, "nan for 'rms_norm_eps'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_config_that_makes_no_sense_is_refused_by_its_entry(name: str) -> None:
    change, sentence = WRONG[name]
    with pytest.raises(SourceError) as error:
        model = lookup({**CONFIG, **change})
        model.metadata(_Source)
    assert sentence in str(error.value)
    assert error.value.ko


class _Source:
    config: dict[str, Any] = CONFIG
    tensors: dict[str, Tensor] = {}


DEFAULT_KEYS = {
    "vocab_size": "vocab_size",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "block_count": "num_hidden_layers",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.layer_norm_epsilon": "layer_norm_eps",
    "attention.sliding_window": "sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "use_parallel_residual": "use_parallel_residual",
}
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 1,
    "num_attention_heads": 8,
}


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("Llama", SIZES),
        ("Mistral", SIZES),
        ("GPTNeoX", {}),
        ("Qwen2", {}),
        ("Qwen3", {}),
        ("Gemma2", {}),
        ("Gemma3", {}),
        ("Exaone4", {"num_hidden_layers": 64}),
    ],
)
def test_defaults_are_those_of_transformers(name: str, sizes: dict[str, int]) -> None:
    import transformers

    kind = getattr(transformers, "Gemma3TextConfig" if name == "Gemma3" else f"{name}Config")
    reference = kind(**sizes).to_dict()
    model = lookup({"architectures": [f"{name}ForCausalLM"], **sizes})
    metadata = model.metadata(_Source)
    prefix = metadata["general.architecture"].data + "."
    found = {key.removeprefix(prefix): value.data for key, value in metadata.items()}
    expected = {key: reference.get(entry) for key, entry in DEFAULT_KEYS.items()}
    if name == "Mistral":  # llama.cpp has no window for it
        expected["context_length"] = reference["sliding_window"]
    known = {key for key in found.keys() & expected.keys() if expected[key] is not None}
    assert {key: found[key] for key in known} == {key: expected[key] for key in known}
    assert len(known) >= 7
    assert model.n_rows == reference["vocab_size"]
    rope = reference["rope_parameters"]
    rope = rope.get("full_attention", rope)
    assert found["rope.freq_base"] == rope["rope_theta"]
    assert model.tied == reference["tie_word_embeddings"]


def test_a_sliding_window_bounds_the_context() -> None:
    mistral = {**CONFIG, "architectures": ["MistralForCausalLM"]}
    for window, context in ((4096, 4096), (None, 32768), (65536, 32768)):
        config = {**mistral, "max_position_embeddings": 32768, "sliding_window": window}
        assert lookup(config).metadata(_Source)["llama.context_length"].data == context
