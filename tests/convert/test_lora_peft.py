"""What is merged here is what PEFT merges: every tensor of `merge_and_unload`, within rounding.

The base is loaded by PEFT's side in float32; each weight may differ by the last bits of a sum.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from checkpoints import write_family_checkpoint, write_llama_checkpoint, write_tokenizer
from komt_convert import arch, convert
from komt_convert.checkpoint import Checkpoint, open_checkpoint
from komt_convert.gguf_file import check
from komt_convert.sources import with_adapters

pytestmark = pytest.mark.filterwarnings("ignore")

SMALL: dict[str, Any] = {
    "n_layers": 2,
    "hidden_size": 64,
    "intermediate_size": 96,
    "n_heads": 4,
    "n_kv_heads": 2,
    "dtype": "BF16",
}
EVERYWHERE = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
QV = ["q_proj", "v_proj"]

CASES: dict[str, dict[str, Any]] = {
    "plain": {"target_modules": EVERYWHERE},
    "rsLoRA": {"target_modules": EVERYWHERE, "use_rslora": True, "lora_alpha": 3},
    "patterns": {
        "target_modules": EVERYWHERE,
        "rank_pattern": {"down_proj": 7, r"model.layers.1.self_attn.q_proj": 2},
        "alpha_pattern": {"k_proj": 5, r"^model.layers.0.mlp.up_proj": 32, r"layers\.1\.mlp.*": 1},
    },
    "fan in, fan out": {"target_modules": QV, "fan_in_fan_out": True},
    "embedding and head": {"target_modules": [*QV, "embed_tokens", "lm_head"]},
    "saved embedding and head": {
        "target_modules": QV,
        "modules_to_save": ["embed_tokens", "lm_head"],
    },
    "saved norms and a linear layer": {
        "target_modules": QV,
        "modules_to_save": ["norm", "down_proj"],
    },
    "added tokens": {"target_modules": QV, "n_rows": 1030},
    "added tokens, adapted as well": {
        "target_modules": [*QV, "embed_tokens", "lm_head"],
        "n_rows": 1030,
    },
    "biases": {"target_modules": QV, "bias": "all", "base": {"bias": True}},
    "biases of the adapted": {"target_modules": QV, "bias": "lora_only", "base": {"bias": True}},
    "tied": {"target_modules": EVERYWHERE, "base": {"tied": True}},
    "tied, embedding": {"target_modules": [*QV, "embed_tokens"], "base": {"tied": True}},
    "tied, added tokens": {"target_modules": QV, "n_rows": 1030, "base": {"tied": True}},
    "tied, saved embedding": {
        "target_modules": QV,
        "modules_to_save": ["embed_tokens"],
        "base": {"tied": True},
    },
    "tied, saved head": {
        "target_modules": QV,
        "modules_to_save": ["lm_head"],
        "base": {"tied": True},
    },
    "tied, saved together": {
        "target_modules": QV,
        "modules_to_save": ["embed_tokens"],
        "ensure_weight_tying": True,
        "base": {"tied": True},
    },
}


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_is_that_of_merge_and_unload(name: str, tmp_path: Path) -> None:
    case = dict(CASES[name])
    base = write_llama_checkpoint(tmp_path / "base", **(SMALL | case.pop("base", {})))
    n_rows = case.pop("n_rows", 1024)
    adapters = [(write_adapter(tmp_path / "adapter", base, n_rows, **case), 1.0)]
    expected = merge_and_unload(base, adapters, n_rows)
    found = with_adapters(open_checkpoint(base), adapters)
    compare(expected, found)
    assert found.config["vocab_size"] == n_rows
    assert arch.lookup(found.config).tensors(found)


def test_fused_queries_keys_and_values(tmp_path: Path) -> None:
    """GPT-NeoX has them in one layer, whose rows change places only after the merge."""
    base = write_family_checkpoint(tmp_path / "base", "gpt-neox")
    targets = ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]
    adapters = [(write_adapter(tmp_path / "adapter", base, None, target_modules=targets), 1.0)]
    expected = merge_and_unload(base, adapters, None)
    expected["embed_out.weight"] = expected["lm_head.weight"]  # as transformers 5 calls it
    found = with_adapters(open_checkpoint(base), adapters)
    changed = 0
    for name, tensor in found.tensors.items():
        values = tensor.read(0, tensor.n_rows).reshape(tensor.shape)
        np.testing.assert_allclose(values, expected[name].numpy(), rtol=0, atol=2e-6, err_msg=name)
        changed += tensor.dtype == "F32"  # the base is BF16
    assert changed == 4 * 2


@pytest.mark.parametrize(
    "settings",
    [
        {"modules_to_save": ["lm_head"]},
        {"modules_to_save": ["embed_in", "lm_head"]},
        {"target_modules": ["query_key_value", "lm_head"]},
        {"n_rows": 1032},
    ],
)
def test_the_head_of_gpt_neox_under_its_other_name(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    """transformers 5 calls it `lm_head`, and so do the adapters that are trained with it."""
    base = write_family_checkpoint(tmp_path / "base", "gpt-neox")
    case = {"target_modules": ["query_key_value"]} | settings
    n_rows = case.pop("n_rows", None)
    adapters = [(write_adapter(tmp_path / "adapter", base, n_rows, **case), 1.0)]
    expected = merge_and_unload(base, adapters, n_rows)
    expected["embed_out.weight"] = expected.pop("lm_head.weight")
    found = with_adapters(open_checkpoint(base), adapters)
    before, head = (c.tensors["embed_out.weight"] for c in (open_checkpoint(base), found))
    assert head.shape != before.shape or not np.array_equal(head.read(0, 1), before.read(0, 1))
    for name, tensor in found.tensors.items():
        values = tensor.read(0, tensor.n_rows).reshape(tensor.shape)
        np.testing.assert_allclose(values, expected[name].numpy(), rtol=0, atol=2e-6, err_msg=name)
    if n_rows:
        assert found.config["vocab_size"] == n_rows
    assert arch.lookup(found.config).tensors(found)


def test_several_adapters_are_summed(tmp_path: Path) -> None:
    base = write_llama_checkpoint(tmp_path / "base", **SMALL)
    adapters = [
        (write_adapter(tmp_path / "one", base, target_modules=QV), 1.0),
        (write_adapter(tmp_path / "two", base, target_modules=EVERYWHERE, r=3, seed=1), 1.0),
    ]
    compare(merge_and_unload(base, adapters), with_adapters(open_checkpoint(base), adapters))


def test_weights_that_lie_columns_first(tmp_path: Path) -> None:
    """GPT-2 has such layers; no architecture here does, so the tensors alone are compared."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from komt_convert.lora import merge
    from komt_convert.lora_file import read_adapter

    torch.manual_seed(0)
    config = GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=100, n_positions=16)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "base")
    targets = ["c_attn", "c_proj"]
    adapter = write_adapter(
        tmp_path / "adapter", tmp_path / "base", None, target_modules=targets, fan_in_fan_out=True
    )
    expected = merge_and_unload(tmp_path / "base", [(adapter, 1.0)], None)
    tensors = merge(open_checkpoint(tmp_path / "base").tensors, read_adapter(adapter))
    for name in ("h.0.attn.c_attn", "h.0.attn.c_proj", "h.0.mlp.c_proj"):
        tensor = tensors[f"transformer.{name}.weight"]
        np.testing.assert_allclose(
            tensor.read(0, tensor.n_rows), expected[tensor.name].numpy(), rtol=0, atol=2e-6
        )


def test_added_tokens_come_with_their_tokenizer(tmp_path: Path) -> None:
    """The adapter's folder holds the tokenizer that was extended; the base's lacks the tokens."""
    base = write_llama_checkpoint(tmp_path / "base", **SMALL)
    adapter = write_adapter(tmp_path / "adapter", base, 1026, target_modules=QV)
    added = {str(i): {"content": f"<|{i}|>", "special": True} for i in (1024, 1025)}
    write_tokenizer(adapter, "spm", overrides={"added_tokens_decoder": added})
    report = convert(base, tmp_path / "out.gguf", quant="F16", adapters=[(adapter, 1.0)])
    header = check(report.out)
    assert header.metadata["tokenizer.ggml.tokens"][1024:] == ("<|1024|>", "<|1025|>")
    assert header.of_architecture("vocab_size") == 1026
    assert report.verified


# --- PEFT's side ---------------------------------------------------------------------------------


def write_adapter(
    folder: Path, base: Path, n_rows: int | None = 1024, *, seed: int = 0, **settings: Any
) -> Path:
    """An adapter on the model in `base`, as PEFT saves it, all of whose weights were trained."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(task_type="CAUSAL_LM", **({"r": 4, "lora_alpha": 8} | settings))
    model = get_peft_model(load(base, n_rows), config)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(str(folder))
    return folder


def merge_and_unload(
    base: Path, adapters: list[tuple[Path, float]], n_rows: int | None = 1024
) -> dict[str, torch.Tensor]:
    from peft import PeftModel

    names = [f"adapter {i}" for i in range(len(adapters))]
    model = PeftModel.from_pretrained(load(base, n_rows), str(adapters[0][0]), names[0])
    for (folder, _), name in zip(adapters[1:], names[1:], strict=True):
        model.load_adapter(str(folder), name)
    merged = model.merge_and_unload(adapter_names=names)
    state: dict[str, torch.Tensor] = merged.state_dict()
    return state


def load(base: Path, n_rows: int | None) -> Any:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if n_rows is not None and n_rows != model.config.vocab_size:
        torch.manual_seed(1)
        model.resize_token_embeddings(n_rows)
    return model


def compare(expected: dict[str, torch.Tensor], found: Checkpoint) -> None:
    """Equal names, and equal values but for the rounding of sums; a tied head is left out."""
    tensors = dict(found.tensors)
    if "lm_head.weight" not in tensors:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        values = tensor.read(0, tensor.n_rows).reshape(tensor.shape)
        np.testing.assert_allclose(values, expected[name].numpy(), rtol=0, atol=2e-6, err_msg=name)
