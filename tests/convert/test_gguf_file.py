"""Headers of GGUF files: what is read from good ones, and that bad ones do no harm."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from komt_convert import gguf_file
from komt_convert.errors import GGUFError
from komt_convert.gguf_file import check, read_header
from komt_convert.metadata import Metadata, Value, ValueType, f32s, flag, i32, text, texts, u32, u64
from komt_convert.tensor_types import BY_NAME
from komt_convert.tensors import from_array
from komt_convert.writer import plan

VOCABULARIES = Path(__file__).parent.parent / "vocab"

METADATA: Metadata = {
    "general.architecture": text("llama"),
    "general.name": text("한국어 모형"),
    "llama.block_count": u32(1),
    "llama.offset": i32(-5),
    "llama.big": u64(2**40),
    "tokenizer.ggml.tokens": texts(["<s>", "▁안", "", b"\xff\xfe"]),
    "tokenizer.ggml.scores": f32s([0.0, -1.5, 2.0, 0.25]),
    "tokenizer.ggml.add_bos_token": flag(True),
}
TENSORS = [
    from_array("token_embd.weight", np.arange(128, dtype=np.float32).reshape(4, 32)),
    from_array("output_norm.weight", np.ones(5, np.float32)),
]
TYPES = {"token_embd.weight": BY_NAME["Q8_0"], "output_norm.weight": BY_NAME["F32"]}


def whole_file() -> bytes:
    layout = plan(METADATA, TENSORS, TYPES)
    return layout.header.ljust(layout.size, b"\x01")


WHOLE = whole_file()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


def count(n_tensors: int, n_keys: int, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_keys)


def name(raw: bytes) -> bytes:
    return struct.pack("<Q", len(raw)) + raw


def tensor(
    raw: bytes = b"a", shape: tuple[int, ...] = (32,), number: int = 0, offset: int = 0
) -> bytes:
    numbers = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return name(raw) + numbers + struct.pack("<IQ", number, offset)


# --- good files ----------------------------------------------------------------------------------


def test_a_header_says_what_was_written(path: Path) -> None:
    path.write_bytes(WHOLE)
    header = read_header(path)
    assert header.version == 3
    assert header.architecture == "llama"
    assert header.of_architecture("block_count") == 1
    assert header.of_architecture("absent", 7) == 7
    values = {key: list(v) if hasattr(v, "raw") else v for key, v in header.metadata.items()}
    assert values == {
        "general.architecture": "llama",
        "general.name": "한국어 모형",
        "llama.block_count": 1,
        "llama.offset": -5,
        "llama.big": 2**40,
        "tokenizer.ggml.tokens": ["<s>", "▁안", "", "\ufffd\ufffd"],
        "tokenizer.ggml.scores": [0.0, -1.5, 2.0, 0.25],
        "tokenizer.ggml.add_bos_token": True,
    }
    assert header.metadata["tokenizer.ggml.tokens"].raw()[3] == b"\xff\xfe"
    embedding, norm = header.tensors
    assert (embedding.name, embedding.shape, embedding.type.name) == (
        *("token_embd.weight", (32, 4)),
        "Q8_0",
    )
    assert (embedding.offset, embedding.n_bytes) == (header.data_offset, 4 * 34)
    assert (norm.shape, norm.offset) == ((5,), header.data_offset + 160)
    assert header.n_parameters == 133


def test_version_2_reads_alike(path: Path) -> None:
    path.write_bytes(WHOLE[:4] + struct.pack("<I", 2) + WHOLE[8:])
    assert read_header(path).version == 2


@pytest.mark.parametrize("vocabulary", ["llama-spm", "gpt-2"])
def test_a_real_vocabulary_reads_as_in_the_gguf_package(vocabulary: str) -> None:
    from gguf import GGUFReader

    path = VOCABULARIES / f"ggml-vocab-{vocabulary}.gguf"
    ours = check(path).metadata
    theirs = GGUFReader(path).fields
    assert list(ours) == [key for key in theirs if not key.startswith("GGUF.")]
    for key, value in ours.items():
        expected = theirs[key].contents()
        assert (list(value) if isinstance(expected, list) else value) == expected, key


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=20),
        st.one_of(
            st.text(max_size=20).map(text),
            st.booleans().map(flag),
            st.integers(0, 2**32 - 1).map(u32),
            st.integers(-(2**31), 2**31 - 1).map(i32),
            st.lists(st.text(max_size=5), max_size=5).map(texts),
            st.lists(st.floats(width=32, allow_nan=False), max_size=5).map(f32s),
        ),
        max_size=8,
    )
)
def test_what_is_encoded_is_read_back(path: Path, metadata: dict[str, Value]) -> None:
    path.write_bytes(plan(metadata, [], {}).header)
    found = read_header(path).metadata
    assert list(found) == list(metadata)
    for key, value in metadata.items():
        assert (list(found[key]) if value.element else found[key]) == value.data


# --- bad files -----------------------------------------------------------------------------------

ENDLESS = 2**62
BAD_FILES = {
    "an empty file": b"",
    "another format": b"PK\x03\x04" + bytes(100),
    "version 1": count(0, 0, version=1) + bytes(100),
    "version 4": count(0, 0, version=4) + bytes(100),
    "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0) + bytes(100),
    "endless tensors": count(ENDLESS, 0) + bytes(100),
    "endless keys": count(0, ENDLESS) + bytes(100),
    "more entries than bytes": count(40, 40) + bytes(100),
    "an endless key": count(0, 1) + struct.pack("<Q", ENDLESS) + bytes(100),
    "a key of nothing": count(0, 1) + name(b"") + struct.pack("<IB", 7, 1) + bytes(100),
    "a value of no type": count(0, 1) + name(b"k") + struct.pack("<I", 13) + bytes(100),
    "an endless value": count(0, 1) + name(b"k") + struct.pack("<IQ", 8, 2**64 - 1) + bytes(100),
    "an array in an array": count(0, 1) + name(b"k") + struct.pack("<IIQ", 9, 9, 1) + bytes(100),
    "a key twice": count(0, 2) + 2 * (name(b"k") + struct.pack("<IB", 7, 1)) + bytes(100),
    "an alignment of 3": count(0, 1)
    + name(b"general.alignment")
    + struct.pack("<II", 4, 3)
    + bytes(100),
    "an alignment of text": count(0, 1)
    + name(b"general.alignment")
    + struct.pack("<I", 8)
    + name(b"32")
    + bytes(100),
    "five dimensions": count(1, 0) + tensor(shape=(1, 1, 1, 1, 1)) + bytes(300),
    "no dimensions": count(1, 0) + tensor(shape=()) + bytes(300),
    "a dimension of nothing": count(1, 0) + tensor(shape=(32, 0)) + bytes(300),
    "a row of half a block": count(1, 0) + tensor(shape=(48,), number=8) + bytes(300),
    "a type that was removed": count(1, 0) + tensor(number=4) + bytes(300),
    "a type of the future": count(1, 0) + tensor(number=1000) + bytes(300),
    "an endless tensor": count(1, 0) + tensor(shape=(2**31, 2**31, 2**31, 2**31)) + bytes(300),
    "an endless name": count(1, 0) + tensor(raw=b"a" * 64) + bytes(300),
    "a tensor of no name": count(1, 0) + tensor(raw=b"") + bytes(300),
    "an offset between": count(1, 0) + tensor(offset=8) + bytes(300),
    "an offset outside": count(1, 0) + tensor(offset=ENDLESS) + bytes(300),
    "tensors over each other": count(2, 0) + tensor() + tensor(b"b") + bytes(300),
    "a tensor twice": count(2, 0) + tensor() + tensor(offset=128) + bytes(300),
    "a gap between tensors": count(2, 0) + tensor() + tensor(b"b", offset=160) + bytes(600),
    "half of the data": WHOLE[:-40],
}
BAD_FILES |= {
    f"an endless array of {kind.name}": count(0, 1)
    + name(b"general.k")
    + struct.pack("<IIQ", 9, kind, ENDLESS)
    for kind in ValueType
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_files_are_refused_at_once(kind: str, path: Path) -> None:
    path.write_bytes(BAD_FILES[kind])
    tracemalloc.start()
    try:
        with pytest.raises(GGUFError, match="model.gguf is not a usable GGUF") as caught:
            read_header(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20
    assert "model.gguf" in caught.value.ko
    assert "\n" not in str(caught.value) + caught.value.ko


def test_a_49_byte_file_with_one_endless_array(path: Path) -> None:
    raw = count(0, 1) + name(b"k") + struct.pack("<IIQ", 9, 8, ENDLESS)
    path.write_bytes(raw)
    assert len(raw) == 49
    with pytest.raises(GGUFError, match="4,611,686,018,427,387,904 strings"):
        read_header(path)


@pytest.mark.parametrize("where", ["missing.gguf", ".", "nul\0byte"])
def test_what_is_no_file_is_refused(where: str, tmp_path: Path) -> None:
    with pytest.raises(GGUFError, match="cannot be read"):
        read_header(f"{tmp_path}/{where}")


def test_limits_on_header_and_strings(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = {f"k{i}": texts(["x"] * 1000) for i in range(200)}
    path.write_bytes(plan(metadata, [], {}).header)
    assert len(read_header(path).metadata) == 200
    monkeypatch.setattr(gguf_file, "MAX_STRINGS", 150_000)
    with pytest.raises(GGUFError, match="1,000 strings"):
        read_header(path)
    monkeypatch.setattr(gguf_file, "MAX_STRINGS", 1 << 22)
    monkeypatch.setattr(gguf_file, "MAX_HEADER_BYTES", 1 << 20)
    with pytest.raises(GGUFError, match="larger than 1 MB"):
        read_header(path)


def test_a_cut_at_any_byte_is_noticed(path: Path) -> None:
    padding = 12  # after the last tensor; llama.cpp can do without
    for cut in range(len(WHOLE) - padding):
        path.write_bytes(WHOLE[:cut])
        with pytest.raises(GGUFError):
            read_header(path)
    path.write_bytes(WHOLE[:-padding])
    assert read_header(path)


@settings(
    max_examples=300, deadline=1000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_any_bytes_changed_give_a_header_or_an_error(path: Path, data: st.DataObject) -> None:
    raw = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        width = data.draw(st.sampled_from([1, 4, 8]))
        raw[at : at + width] = data.draw(st.binary(min_size=width, max_size=width))
    path.write_bytes(raw)
    look_at_everything(path)


@settings(deadline=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=400), st.integers(0, 3), st.integers(0, 3))
def test_any_bytes_give_a_header_or_an_error(
    path: Path, raw: bytes, n_tensors: int, n_keys: int
) -> None:
    path.write_bytes(count(n_tensors, n_keys) + raw)
    look_at_everything(path)


def look_at_everything(path: Path) -> None:
    try:
        header = check(path)
    except GGUFError as error:
        assert str(path) in str(error)
        return
    for value in header.metadata.values():
        if hasattr(value, "raw"):
            list(value)
    for info in header.tensors:
        assert info.offset + info.n_bytes <= len(path.read_bytes())
