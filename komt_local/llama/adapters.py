"""LoRA adapters in llama.cpp: read beside a model's weights, applied by a context.

llama.cpp takes a key of another kind for granted, and ends the process: so the file is checked
first. https://github.com/ggml-org/llama.cpp/blob/master/src/llama-adapter.cpp
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidModel
from .library import complaint, logging, native
from .loaded import NativeModel

if TYPE_CHECKING:
    from komt_convert.gguf_file import Header, TensorInfo

_GGUF_F32 = 6


class Adapter:
    """An adapter of one model, freed with it."""

    def __init__(self, pointer: Any, path: Path) -> None:
        self.pointer, self.path = pointer, path


def load_adapter(model: NativeModel, path: Path) -> Adapter:
    """Read a GGUF adapter. Raises InvalidModel for a file that is none, or another model's."""
    from komt_convert.errors import GGUFError
    from komt_convert.gguf_file import read_header

    try:
        header = read_header(path)
    except GGUFError as error:
        raise InvalidModel(str(error), error.ko) from error
    if problem := _problem(header):
        raise _refused(path, *problem)
    library = native()
    with logging(), model.open() as pointer:
        adapter = library.llama_adapter_lora_init(pointer, os.fsencode(path))
        if not adapter:
            why = complaint()
            raise _refused(path, why, why)
    return Adapter(adapter, path)


def _problem(header: Header) -> tuple[str, str] | None:
    """Why llama.cpp must not see this file, in English and Korean; None when it may."""
    metadata = header.metadata
    if metadata.get("general.type") != "adapter" or metadata.get("adapter.type") != "lora":
        return "it is no LoRA adapter", "LoRA 어댑터가 아님"
    if not header.architecture:
        return "it names no architecture", "구조 이름이 없음"
    if not _has_float(header, "adapter.lora.alpha"):
        return "it has no alpha", "alpha가 없음"
    if "adapter.alora.invocation_tokens" in metadata:
        return "it is an activated LoRA", "activated LoRA임"
    ranks: dict[str, set[int]] = {}
    for tensor in header.tensors:
        if len(tensor.shape) != 2 or not all(tensor.shape):
            return f"{tensor.name} is no matrix", f"{tensor.name}: 행렬이 아님"
        ranks.setdefault(tensor.name[:-1], set()).add(_rank(tensor))
    odd = next((name for name, n in ranks.items() if len(n) > 1), None)
    return (
        None
        if odd is None
        else (
            f"the halves of {odd} differ",
            f"{odd}의 두 절반이 서로 다름",
        )
    )


def _has_float(header: Header, key: str) -> bool:
    """Whether the key is there as F32, and not merely as some number."""
    with header.path.open("rb") as file:
        block = file.read(header.data_offset)
    return key.encode() + struct.pack("<I", _GGUF_F32) in block


def _rank(tensor: TensorInfo) -> int:
    """The rows of A, which for the embedding lies transposed, and the columns of B."""
    is_plain = tensor.name.endswith(".lora_a") and not tensor.name.startswith("token_embd")
    return tensor.shape[1 if is_plain else 0]


def _refused(path: Path, en: str, ko: str) -> InvalidModel:
    return InvalidModel(
        f"{str(path)!r} cannot be used as an adapter of this model ({en}); give a GGUF adapter "
        "that was made for it.",
        f"{str(path)!r} 파일은 이 모델의 어댑터로 쓸 수 없습니다({ko}). 이 모델용으로 만든 "
        "GGUF 어댑터를 주세요.",
    )
