"""What komt_convert writes is, byte for byte, what llama.cpp's own tools write.

The records in `tests/golden` were made by its `make.py` from the same checkpoints.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import gguf
import pytest

from checkpoints import GOLDEN, VOCABULARIES, write_golden_checkpoint
from komt_convert import convert

FILE_TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K_M", "Q5_K_M", "Q6_K")

# Where the metadata is meant to differ, and why.
OURS = {
    "general.source.repo_url",  # the page of the model, which the converter only names
    "general.file_type",  # the converter forgets it for GPT-NeoX
    "komt.tokenizer.legacy",
    "tokenizer.ggml.add_space_prefix",  # llama.cpp's default, but said aloud
    "tokenizer.ggml.unknown_token_id",  # the converter takes it from tokenizer.json only
}
OURS_TOO = {  # llama.cpp's defaults, below the name of an architecture, said aloud as well
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "rope.freq_base",
}
BETTER = {
    ("grouped-tiny", "tokenizer.ggml.scores"),  # the converter gives all pieces -1000
    ("grouped-tiny", "tokenizer.ggml.token_type"),  # <unk> is unknown, as in a tokenizer.model
}
LEFT_OUT = {"tokenizer.ggml.add_sep_token"}  # false, as without the key; for pairs of sentences


@pytest.fixture(scope="module", params=sorted(GOLDEN))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_golden_checkpoint(tmp_path_factory.mktemp("golden"), request.param)


def record(name: str) -> dict[str, Any]:
    path = VOCABULARIES.parent / "golden" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("file_type", FILE_TYPES)
def test_tensors_are_those_of_llama_cpp(case: Path, file_type: str, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    convert(case, out, quant=file_type, verify=False)
    found = {
        tensor.name: {
            "shape": tensor.shape.tolist()[::-1],
            file_type: [
                tensor.tensor_type.name,
                hashlib.sha256(tensor.data.tobytes()).hexdigest(),
            ],
        }
        for tensor in gguf.GGUFReader(out).tensors
    }
    recorded = record(case.name)["tensors"]
    assert found == {
        name: {"shape": entry["shape"], file_type: entry[file_type]}
        for name, entry in recorded.items()
    }


def test_metadata_is_that_of_llama_cpp(case: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    convert(case, out, quant="F16", verify=False)
    found = metadata(gguf.GGUFReader(out))
    recorded = record(case.name)["metadata"]
    assert recorded.keys() - found.keys() <= LEFT_OUT
    ours = found.keys() - recorded.keys() - OURS
    assert {key.partition(".")[2] for key in ours} <= OURS_TOO
    different = {key for key in recorded if found.get(key, recorded[key]) != recorded[key]}
    assert {(case.name, key) for key in different} == {d for d in BETTER if d[0] == case.name}


def metadata(reader: gguf.GGUFReader) -> dict[str, Any]:
    """As `make.py` records it."""
    found = {}
    for name, field in reader.fields.items():
        value = field.contents()
        if isinstance(value, list):
            digest = hashlib.sha256(json.dumps(value).encode()).hexdigest()
            found[name] = [field.types[-1].name, len(value), digest]
        elif not name.startswith("GGUF."):
            found[name] = [field.types[0].name, value]
    return found
