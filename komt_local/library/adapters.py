"""LoRA adapters as llama.cpp wants them: a Hugging Face one is converted once, and kept.

The copy is named by what it was made of, so that it is never taken for that of another adapter.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..errors import InvalidModel, ModelNotFound
from . import cache, records


def adapter_file(source: Path) -> Path:
    """A GGUF adapter: the file itself, or what a folder that PEFT saved is converted to.

    Raises ModelNotFound where there is neither, and InvalidModel for what cannot be converted.
    """
    if source.is_file():
        return source
    if not (source / "adapter_config.json").is_file():
        raise ModelNotFound(
            f"There is no adapter at {str(source)!r}; give a GGUF adapter, or a folder with an "
            "adapter_config.json.",
            f"{str(source)!r}에 어댑터가 없습니다. GGUF 어댑터나 adapter_config.json이 있는 "
            "폴더를 주세요.",
        )
    from komt_convert.errors import ConvertError

    try:
        base = _base(source)
        kept = records.data_folder() / "adapters" / f"{_digest(source, base)}.gguf"
        if not kept.is_file():
            _convert(source, base, kept)
    except ConvertError as error:
        raise InvalidModel(str(error), error.ko) from error
    return kept


def _base(source: Path) -> Path:
    """The folder with the config of the model that the adapter was trained on."""
    from komt_convert.errors import SourceError
    from komt_convert.lora_file import read_adapter
    from komt_convert.sources import base_of

    try:
        return base_of(source)
    except SourceError:
        name = read_adapter(source).base
        there = cache.repo(name).snapshots() if name.count("/") == 1 else []
        found = [folder for folder in there if (folder / "config.json").is_file()]
        if not found:
            raise
        return found[0]


def _digest(source: Path, base: Path) -> str:
    hasher = hashlib.sha256()
    for path in (base / "config.json", *sorted(source.glob("adapter_*"))):
        if path.is_file():
            hasher.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as file:
                while block := file.read(1 << 22):
                    hasher.update(block)
    return hasher.hexdigest()


def _convert(source: Path, base: Path, target: Path) -> None:
    from komt_convert.lora_gguf import convert_adapter

    target.parent.mkdir(parents=True, exist_ok=True)
    convert_adapter(source, target, base=base, force=True)
