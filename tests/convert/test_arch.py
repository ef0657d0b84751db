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
    write_family_checkpoint,
    write_llama_checkpoint,
    write_weights,
)
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


def test_defaults_are_those_of_transformers() -> None:
    from transformers import LlamaConfig

    reference = LlamaConfig()
    config = {key: value for key, value in CONFIG.items() if key != "vocab_size"}
    metadata = lookup(config).metadata(_Source)
    found = {key.removeprefix("llama."): value.data for key, value in metadata.items()}
    assert found["vocab_size"] == reference.vocab_size
    assert found["context_length"] == reference.max_position_embeddings
    assert found["attention.layer_norm_rms_epsilon"] == reference.rms_norm_eps
    assert found["attention.head_count_kv"] == found["attention.head_count"] == 8
    assert found["rope.freq_base"] == 10000.0


def test_a_sliding_window_bounds_the_context() -> None:
    mistral = {**CONFIG, "architectures": ["MistralForCausalLM"]}
    for window, context in ((4096, 4096), (None, 32768), (65536, 32768)):
        config = {**mistral, "max_position_embeddings": 32768, "sliding_window": window}
        assert lookup(config).metadata(_Source)["llama.context_length"].data == context
