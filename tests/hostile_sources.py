"""Whole checkpoints of several kinds, small, each with code beside it that must never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from checkpoints import (
    noise,
    write_family_checkpoint,
    write_json,
    write_llama_checkpoint,
    write_safetensors,
)
from ggml_files import write_ggml

SMALL: dict[str, Any] = {
    "n_layers": 1,
    "hidden_size": 64,
    "intermediate_size": 96,
    "n_heads": 4,
    "n_kv_heads": 2,
}


def make_sources(folder: Path) -> dict[str, Path]:
    """Sources by kind; running any of their code makes the file `it ran` in `folder`."""
    folder.mkdir(exist_ok=True)
    sources = {
        "llama": write_llama_checkpoint(folder / "llama", **SMALL),
        "shards": write_llama_checkpoint(folder / "shards", vocab="hf-bpe", shards=2, **SMALL),
        "byte-level": write_llama_checkpoint(
            folder / "byte-level", vocab="byte-level", tied=True, dtype="BF16", **SMALL
        ),
        "gpt-neox": write_family_checkpoint(folder / "gpt-neox", "gpt-neox"),
        "pickled": pickled(write_llama_checkpoint(folder / "pickled", **SMALL)),
        "adapter": adapter(folder / "adapter"),
        "ggml": write_ggml(folder / "ggml.bin", type_="Q4_0"),
    }
    for source in sources.values():
        if source.is_dir():
            with_code(source, folder / "it ran")
    return sources


def with_code(source: Path, marker: Path) -> None:
    """Code as models of one's own bring it, named in every config."""
    (source / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass A: pass\n", "utf-8")
    (source / "setup.py").write_text(f"open({str(marker)!r}, 'w')\n", "utf-8")
    from komt_convert.json_file import read_json

    names = ("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer")
    for name in ("config.json", "tokenizer_config.json"):
        if (source / name).is_file():
            auto_map = dict.fromkeys(names, "evil.A")
            write_json(source / name, {**read_json(source / name), "auto_map": auto_map})


def pickled(folder: Path) -> Path:
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def adapter(folder: Path) -> Path:
    folder.mkdir()
    weights = {}
    for seed, (name, shape) in enumerate({"q_proj": (64, 64), "v_proj": (32, 64)}.items()):
        half = f"base_model.model.model.layers.0.self_attn.{name}.lora_"
        weights[f"{half}A.weight"] = noise((4, shape[1]), (seed, 0))
        weights[f"{half}B.weight"] = noise((shape[0], 4), (seed, 1))
    weights["base_model.model.lm_head.weight"] = noise((1024, 64), 9)
    write_safetensors(folder / "adapter_model.safetensors", weights, "F32")
    settings: dict[str, Any] = {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 8,
        "init_lora_weights": True,
        "modules_to_save": ["lm_head"],
        "alpha_pattern": {"q_proj": 4},
        "rank_pattern": {},
        "target_modules": ["q_proj", "v_proj"],
    }
    write_json(folder / "adapter_config.json", settings)
    return folder
