"""An adapter as GGUF: llama.cpp computes with it what it computes with the merged model."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import llama_cpp
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
from komt_convert.errors import OutputError, SourceError, UnsupportedError
from komt_convert.gguf_file import check
from komt_convert.lora_gguf import convert_adapter

RANK, N_IDS = 4, 48
SHAPES = {
    "self_attn.q_proj": (64, 64),
    "self_attn.k_proj": (32, 64),
    "self_attn.v_proj": (32, 64),
    "self_attn.o_proj": (64, 64),
    "mlp.gate_proj": (96, 64),
    "mlp.up_proj": (96, 64),
    "mlp.down_proj": (64, 96),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama_checkpoint(
        tmp_path_factory.mktemp("models") / "base",
        n_layers=2,
        hidden_size=64,
        intermediate_size=96,
        n_heads=4,
        n_kv_heads=2,
        dtype="F32",
    )


def write_adapter(
    folder: Path, *, embedding: bool = False, saved: bool = False, **config: Any
) -> Path:
    """A strong adapter on every linear layer of the base."""
    folder.mkdir()
    weights = {}
    for seed, (name, (rows, columns)) in enumerate(SHAPES.items()):
        for i in range(2):
            half = f"base_model.model.model.layers.{i}.{name}.lora_"
            weights[f"{half}A.weight"] = noise((RANK, columns), (seed, i, 0))
            weights[f"{half}B.weight"] = noise((rows, RANK), (seed, i, 1))
    if embedding:
        half = "base_model.model.model.embed_tokens.lora_embedding_"
        weights |= {f"{half}A": noise((RANK, 1024), 1), f"{half}B": noise((64, RANK), 2)}
        half = "base_model.model.lm_head.lora_"
        weights[f"{half}A.weight"] = noise((RANK, 64), 3)
        weights[f"{half}B.weight"] = noise((1024, RANK), 4)
    if saved:
        weights["base_model.model.lm_head.weight"] = noise((1024, 64), 5)
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": 4}
    write_json(folder / "adapter_config.json", settings | config)
    write_safetensors(folder / "adapter_model.safetensors", weights, "F32")
    return folder


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"embedding": True},
        {"use_rslora": True},
        {"lora_alpha": 6, "alpha_pattern": {"q_proj": 1, "down_proj": 2}},
        {"lora_alpha": 0},
    ],
)
def test_the_logits_are_those_of_the_merged_model(
    settings: dict[str, Any], base: Path, tmp_path: Path
) -> None:
    adapter = write_adapter(tmp_path / "adapter", **settings)
    convert(base, tmp_path / "base.gguf", quant="F32", verify=False)
    convert(base, tmp_path / "merged.gguf", quant="F32", verify=False, adapters=[(adapter, 1.0)])
    report = convert_adapter(adapter, tmp_path / "adapter.gguf", base=base)
    plain = logits(tmp_path / "base.gguf")
    merged = logits(tmp_path / "merged.gguf")
    added = logits(tmp_path / "base.gguf", report.out)
    np.testing.assert_allclose(added, merged, rtol=0, atol=2e-4)
    if settings.get("lora_alpha") != 0:
        assert np.abs(merged - plain).max() > 0.1


def test_the_rows_of_fused_layers_move_with_their_weight(tmp_path: Path) -> None:
    base = write_family_checkpoint(tmp_path / "base", "gpt-neox")
    shapes = {
        name: tensor.shape
        for name, tensor in open_checkpoint(base).tensors.items()
        if name.endswith(("query_key_value.weight", "dense.weight", "dense_h_to_4h.weight"))
    }
    weights = {}
    for seed, (name, (rows, columns)) in enumerate(shapes.items()):
        half = f"base_model.model.{name.removesuffix('.weight')}.lora_"
        weights[f"{half}A.weight"] = noise((RANK, columns), (seed, 0))
        weights[f"{half}B.weight"] = noise((rows, RANK), (seed, 1))
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    write_json(adapter / "adapter_config.json", {"peft_type": "LORA", "lora_alpha": 4})
    write_safetensors(adapter / "adapter_model.safetensors", weights, "F32")
    convert(base, tmp_path / "base.gguf", quant="F32", verify=False)
    convert(base, tmp_path / "merged.gguf", quant="F32", verify=False, adapters=[(adapter, 1.0)])
    convert_adapter(adapter, tmp_path / "adapter.gguf", base=base)
    plain, merged = logits(tmp_path / "base.gguf"), logits(tmp_path / "merged.gguf")
    added = logits(tmp_path / "base.gguf", tmp_path / "adapter.gguf")
    # llama.cpp's GELU is a table of 16-bit numbers, where the last bits of a sum may take a step.
    np.testing.assert_allclose(added, merged, rtol=0, atol=2e-3)
    assert np.abs(merged - plain).max() > 0.1


def test_what_the_file_says(base: Path, tmp_path: Path) -> None:
    report = convert_adapter(write_adapter(tmp_path / "말투"), tmp_path / "out.gguf", base=base)
    header = check(report.out)
    assert header.metadata["general.type"] == "adapter"
    assert header.metadata["adapter.type"] == "lora"
    assert header.metadata["adapter.lora.alpha"] == 4.0
    assert header.metadata["general.architecture"] == "llama"
    assert header.metadata["general.name"] == "말투"
    assert report.n_tensors == len(header.tensors) == 2 * 2 * len(SHAPES)
    assert [path.name for path in tmp_path.glob("*out*")] == ["out.gguf"]
    with pytest.raises(OutputError, match="exists already"):
        convert_adapter(tmp_path / "말투", report.out, base=base)


def test_the_base_is_found_by_its_name(base: Path, tmp_path: Path) -> None:
    (tmp_path / "base").symlink_to(base)
    by_path = write_adapter(tmp_path / "one", base_model_name_or_path=str(base))
    by_name = write_adapter(tmp_path / "two", base_model_name_or_path="someone/base")
    for adapter in (by_path, by_name):
        convert_adapter(adapter, tmp_path / f"{adapter.name}.gguf")
    lost = write_adapter(tmp_path / "three", base_model_name_or_path="someone/else")
    with pytest.raises(SourceError, match="adapter for 'someone/else', which is not here.*--base"):
        convert_adapter(lost, tmp_path / "three.gguf")


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a saved head": ({"saved": True}, {}, r"changes 'lm_head\.weight'"),
    "a shared embedding": ({"embedding": True}, {"tie_word_embeddings": True}, "'lm_head'"),
    "another base": ({}, {"intermediate_size": 128}, "belongs to another model"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_llama_cpp_would_not_add_is_refused(name: str, base: Path, tmp_path: Path) -> None:
    settings, changes, words = REFUSED[name]
    from komt_convert.checkpoint import read_json

    other = tmp_path / "other"
    other.mkdir()
    write_json(other / "config.json", {**read_json(base / "config.json"), **changes})
    adapter = write_adapter(tmp_path / "adapter", **settings)
    with pytest.raises(SourceError, match=words) as error:
        convert_adapter(adapter, tmp_path / "out.gguf", base=other)
    assert isinstance(error.value, UnsupportedError) == (name != "another base")
    assert not (tmp_path / "out.gguf").exists()


# --- llama.cpp's side ----------------------------------------------------------------------------


def logits(path: Path, adapter: Path | None = None) -> NDArray[np.float32]:
    """Logits of every position, with keys and values kept as float32."""
    settings = llama_cpp.llama_context_default_params()
    settings.n_ctx = settings.n_batch = settings.n_ubatch = 64
    settings.type_k = settings.type_v = 0  # GGML_TYPE_F32
    settings.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    settings.n_threads = settings.n_threads_batch = 1
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    parameters = llama_cpp.llama_model_default_params()
    model: Any = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
    context: Any = llama_cpp.llama_init_from_model(model, settings)
    if adapter is not None:
        lora: Any = llama_cpp.llama_adapter_lora_init(model, str(adapter).encode())
        assert lora
        loras, scales = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(lora), (ctypes.c_float * 1)(1.0)
        assert llama_cpp.llama_set_adapters_lora(context, loras, 1, scales) == 0
    n_rows = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    ids = np.random.default_rng(1).integers(3, n_rows, N_IDS).tolist()
    batch = llama_cpp.llama_batch_init(N_IDS, 0, 1)
    try:
        batch.n_tokens = N_IDS
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.logits[i] = token, i, 1
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
        assert llama_cpp.llama_decode(context, batch) == 0
        found = llama_cpp.llama_get_logits(context)
        return np.ctypeslib.as_array(found, (N_IDS, n_rows)).copy()
    finally:
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(model)


@llama_cpp.llama_log_callback
def quiet(level: int, text: bytes, data: object) -> None:
    pass
