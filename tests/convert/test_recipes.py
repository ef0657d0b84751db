"""The choice of types: llama.cpp's own quantizer decides what is right."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_quantizer import Shapes, Sizes, llama_metadata, llama_quantize, llama_shapes

from komt_convert.errors import QuantizationError
from komt_convert.recipes import (
    FILE_TYPES,
    Model,
    Override,
    choose_types,
    file_order,
    file_type,
    file_type_name,
    override,
    requires_imatrix,
)
from komt_convert.tensor_types import BY_NAME
from komt_convert.tensors import Tensor
from komt_convert.writer import plan

MODELS = {
    "7B": Sizes(32, 4096, 11008, 32, 32, 32000),
    "13B": Sizes(40, 5120, 13824, 40, 40, 32000),
    "70B": Sizes(80, 8192, 28672, 64, 8, 32000),
    "65B, whose heads are not grouped": Sizes(80, 8192, 22016, 64, 64, 32000),
    "SOLAR 10.7B": Sizes(48, 4096, 14336, 32, 8, 32000),
    "Llama 3.2 1B, tied": Sizes(16, 2048, 8192, 32, 8, 128256, tied=True),
    "rows that are multiples of 32": Sizes(5, 288, 800, 6, 2, 1000),
    "rows that fit no block": Sizes(3, 72, 200, 2, 1, 100, tied=True),
}


ANY_MATRIX = {"nothing.weight": np.ones(1, np.float32)}


@pytest.fixture(scope="module", params=MODELS)
def model(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Shapes, Path]:
    """A model without weights: an F16 file whose tensor data is a hole, in no place on the disk."""
    sizes = MODELS[request.param]
    shapes = llama_shapes(sizes)
    description = Model("llama", sizes.layers, sizes.heads, sizes.kv_heads)
    types = choose_types(shapes, description, FILE_TYPES["F16"])
    tensors = [Tensor(name, shape, "F16", _unread) for name, shape in shapes.items()]
    layout = plan(llama_metadata(sizes), tensors, types)
    path = tmp_path_factory.mktemp("shapes") / "model.gguf"
    path.write_bytes(layout.header)
    with path.open("r+b") as file:
        file.truncate(layout.size)
    return description, shapes, path


def _unread(start: int, stop: int) -> Any:
    raise AssertionError("no weight is read to choose a type")


def types_of_llama_cpp(path: Path, number: int, **given: Any) -> dict[str, str]:
    """What a dry run says: `[ 1/ 27] name - [shape], type = f16, size = … MiB -> … MiB (q4_K)`."""
    log = "".join(llama_quantize(path, path.with_suffix(".none"), number, dry_run=True, **given))
    line = re.compile(r"\] +(\S+) +- \[.*\], type = +(\w+), .*?size = .*?(?:\((\w+)\))?\n")
    return {name: (new or old).upper() for name, old, new in line.findall(log)}


@pytest.mark.parametrize("imatrix", [None, ANY_MATRIX], ids=["plain", "imatrix"])
@pytest.mark.parametrize("name", FILE_TYPES)
def test_types_are_those_of_llama_cpp(
    name: str, imatrix: Any, model: tuple[Model, Shapes, Path]
) -> None:
    description, shapes, path = model
    kind = FILE_TYPES[name]
    if name == "Q1_0" and any(shape[-1] % 128 for shape in shapes.values()):
        with pytest.raises(QuantizationError, match="no multiple of 128"):
            choose_types(shapes, description, kind)
        return
    chosen = choose_types(shapes, description, kind, imatrix=imatrix is not None)
    expected = types_of_llama_cpp(path, kind.number, imatrix=imatrix)
    assert list(chosen) == list(expected)
    assert {tensor: type_.name for tensor, type_ in chosen.items()} == expected


OVERRIDES = [
    ["attn_v=Q8_0"],
    [r"blk\.[01]\.ffn_(up|down)=F16", "ffn_down=iq4_nl", "token_embd=Q2_K"],
    ["output=Q4_0", "norm=Q4_0", "attn_q.weight=BF16", "attn_q=Q3_K"],
]


@pytest.mark.parametrize("given", OVERRIDES, ids=len)
@pytest.mark.parametrize("name", ["Q4_K_M", "Q8_0", "IQ4_XS"])
def test_overrides_do_what_they_do_in_llama_cpp(
    name: str, given: list[str], model: tuple[Model, Shapes, Path]
) -> None:
    description, shapes, path = model
    overrides = [override(text) for text in given]
    if any(not any(o.pattern.search(name) for name in shapes) for o in overrides):
        pytest.skip("this model has no such tensor")
    chosen = choose_types(shapes, description, FILE_TYPES[name], overrides=overrides)
    theirs = [(o.pattern.pattern, o.type.number) for o in overrides]
    expected = types_of_llama_cpp(path, FILE_TYPES[name].number, overrides=theirs)
    assert {tensor: type_.name for tensor, type_ in chosen.items()} == expected


def test_an_override_is_a_pattern_and_a_type() -> None:
    assert override("a=b=q8_0") == Override(re.compile("a=b"), BY_NAME["Q8_0"])


@pytest.mark.parametrize("text", ["", "Q8_0", "=Q8_0", "attn_v=", "attn_v=Q9", "a(=Q8_0", "v=I32"])
def test_what_is_no_override_is_refused(text: str) -> None:
    with pytest.raises(QuantizationError, match="PATTERN=TYPE") as caught:
        override(text)
    assert "PATTERN=TYPE" in caught.value.ko


@pytest.mark.parametrize(
    ("name", "given", "sentence"),
    [("Q4_0", "attn_w=Q8_0", "attn_w"), ("F16", "output=Q8_0", "not with F16")],
)
def test_an_override_that_does_nothing_is_refused(name: str, given: str, sentence: str) -> None:
    with pytest.raises(QuantizationError, match=sentence):
        choose_types(
            {"output.weight": (512, 256)},
            Model("llama", 1, 2, 2),
            FILE_TYPES[name],
            overrides=[override(given)],
        )


def test_what_ggml_cannot_make_without_a_matrix_is_known() -> None:
    from komt_convert import ggml

    asks = ggml._library().ggml_quantize_requires_imatrix
    asks.restype = ctypes.c_bool
    for type_ in BY_NAME.values():
        for name in ("output.weight", "blk.0.attn_q.weight"):
            assert requires_imatrix(name, type_, FILE_TYPES["Q4_0"]) >= asks(type_.number)
    assert requires_imatrix("blk.0.attn_q.weight", BY_NAME["Q2_K"], FILE_TYPES["Q2_K_S"])
    assert not requires_imatrix("blk.0.attn_q.weight", BY_NAME["Q2_K"], FILE_TYPES["Q2_K"])


def test_what_is_no_weight_stays_f32() -> None:
    shapes: Shapes = {
        "blk.0.attn_q.bias": (256,),
        "rope_freqs.weight": (32,),
        "blk.0.ffn_gate_inp.weight": (8, 256),
        "blk.0.attn_q_norm.weight": (2, 256),
        "output.weight": (512, 256),
    }
    chosen = choose_types(shapes, Model("llama", 1, 2, 2), FILE_TYPES["Q8_0"])
    assert {name for name, type_ in chosen.items() if type_.name != "F32"} == {"output.weight"}


def test_layers_are_ordered_by_number() -> None:
    names = ["blk.10.a", "token_embd.weight", "blk.2.b", "blk.2.a", "output.weight"]
    ordered = ["output.weight", "token_embd.weight", "blk.2.a", "blk.2.b", "blk.10.a"]
    assert sorted(names, key=file_order) == ordered


def test_names_in_any_case() -> None:
    assert file_type("q4_k_m") is FILE_TYPES["Q4_K_M"]
    assert file_type("bf16").default is BY_NAME["BF16"]


def test_an_unknown_type_is_refused_with_the_known_ones() -> None:
    with pytest.raises(QuantizationError, match=r"'Q9_X'.*Q4_K_M") as caught:
        file_type("Q9_X")
    assert "Q4_K_M" in caught.value.ko


def test_numbers_are_those_of_the_gguf_package() -> None:
    from gguf import LlamaFileType

    ours = {name: kind.number for name, kind in FILE_TYPES.items()}
    theirs = {m.name.removeprefix("MOSTLY_").removeprefix("ALL_"): m.value for m in LlamaFileType}
    newer = {"Q2_0": 41}  # than the package
    assert ours == {name: (theirs | newer)[name] for name in ours}
    assert file_type_name(15) == "Q4_K_M"
    assert file_type_name(19) == "IQ2_XXS"
    assert file_type_name(None) == file_type_name(9999) == "unknown"
