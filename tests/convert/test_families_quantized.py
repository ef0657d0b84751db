"""Every architecture in mixed types: the bytes of llama.cpp's quantizer, from both directions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from llama_quantizer import llama_quantize

from checkpoints import FAMILIES, write_family_checkpoint
from komt_convert import convert, quantize
from komt_convert.file_types import FILE_TYPES
from komt_convert.gguf_file import check


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def models(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint, and the same as F32."""
    folder = tmp_path_factory.mktemp("family")
    config = {"num_hidden_layers": 9} if request.param == "gpt-neox" else None
    source = write_family_checkpoint(folder / "my-model", request.param, config=config)
    return source, convert(source, folder / "f32.gguf", quant="F32", verify=False).out


def tensors(path: Path) -> dict[str, tuple[str, bytes]]:
    raw = path.read_bytes()
    return {
        t.name: (t.type.name, raw[t.offset : t.offset + t.n_bytes]) for t in check(path).tensors
    }


@pytest.mark.parametrize("name", ["Q4_K_M", "Q3_K_L", "Q5_0", "IQ4_XS"])
def test_bytes_are_those_of_llama_cpp(name: str, models: tuple[Path, Path], tmp_path: Path) -> None:
    checkpoint, f32 = models
    llama_quantize(f32, tmp_path / "theirs.gguf", FILE_TYPES[name].number)
    expected = tensors(tmp_path / "theirs.gguf")
    converted = convert(checkpoint, tmp_path / "converted.gguf", quant=name, verify=False)
    assert tensors(converted.out) == expected
    assert tensors(quantize(f32, tmp_path / "again.gguf", quant=name).out) == expected
