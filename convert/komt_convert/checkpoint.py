"""A checkpoint as the Hugging Face libraries write it: a folder with config.json and weights.

`open_checkpoint` reads the config and the headers of the weight files, and refuses with one
sentence what cannot be converted: other formats, weights that are quantized already, files that
are missing or damaged. Which files hold the weights is found by `weight_files`. It knows neither
architectures nor tokenizers, and runs nothing that comes with the checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from komt_convert.digests import Input, inputs
from komt_convert.errors import SourceError, UnsupportedError
from komt_convert.json_file import read_json
from komt_convert.tensors import Tensor
from komt_convert.weight_files import find_weights, read_weights

__all__ = ["Checkpoint", "open_checkpoint", "read_config", "read_json"]

PACKED = re.compile(r"\.(qweight|qzeros|weight_packed|weight_scale|weight_scale_inv|SCB|absmax)$")
"""Tensors that only quantized weights have: GPTQ and AWQ, compressed-tensors, FP8, bitsandbytes."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An open checkpoint; `size_bytes` counts its weight files, nothing of which is read yet.

    `tokenizer_folder` is where its tokenizer lies when that is elsewhere. `files` are all that it
    is made of, adapters that were merged among them.
    """

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    size_bytes: int
    tokenizer_folder: Path | None = None
    files: tuple[Input, ...] = ()

    @property
    def tokenizer(self) -> Path:
        return self.tokenizer_folder or self.folder


def open_checkpoint(folder: Path) -> Checkpoint:
    """Open the checkpoint in `folder`.

    Raises SourceError when there is none, or not all of it, and UnsupportedError when its weights
    are in another format or quantized already.
    """
    config = read_config(folder)
    _refuse_quantized(folder, config)
    files = find_weights(folder)
    if files is None:
        raise _no_weights(folder)
    tensors = read_weights(files)
    if packed := next(filter(PACKED.search, tensors), None):
        raise _quantized(folder, f"{packed!r}")
    return Checkpoint(
        folder, config, tensors, files.size_bytes, files=inputs("model", folder, files.files)
    )


# --- what the folder is --------------------------------------------------------------------------


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of the checkpoint in `folder`. Raises SourceError when there is none."""
    if not folder.is_dir():
        what, was = ("is a file", "파일") if folder.exists() else ("does not exist", "없는 경로")
        raise SourceError(
            f"{folder} {what}; give the folder that holds the checkpoint's config.json.",
            f"{folder}: {was}입니다. 체크포인트의 config.json이 있는 폴더를 지정하세요.",
        )
    if not (folder / "config.json").is_file():
        raise _no_config(folder)
    return read_json(folder / "config.json")


def _no_config(folder: Path) -> SourceError:
    if (folder / "params.json").is_file() or any(folder.glob("consolidated.*")):
        return UnsupportedError(
            f"{folder} holds weights in Meta's own format (consolidated.*.pth, params.json); "
            "use the Hugging Face version of the same model, which has a config.json.",
            f"{folder} 폴더는 Meta 고유 형식(consolidated.*.pth, params.json)입니다. "
            "config.json이 있는 같은 모델의 Hugging Face 버전을 사용하세요.",
        )
    if (folder / "adapter_config.json").is_file():
        return _adapter(folder)
    return SourceError(
        f"{folder} has no config.json, so it is no checkpoint; give the folder of a model.",
        f"{folder} 폴더에 config.json이 없어 체크포인트가 아닙니다. "
        "Hugging Face 모델 폴더를 지정하세요.",
    )


def _adapter(folder: Path) -> SourceError:
    return UnsupportedError(
        f"{folder} is a LoRA adapter, not a model; give the folder of its base model.",
        f"{folder} 폴더는 모델이 아니라 LoRA 어댑터입니다. 기반 모델의 폴더를 지정하세요.",
    )


def _refuse_quantized(folder: Path, config: Mapping[str, Any]) -> None:
    settings = config.get("quantization_config") or config.get("compression_config")
    if settings:
        method = settings.get("quant_method") if isinstance(settings, dict) else None
        raise _quantized(folder, str(method or "quantization_config"))
    for name in ("quantize_config.json", "quant_config.json", "hf_quant_config.json"):
        if (folder / name).is_file():
            raise _quantized(folder, name)


def _quantized(folder: Path, sign: str) -> UnsupportedError:
    return UnsupportedError(
        f"The weights in {folder} are quantized already ({sign}); "
        "convert from the original F32, F16 or BF16 checkpoint.",
        f"{folder} 가중치는 이미 양자화되어 있습니다({sign}). "
        "원본 F32, F16, BF16 체크포인트로 변환하세요.",
    )


def _no_weights(folder: Path) -> SourceError:
    if (folder / "adapter_config.json").is_file():
        return _adapter(folder)
    for pattern in ("consolidated.*", "*.bin", "*.pth", "*.pt", "*.safetensors"):
        if file := next(folder.glob(pattern), None):
            return UnsupportedError(
                f"{folder} has its weights as {file.name}, which is not read here; load it with "
                "transformers and save it again with save_pretrained(), which writes safetensors.",
                f"{folder} 가중치가 {file.name} 형식이라 읽지 않습니다. transformers로 불러와 "
                "save_pretrained()로 다시 저장하면 safetensors가 됩니다.",
            )
    return SourceError(
        f"{folder} has no model.safetensors; download the weights of the checkpoint as well.",
        f"{folder} 폴더에 model.safetensors가 없습니다. 가중치 파일도 내려받으세요.",
    )
