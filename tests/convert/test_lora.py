"""Merged weights are W + scale · (alpha / r) · B·A, whatever rows are read, and end in the file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from checkpoints import (
    noise,
    write_family_checkpoint,
    write_json,
    write_llama_checkpoint,
    write_safetensors,
)
from komt_convert import convert
from komt_convert.checkpoint import open_checkpoint
from komt_convert.errors import SourceError, UnsupportedError
from komt_convert.lora import merge, merge_into
from komt_convert.lora_file import read_adapter
from komt_convert.tensors import Tensor

PREFIX = "base_model.model."
Q, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj"
EMBEDDING = "model.embed_tokens"
SHAPES = {Q: (256, 256), DOWN: (256, 384)}
RANK = 4


@pytest.fixture
def base(tmp_path: Path) -> dict[str, Tensor]:
    folder = write_llama_checkpoint(tmp_path / "base", n_layers=1, intermediate_size=384)
    return dict(open_checkpoint(folder).tensors)


def pair(module: str, rank: int = RANK) -> dict[str, NDArray[np.float32]]:
    rows, columns = SHAPES[module]
    return {
        f"{PREFIX}{module}.lora_A.weight": noise((rank, columns), (1, rank, columns)),
        f"{PREFIX}{module}.lora_B.weight": noise((rows, rank), (2, rank, rows)),
    }


def merged_with(base: Mapping[str, Tensor], folder: Path, scale: float = 1.0) -> dict[str, Tensor]:
    return merge(base, read_adapter(folder), scale)


def write_adapter(
    folder: Path, weights: dict[str, NDArray[np.float32]], dtype: Any = "F32", **config: Any
) -> Path:
    folder.mkdir(exist_ok=True)
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": 16, "bias": "none", **config}
    write_json(folder / "adapter_config.json", settings)
    write_safetensors(folder / "adapter_model.safetensors", weights, dtype)
    return folder


def values(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.read(0, tensor.n_rows).astype(np.float64)


def product(weights: dict[str, NDArray[np.float32]], module: str) -> NDArray[np.float64]:
    a, b = (weights[f"{PREFIX}{module}.lora_{half}.weight"] for half in "AB")
    return b.astype(np.float64) @ a.astype(np.float64)


@pytest.mark.parametrize(
    "config, factor",
    [
        ({}, 16 / 4),
        ({"lora_alpha": 2.5}, 2.5 / 4),
        ({"use_rslora": True}, 16 / 2),
        ({"alpha_pattern": {"q_proj": 8, "self_attn.k_proj": 1}}, 8 / 4),
        ({"alpha_pattern": {Q: 8}}, 8 / 4),
        ({"alpha_pattern": {"proj": 8}}, 16 / 4),
        ({"alpha_pattern": {r"layers\.\d+\..*[qk]_proj": 8, "q_proj": 4}}, 8 / 4),
        ({"alpha_pattern": {"^self_attn.q_proj": 8, "^model.layers.0.self_attn.q_proj": 1}}, 1 / 4),
        ({"init_lora_weights": "gaussian", "modules_to_save": None}, 16 / 4),
    ],
)
def test_the_sum_is_that_of_the_formula(
    config: dict[str, Any], factor: float, base: dict[str, Tensor], tmp_path: Path
) -> None:
    weights = pair(Q)
    folder = write_adapter(tmp_path / "adapter", weights, **config)
    for scale in (1.0, 0.5, 0.0):
        merged = merged_with(base, folder, scale)
        assert merged.keys() == base.keys()
        expected = values(base[f"{Q}.weight"]) + scale * factor * product(weights, Q)
        np.testing.assert_allclose(values(merged[f"{Q}.weight"]), expected, rtol=0, atol=1e-5)
        assert merged[f"{DOWN}.weight"] is base[f"{DOWN}.weight"]


def test_a_row_is_the_same_whatever_is_read_with_it(
    base: dict[str, Tensor], tmp_path: Path
) -> None:
    tensor = merged_with(base, write_adapter(tmp_path / "adapter", pair(DOWN)))[f"{DOWN}.weight"]
    whole = tensor.read(0, 256)
    for start, stop in ((0, 1), (127, 129), (100, 256), (255, 256), (13, 13)):
        np.testing.assert_array_equal(tensor.read(start, stop), whole[start:stop])


def test_an_embedding_adds_the_transposed_product(base: dict[str, Tensor], tmp_path: Path) -> None:
    a, b = noise((RANK, 1024), 3), noise((256, RANK), 4)
    half = f"{PREFIX}{EMBEDDING}.lora_embedding_"
    folder = write_adapter(tmp_path / "adapter", {f"{half}A": a, f"{half}B": b})
    tensor = merged_with(base, folder)[f"{EMBEDDING}.weight"]
    expected = values(base[tensor.name]) + 4 * (b.astype(np.float64) @ a).T
    np.testing.assert_allclose(values(tensor), expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(tensor.read(700, 701), tensor.read(0, 1024)[700:701])


def test_a_head_that_is_the_embedding_under_another_name(tmp_path: Path) -> None:
    """EXAONE 3.5 calls its embedding `wte`; a head that was saved is one of its own."""
    tied = {"tie_word_embeddings": True}
    model = open_checkpoint(write_family_checkpoint(tmp_path / "base", "exaone", config=tied))
    table, head = model.tensors["transformer.wte.weight"], f"{PREFIX}lm_head.weight"
    assert "lm_head.weight" not in model.tensors
    trained = noise(table.shape, 5)
    merged = merge_into(model, read_adapter(write_adapter(tmp_path / "one", {head: trained})))
    np.testing.assert_array_equal(merged.tensors["lm_head.weight"].read(0, 9), trained[:9])
    assert merged.config["tie_word_embeddings"] is False
    same = write_adapter(tmp_path / "same", {head: table.read(0, table.n_rows)})
    assert "lm_head.weight" not in merge_into(model, read_adapter(same)).tensors


def test_a_head_under_both_of_its_names_is_refused(tmp_path: Path) -> None:
    model = open_checkpoint(write_family_checkpoint(tmp_path / "base", "gpt-neox"))
    shape = model.tensors["embed_out.weight"].shape
    weights = {f"{PREFIX}{name}.weight": noise(shape, 5) for name in ("lm_head", "embed_out")}
    adapter = read_adapter(write_adapter(tmp_path / "adapter", weights))
    with pytest.raises(SourceError, match=r"changes 'lm_head\.weight', which the model does not"):
        merge_into(model, adapter)


def test_two_adapters_add_up(base: dict[str, Tensor], tmp_path: Path) -> None:
    one = write_adapter(tmp_path / "one", pair(Q))
    two = write_adapter(tmp_path / "two", pair(Q, rank=8), r=8)
    both = merged_with(merged_with(base, one), two, -1.0)[f"{Q}.weight"]
    expected = values(base[f"{Q}.weight"]) + 4 * product(pair(Q), Q) - 2 * product(pair(Q, 8), Q)
    np.testing.assert_allclose(values(both), expected, rtol=0, atol=1e-5)


def test_a_file_holds_the_merged_weights(tmp_path: Path) -> None:
    """The same bytes as from a checkpoint that was merged before, in float32."""
    size = {"n_layers": 1, "intermediate_size": 384}
    source = write_llama_checkpoint(tmp_path / "model", dtype="BF16", **size)
    adapter = write_adapter(tmp_path / "adapter", pair(Q) | pair(DOWN))
    tensors = merged_with(open_checkpoint(source).tensors, adapter, 0.5)
    whole = {name: t.read(0, t.n_rows).reshape(t.shape) for name, t in tensors.items()}
    other = write_llama_checkpoint(tmp_path / "merged" / "model", dtype="F32", **size)
    write_safetensors(other / "model.safetensors", whole, "F32")
    out = tmp_path / "a.gguf", tmp_path / "b.gguf"
    convert(source, out[0], quant="Q4_K_M", adapters=[(adapter, 0.5)])
    convert(other, out[1], quant="Q4_K_M")
    assert out[0].read_bytes() == out[1].read_bytes()


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_adapters_in_16_bits(dtype: Any, base: dict[str, Tensor], tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", pair(Q), dtype)
    expected = values(base[f"{Q}.weight"]) + 4 * product(pair(Q), Q)
    found = values(merged_with(base, folder)[f"{Q}.weight"])
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.05)


# --- what is refused -----------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another method": ({"peft_type": "LOHA"}, "not LoRA (LOHA)"),
    "DoRA": ({"use_dora": True}, "use_dora"),
    "PiSSA": ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights 'pissa_niter_4'"),
    "slow patterns": ({"alpha_pattern": {"(a*)*b": 8}}, "alpha_pattern '(a*)*b'"),
    "loose patterns": ({"alpha_pattern": {".*.*.*q": 8}}, "alpha_pattern '.*.*.*q'"),
    "broken patterns": ({"alpha_pattern": {"[z-a]": 8}}, "alpha_pattern '[z-a]'"),
    "tokens": ({"trainable_token_indices": [7]}, "trainable_token_indices"),
    "repeated layers": ({"layer_replication": [[0, 1]]}, "layer_replication"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_kinds_are_refused_by_name(
    name: str, base: dict[str, Tensor], tmp_path: Path
) -> None:
    config, words = REFUSED[name]
    with pytest.raises(UnsupportedError) as error:
        merged_with(base, write_adapter(tmp_path / "adapter", pair(Q), **config))
    assert words in str(error.value) and str(tmp_path) in error.value.ko


def test_a_tensor_that_is_no_half_is_refused_by_name(
    base: dict[str, Tensor], tmp_path: Path
) -> None:
    name = f"{PREFIX}{Q}.lora_magnitude_vector"
    folder = write_adapter(tmp_path / "adapter", {**pair(Q), name: noise((256,), 1)})
    with pytest.raises(UnsupportedError, match="lora_magnitude_vector"):
        merged_with(base, folder)


def test_a_module_that_the_model_lacks_is_named(base: dict[str, Tensor], tmp_path: Path) -> None:
    renamed = {name.replace("layers.0", "layers.7"): w for name, w in pair(Q).items()}
    with pytest.raises(SourceError, match=r"layers\.7.*which the model does not have"):
        merged_with(base, write_adapter(tmp_path / "adapter", renamed))


def test_half_a_pair_is_named(base: dict[str, Tensor], tmp_path: Path) -> None:
    weights = dict(list(pair(Q).items())[:1])
    with pytest.raises(SourceError, match="q_proj' lacks its other half"):
        merged_with(base, write_adapter(tmp_path / "adapter", weights))


@pytest.mark.parametrize("a, b", [((4, 255), (256, 4)), ((4, 256), (256, 5)), ((4,), (4,))])
def test_shapes_that_do_not_fit_are_named(
    a: tuple[int, ...], b: tuple[int, ...], base: dict[str, Tensor], tmp_path: Path
) -> None:
    names = pair(Q)
    weights = {name: noise(shape, 1) for name, shape in zip(names, (a, b), strict=True)}
    with pytest.raises(SourceError, match="belongs to another model|are no pair"):
        merged_with(base, write_adapter(tmp_path / "adapter", weights))


@pytest.mark.parametrize("alpha", [None, "16", True])
def test_an_alpha_that_is_no_number(alpha: Any, base: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="value of lora_alpha .* makes no sense"):
        merged_with(base, write_adapter(tmp_path / "adapter", pair(Q), lora_alpha=alpha))


def test_a_folder_that_is_no_adapter(base: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="no adapter_config.json"):
        merged_with(base, tmp_path)
    folder = write_adapter(tmp_path / "adapter", pair(Q))
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(SourceError, match="has no adapter_model.safetensors"):
        merged_with(base, folder)
    write_adapter(folder, {})
    with pytest.raises(SourceError, match="it is empty"):
        merged_with(base, folder)
