"""A checkpoint as the Hugging Face libraries write it: a folder with config.json and safetensors.

`open_checkpoint` reads the config and the headers of the weight files, and refuses with one
sentence what cannot be converted: other formats, weights that are quantized already, files that
are missing or damaged. It knows neither architectures nor tokenizers, and runs nothing that comes
with the checkpoint.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from komt_convert.errors import SourceError, UnsupportedError
from komt_convert.tensors import Tensor, read_safetensors

INDEX = "model.safetensors.index.json"

PACKED = re.compile(r"\.(qweight|qzeros|weight_packed|weight_scale|weight_scale_inv|SCB|absmax)$")
"""Tensors that only quantized weights have: GPTQ and AWQ, compressed-tensors, FP8, bitsandbytes."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An open checkpoint; `size_bytes` counts its weight files, nothing of which is read yet."""

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    size_bytes: int


def open_checkpoint(folder: Path) -> Checkpoint:
    """Open the checkpoint in `folder`.

    Raises SourceError when there is none, or not all of it, and UnsupportedError when its weights
    are in another format or quantized already.
    """
    config = _read_config(folder)
    _refuse_quantized(folder, config)
    files = _weight_files(folder)
    tensors = _read_tensors(files)
    _compare_with_index(folder, tensors)
    if packed := next(filter(PACKED.search, tensors), None):
        raise _quantized(folder, f"{packed!r}")
    return Checkpoint(folder, config, tensors, sum(file.stat().st_size for file in files))


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; {} when there is no such file. Raises SourceError."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise SourceError(
            f"{path} is not a JSON object; download or copy it again.",
            f"{path} 파일이 JSON 객체가 아닙니다. 다시 내려받거나 복사하세요.",
        )
    return value


# --- what the folder is --------------------------------------------------------------------------


def _read_config(folder: Path) -> dict[str, Any]:
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


# --- the weight files ----------------------------------------------------------------------------


def _weight_files(folder: Path) -> list[Path]:
    """One file, or those of the index, or all shards: the order in which transformers looks."""
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    names = set(_weight_map(folder).values()) or _shards_without_index(folder)
    if not names:
        raise _no_weights(folder)
    missing = sorted(name for name in names if not (folder / name).is_file())
    if missing:
        raise SourceError(
            f"{folder} lacks {_some(missing)} of its {len(names)} weight files; "
            "download the checkpoint again.",
            f"{folder} 폴더에 가중치 파일 {len(names)}개 중 {_some(missing)}이(가) 없습니다. "
            "체크포인트를 다시 내려받으세요.",
        )
    return [folder / name for name in sorted(names)]


def _weight_map(folder: Path) -> dict[str, str]:
    """Tensor name → file name, from the index; {} without one."""
    index = folder / INDEX
    weight_map = read_json(index).get("weight_map", {})
    is_map = isinstance(weight_map, dict) and all(
        isinstance(name, str) and name and Path(name).name == name for name in weight_map.values()
    )
    if not is_map or (index.is_file() and not weight_map):
        raise SourceError(
            f"{index} does not say which file holds which tensor; download it again.",
            f"{index} 파일에 텐서별 파일 이름이 없습니다. 다시 내려받으세요.",
        )
    return dict(weight_map)


def _shards_without_index(folder: Path) -> set[str]:
    """Names like model-00001-of-00003.safetensors tell how many there are."""
    pattern = re.compile(r"(model-)(\d{5})(-of-(\d{5})\.safetensors)")
    found = [match for file in folder.iterdir() if (match := pattern.fullmatch(file.name))]
    return {f"{m[1]}{number:05}{m[3]}" for m in found for number in range(1, int(m[4]) + 1)}


def _no_weights(folder: Path) -> SourceError:
    if (folder / "adapter_config.json").is_file():
        return _adapter(folder)
    for pattern in ("pytorch_model*.bin", "consolidated.*", "*.bin", "*.pth", "*.pt"):
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


def _read_tensors(files: Iterable[Path]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for file in files:
        found = read_safetensors(file)
        if twice := sorted(found.keys() & tensors.keys()):
            raise SourceError(
                f"{file} holds {_some(twice)} again, which another weight file holds already; "
                "download the checkpoint again into an empty folder.",
                f"{file} 파일의 {_some(twice)} 텐서가 다른 파일에도 있습니다. "
                "빈 폴더에 체크포인트를 다시 내려받으세요.",
            )
        tensors |= found
    return tensors


def _compare_with_index(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    if (folder / "model.safetensors").is_file() or not (folder / INDEX).is_file():
        return
    named = _weight_map(folder).keys()
    if missing := sorted(named - tensors.keys()):
        raise SourceError(
            f"The weight files in {folder} lack {_some(missing)}, which {INDEX} names; "
            "download the checkpoint again.",
            f"{folder} 가중치 파일에 {INDEX} 목록의 {_some(missing)} 텐서가 없습니다. "
            "체크포인트를 다시 내려받으세요.",
        )
    if extra := sorted(tensors.keys() - named):
        raise SourceError(
            f"The weight files in {folder} hold {_some(extra)}, which {INDEX} does not name; "
            "download the checkpoint again.",
            f"{folder} 가중치 파일의 {_some(extra)} 텐서가 {INDEX} 목록에 없습니다. "
            "체크포인트를 다시 내려받으세요.",
        )


def _some(names: list[str]) -> str:
    """The first three names, and how many more there are."""
    shown = ", ".join(map(repr, names[:3]))
    return shown if len(names) <= 3 else f"{shown} (+{len(names) - 3:,})"
