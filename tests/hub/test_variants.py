"""GGUF files of a repository, as types of one model."""

from __future__ import annotations

import pytest

from komt_local import catalogue
from komt_local.references import is_name, parse
from komt_local.variants import best_type, file_bytes, fits, needed, type_of, variants


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ggml-model-q4_0.gguf", "Q4_0"),
        ("EXAONE-3.5-7.8B-Instruct-BF16.gguf", "BF16"),
        ("Q8_0/x-Q8_0-00001-of-00002.gguf", "Q8_0"),
        ("A.X-3.1-Light.Q4_K_M.gguf", "Q4_K_M"),
        ("m-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("qwen2.5-7b-iq4_xs.gguf", "IQ4_XS"),
        ("m-fp16.gguf", "F16"),
        ("m-MXFP4.gguf", "MXFP4"),
        ("f16-to-Q6_K.gguf", "Q6_K"),
        ("model.gguf", ""),
    ],
)
def test_types_are_read_from_names(name: str, expected: str) -> None:
    assert type_of(name) == expected


def test_splits_belong_together_and_companions_are_left_out() -> None:
    found = variants(
        {
            "a-Q8_0-00002-of-00002.gguf": 3,
            "a-Q8_0-00001-of-00002.gguf": 4,
            "b-Q4_0-00001-of-00003.gguf": 9,
            "a-Q4_K_M.gguf": 5,
            "mmproj-F16.gguf": 2,
            "imatrix.gguf": 1,
            "README.md": 1,
        }
    )
    assert [(v.type, v.files, v.size) for v in found] == [
        ("Q8_0", ("a-Q8_0-00001-of-00002.gguf", "a-Q8_0-00002-of-00002.gguf"), 7),
        ("Q4_K_M", ("a-Q4_K_M.gguf",), 5),
    ]


@pytest.mark.parametrize("parameters", [1.3e9, 7e9, 10.8e9, 12.9e9, 32e9])
@pytest.mark.parametrize("gigabytes", [4, 8, 16, 24, 64])
def test_the_best_type_fits_or_is_the_smallest(parameters: float, gigabytes: int) -> None:
    memory = gigabytes * 10**9
    type_ = best_type(parameters, memory)
    assert fits(file_bytes(parameters, type_), memory) or type_ == "Q4_0"
    assert type_ not in ("F32", "F16", "BF16")


def test_what_is_needed_is_what_fits() -> None:
    for size in (1, 4_000_000_000, 13_000_000_000):
        assert fits(size, needed(size) + 2)
        assert not fits(size, needed(size) - 2)


def test_sizes_of_known_files() -> None:
    """Llama-3.1-8B as Q4_K_M has 4.58 GiB (llama.cpp's tools/quantize/README.md)."""
    assert file_bytes(8.03e9, "Q4_K_M") == pytest.approx(4.58 * 2**30, rel=0.01)
    assert file_bytes(8.03e9, "Q8_0") == pytest.approx(7.95 * 2**30, rel=0.01)
    assert 3.5e9 < file_bytes(8.03e9, "Q3_K_M") < 4.1e9


# --- the catalogue -------------------------------------------------------------------------------


def test_names_are_unique_and_can_be_typed() -> None:
    names = [name for model in catalogue.models() for name in model.names()]
    assert len(names) == len(set(names))
    assert all(is_name(name) and name == name.lower() for name in names)
    assert all(parse(name).kind == "name" for name in names)


@pytest.mark.parametrize("model", catalogue.models(), ids=lambda model: model.name)
def test_every_entry_is_whole(model: catalogue.Model) -> None:
    for repo in model.repos():
        assert parse(repo).kind == "repo"
    assert model.title and model.licence and model.sources
    assert bool(model.restrictions) == bool(model.restrictions_ko)
    assert bool(model.note) == bool(model.note_ko)
    assert set(model.unconfirmed) <= set(catalogue.Model.__dataclass_fields__)
    assert bool(model.parameters) != bool(model.adapter_of)
    assert model.context or "context" in model.unconfirmed
    assert all(file.endswith(".gguf") for file in model.ggufs)
    assert not model.ggufs or model.gguf
    assert catalogue.find(model.name.upper()) is model
    if model.adapter_of:
        assert parse(model.adapter_of).kind == "repo" and not model.memory()
    else:
        assert model.memory()["Q4_K_M"] < model.memory()["Q8_0"]


def test_templates_of_the_catalogue_exist() -> None:
    from komt_local.prompts import PRESETS

    named = {model.template for model in catalogue.models()} - {""}
    assert named <= set(PRESETS)


def test_near_names_are_offered() -> None:
    assert "kullm-12.8b-v2" in catalogue.near("kulm-12.8b-v2")
    assert catalogue.of_repo("DAVIDKIM205/komt-mistral-7b-v1-gguf") is catalogue.find("komt")
