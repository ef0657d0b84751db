"""ggml's kernels and llama.cpp's tokenizer, reached by ctypes."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from komt_convert import ggml
from komt_convert.errors import GGUFError, QuantizationError
from komt_convert.recipes import FILE_TYPES
from komt_convert.tensor_types import BY_NAME, BY_NUMBER

VOCABULARIES = Path(__file__).parent.parent / "vocab"
MADE = sorted({kind.default.name for kind in FILE_TYPES.values()})

NEWER = ("Q1_0", "Q2_0")  # than the gguf package

any_f32 = arrays(np.float32, (3, 64), elements=st.floats(width=32, allow_nan=False))


def random_rows(rows: int, length: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((rows, length), np.float32)


def test_the_table_of_types_is_that_of_the_library() -> None:
    library = ggml._library()
    library.ggml_blck_size.restype = ctypes.c_int64
    library.ggml_type_size.restype = ctypes.c_size_t
    for number, type_ in BY_NUMBER.items():
        assert library.ggml_type_name(number).decode().upper() == type_.name
        assert library.ggml_blck_size(number) == type_.block
        assert library.ggml_type_size(number) == type_.block_bytes


def test_the_numbers_of_types_are_those_of_the_gguf_package() -> None:
    from gguf import GGML_QUANT_VERSION, GGMLQuantizationType

    assert ggml.QUANTIZATION_VERSION == GGML_QUANT_VERSION
    for kind in GGMLQuantizationType:
        assert BY_NAME[kind.name].number == kind.value


@given(any_f32)
def test_f16_and_bf16_round_as_the_converter_of_llama_cpp_does(rows: np.ndarray) -> None:
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize

    with np.errstate(over="ignore"):
        f16 = rows.astype(np.float16)
    bf16 = quantize(rows, GGMLQuantizationType.BF16)
    assert np.array_equal(ggml.quantize(BY_NAME["F16"], rows).view(np.float16), f16)
    assert np.array_equal(ggml.quantize(BY_NAME["BF16"], rows), bf16.view(np.uint8))
    assert np.array_equal(ggml.quantize(BY_NAME["F32"], rows).view(np.float32), rows)


# ggml takes long to build its table for IQ1_M.
@pytest.mark.parametrize("name", [name for name in MADE if name != "IQ1_M"])
def test_rows_stand_alone_in_any_number_of_threads(name: str) -> None:
    rows, type_, ones = random_rows(6, 256), BY_NAME[name], np.ones(256, np.float32)
    whole = ggml.quantize(type_, rows, ones)
    with ThreadPoolExecutor(4) as pool:
        alone = list(pool.map(lambda row: ggml.quantize(type_, row[None], ones), rows))
    assert np.array_equal(whole, np.concatenate(alone))
    assert ggml.is_valid(type_, whole)


@pytest.mark.parametrize("name", [name for name in MADE if name not in (*NEWER, "IQ1_M")])
def test_values_read_back_are_those_of_the_gguf_package(name: str) -> None:
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    rows, type_ = random_rows(4, 512), BY_NAME[name]
    data = ggml.quantize(type_, rows, np.ones(512, np.float32))
    read = ggml.dequantize(type_, data, 512)
    assert read.shape == rows.shape
    expected = dequantize(data, GGMLQuantizationType(type_.number))
    assert np.allclose(read, expected, rtol=1e-5, atol=1e-6)


def test_columns_of_another_array_are_quantized_as_they_stand() -> None:
    wide = random_rows(8, 128)
    rows = wide[:, ::2]
    copied = np.ascontiguousarray(rows)
    type_ = BY_NAME["Q8_0"]
    assert np.array_equal(ggml.quantize(type_, rows), ggml.quantize(type_, copied))


def test_infinity_is_not_valid() -> None:
    rows = np.full((1, 32), 1e6, np.float32)
    assert not ggml.is_valid(BY_NAME["F16"], ggml.quantize(BY_NAME["F16"], rows))
    assert ggml.is_valid(BY_NAME["BF16"], ggml.quantize(BY_NAME["BF16"], rows))


@pytest.mark.parametrize("name", ["F16", "BF16"])
def test_all_16_bits_are_judged_as_ggml_does(name: str) -> None:
    library, type_ = ggml._library(), BY_NAME[name]
    for bits in range(1 << 16):
        value = np.array([[bits]], "<u2").view(np.uint8)
        expected = library.ggml_validate_row_data(type_.number, value.ctypes.data, value.nbytes)
        assert ggml.is_valid(type_, value) == expected


def test_quantizing_does_not_import_llama_cpp() -> None:
    code = (
        "import sys, numpy as np; from komt_convert import ggml, tensor_types as t;"
        "ggml.quantize(t.BY_NAME['Q8_0'], np.ones((1, 32), np.float32));"
        "sys.exit('llama_cpp' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("name", ["llama-spm", "gpt-2"])
def test_token_ids_are_those_that_ship_with_the_vocabulary(name: str) -> None:
    path = VOCABULARIES / f"ggml-vocab-{name}.gguf"
    *texts, _ = Path(f"{path}.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    lines = Path(f"{path}.out").read_text(encoding="utf-8").splitlines()
    with ggml.Tokenizer(path) as tokenizer:
        for text, line in zip(texts, lines, strict=True):
            assert tokenizer.encode(text) == [int(token) for token in line.split()], text


def test_control_tokens_are_parsed_only_on_request(capfd: pytest.CaptureFixture[str]) -> None:
    with ggml.Tokenizer(VOCABULARIES / "ggml-vocab-llama-spm.gguf") as tokenizer:
        assert 2 not in tokenizer.encode("안녕</s>")
        assert tokenizer.encode("안녕</s>", parse_special=True)[-1] == 2
        assert tokenizer.encode("") == []
        assert len(tokenizer) == 32000
        tokenizer.close()
    assert tokenizer.complaints == []
    assert capfd.readouterr() == ("", "")


def test_a_file_without_a_tokenizer_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "empty.gguf"
    path.write_bytes(b"GGUF" + bytes(20))
    with pytest.raises(GGUFError, match="empty.gguf.*version"):
        ggml.Tokenizer(path)


@pytest.mark.parametrize("name", ["IQ1_S", "IQ2_XS", "IQ2_XXS"])
def test_a_type_that_needs_weights_is_refused_without(name: str) -> None:
    with pytest.raises(QuantizationError, match=rf"{name}.*--imatrix") as caught:
        ggml.quantize(BY_NAME[name], random_rows(1, 256))
    assert "--imatrix" in caught.value.ko
