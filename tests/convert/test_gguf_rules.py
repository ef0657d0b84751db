"""Files that make llama.cpp abort the process: that they do, and that they are refused before."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from checkpoints import write_llama_checkpoint
from komt_convert.errors import GGUFError
from komt_convert.gguf_file import check, read_header
from komt_convert.metadata import Metadata, Value, f32, text, texts, u32
from komt_convert.pipeline import plan_file
from komt_convert.planning import want
from komt_convert.sources import open_source
from komt_convert.tensors import Tensor
from komt_convert.writer import Plan, plan

LOAD = """
import ctypes, sys, llama_cpp as l
quiet = l.llama_log_callback(lambda *a: None)
l.llama_log_set(quiet, ctypes.c_void_p(0))
model = l.llama_model_load_from_file(sys.argv[1].encode(), l.llama_model_default_params())
context = model and l.llama_init_from_model(model, l.llama_context_default_params())
if not context:
    sys.exit(3)
tokens = (l.llama_token * 64)()
text = "안녕, hi".encode()
l.llama_tokenize(l.llama_model_get_vocab(model), text, len(text), tokens, 64, False, True)
sys.exit(l.llama_decode(context, l.llama_batch_get_one(tokens, 4)))
"""

LETHAL: dict[str, tuple[str, Callable[[Value | None], Value]]] = {
    "no layers": ("llama.block_count", lambda _: u32(0)),
    "513 layers": ("llama.block_count", lambda _: u32(513)),
    "more prediction layers": ("llama.nextn_predict_layers", lambda _: u32(9)),
    "more experts than there can be": ("llama.expert_count", lambda _: u32(1025)),
    "experts that are not used": ("llama.expert_count", lambda _: u32(4)),
    "no experts, two used": ("llama.expert_used_count", lambda _: u32(2)),
    "groups without experts": ("llama.expert_group_count", lambda _: u32(2)),
    "an unknown RoPE scaling": ("llama.rope.scaling.type", lambda _: text("llama9")),
    "values of another size": ("llama.attention.value_length", lambda _: u32(64)),
    "a norm with a negative epsilon": (
        "llama.attention.layer_norm_rms_epsilon",
        lambda _: f32(-1.0),
    ),
    "a norm with no epsilon": ("llama.attention.layer_norm_rms_epsilon", lambda _: f32(math.nan)),
    "no tokenizer": ("tokenizer.ggml.model", lambda _: text("none")),
    "a tokenizer of words": ("tokenizer.ggml.model", lambda _: text("bert")),
    "a token twice": (
        "tokenizer.ggml.tokens",
        lambda old: texts([*old.data[:5], old.data[4], *old.data[6:]] if old else []),
    ),
}
HARMLESS: dict[str, tuple[str, Callable[[Value | None], Value]]] = {
    "nothing": ("general.name", lambda _: text("harmless")),
    "an empty token": (
        "tokenizer.ggml.tokens",
        lambda old: texts(["", *old.data[1:]] if old else []),
    ),
}


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = write_llama_checkpoint(
        tmp_path_factory.mktemp("rules") / "checkpoint",
        n_layers=2,
        hidden_size=64,
        intermediate_size=96,
        n_heads=2,
    )
    return plan_file(open_source(folder), want("F16"))


def changed(layout: Plan, change: tuple[str, Callable[[Value | None], Value]], path: Path) -> Path:
    """The file of `layout`, zeros for weights, with one value of its metadata changed."""
    key, new = change
    metadata: Metadata = {**layout.metadata, key: new(layout.metadata.get(key))}
    types = {placed.tensor.name: placed.type for placed in layout.tensors}
    tensors = [placed.tensor for placed in layout.tensors]
    if key == "llama.attention.value_length":
        tensors = [with_wide_values(tensor) for tensor in tensors]
    other = plan(metadata, tensors, types)
    path.write_bytes(other.header.ljust(other.size, b"\0"))
    return path


def with_wide_values(tensor: Tensor) -> Tensor:
    """Values of 64 in each head instead of 32, without which llama.cpp refuses politely."""
    rows = tensor.shape[0] * (2 if "attn_v." in tensor.name else 1)
    return replace(tensor, shape=(rows, *tensor.shape[1:]))


def status_of_loading(path: Path) -> int:
    environment = {**os.environ, "GGML_NO_BACKTRACE": "1"}
    command = [sys.executable, "-c", LOAD, str(path)]
    return subprocess.run(command, env=environment, capture_output=True).returncode


@pytest.mark.parametrize("kind", LETHAL)
def test_what_kills_llama_cpp_is_refused(kind: str, layout: Plan, tmp_path: Path) -> None:
    path = changed(layout, LETHAL[kind], tmp_path / "lethal.gguf")
    with pytest.raises(GGUFError, match="lethal.gguf is not a usable GGUF") as caught:
        check(path)
    assert "lethal.gguf" in caught.value.ko
    assert status_of_loading(path) not in (0, 3), "llama.cpp lives; is the rule still needed?"


@pytest.mark.parametrize("kind", HARMLESS)
def test_what_llama_cpp_loads_is_not_refused(kind: str, layout: Plan, tmp_path: Path) -> None:
    path = changed(layout, HARMLESS[kind], tmp_path / "harmless.gguf")
    assert check(path).architecture == "llama"
    assert status_of_loading(path) == 0


def test_tensors_between_the_steps_of_32_bytes(layout: Plan, tmp_path: Path) -> None:
    """Whether llama.cpp dies depends on where the data begins, so it is made to begin at 8."""
    for length in range(4):
        name = text("x" * (8 * length))
        change = ("general.name", lambda _, name=name: name)
        metadata = {**layout.metadata, "general.alignment": u32(8)}
        path = changed(replace(layout, metadata=metadata), change, tmp_path / "lethal.gguf")
        header = read_header(path)
        if header.data_offset % 32:
            with pytest.raises(GGUFError, match="multiple of 32 bytes"):
                check(path)
            assert status_of_loading(path) not in (0, 3)
            return
    raise AssertionError("none of the files begins between the steps")


def test_an_abort_is_what_it_is_taken_for(layout: Plan, tmp_path: Path) -> None:
    path = changed(layout, LETHAL["a token twice"], tmp_path / "lethal.gguf")
    if sys.platform != "win32":
        assert status_of_loading(path) == -signal.SIGABRT
