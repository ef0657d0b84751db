"""LoRA while the model runs: as if the weights had been merged, and changed between answers."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest
from runtime_models import write_adapter, write_merged

import checkpoints
from komt_convert import convert
from komt_local import Model
from komt_local.errors import Closed, InvalidModel, UsageError
from komt_local.library import records
from komt_local.types import Score

TEXT, GOES_ON = "The quick brown fox", " jumps over the lazy dog. 옛날 옛적에"


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return write_adapter(folder / "a.gguf"), write_adapter(folder / "b.gguf", seed=2, rank=5)


@pytest.fixture(scope="module")
def model(random_gguf: Path) -> Iterator[Model]:
    with Model.load(random_gguf, n_ctx=256, n_slots=2, cache_type_k="f32") as model:
        yield model


def likelihoods(score: Score) -> list[float]:
    return [token.log_likelihood for token in score.tokens]


@pytest.mark.parametrize("scales", [(1.0, 0.0), (0.5, 0.0), (1.0, -0.7)])
def test_an_adapter_does_what_merging_does(
    model: Model,
    random_gguf: Path,
    adapters: tuple[Path, Path],
    scales: tuple[float, float],
    tmp_path: Path,
) -> None:
    wanted = dict(zip(adapters, scales, strict=True))
    model.set_adapters([])
    plain = likelihoods(model.score_completion(TEXT, GOES_ON))
    model.set_adapters(list(wanted.items()))
    applied = likelihoods(model.score_completion(TEXT, GOES_ON))
    merged_path = write_merged(tmp_path / "merged.gguf", random_gguf, wanted)
    with Model.load(merged_path, n_ctx=256, cache_type_k="f32") as merged:
        expected = likelihoods(merged.score_completion(TEXT, GOES_ON))
    np.testing.assert_allclose(applied, expected, atol=0.02)
    assert np.abs(np.subtract(applied, plain)).max() > 1


def test_adapters_of_one_answer_do_not_reach_another(
    model: Model, adapters: tuple[Path, Path]
) -> None:
    def said(prompt: str) -> tuple[str, int]:
        answer = model.complete(prompt, temperature=0, max_tokens=4)
        return answer.text, answer.usage.cached_tokens

    model.set_adapters([])
    plain, _ = said(TEXT)
    model.set_adapters([adapters[0]])
    adapted, cached = said(TEXT)
    assert cached == 0 and adapted != plain
    assert said(TEXT)[0] == adapted
    model.set_adapters([])
    again, cached = said(TEXT)
    assert again == plain and cached > 0, "the slot of other adapters is another one"


def test_who_runs_while_adapters_change_ends_as_it_began(
    model: Model, adapters: tuple[Path, Path]
) -> None:
    model.set_adapters([])
    expected = {}
    for chosen in ((), adapters[:1], adapters):
        model.set_adapters(chosen)
        expected[chosen] = model.complete(TEXT, temperature=0, max_tokens=40).text
    streams = {}
    for chosen in expected:
        model.set_adapters(chosen)
        streams[chosen] = model.stream_completion(TEXT, temperature=0, max_tokens=40)
    found = {}

    def listen(chosen: tuple[Path, ...]) -> None:
        found[chosen] = "".join(event.text for event in streams[chosen])

    threads = [threading.Thread(target=listen, args=(chosen,)) for chosen in streams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected and len(set(found.values())) == 3


def test_adapters_are_named_and_may_be_given_at_once(
    random_gguf: Path, adapters: tuple[Path, Path]
) -> None:
    a, b = adapters
    with Model.load(random_gguf, n_ctx=256, lora=[(str(b), 2), a, (a, 0.5)]) as model:
        assert model.adapters == ((a, 1.5), (b, 2.0))
        model.set_adapters([(a, 0)])
        assert model.adapters == ()
    with pytest.raises(Closed):
        model.set_adapters([write_adapter(a.with_name("new.gguf"))])


@pytest.mark.parametrize("bad", [("x.gguf", "1"), ("x.gguf", float("nan")), 7, ("a", 1, 2)])
def test_what_is_no_adapter_is_refused(model: Model, bad: object) -> None:
    with pytest.raises(UsageError):
        model.set_adapters([bad])  # type: ignore[list-item]


def test_a_peft_folder_is_converted_once(tmp_path: Path) -> None:
    base = checkpoints.write_llama_checkpoint(
        tmp_path / "base", full_vocab=True, n_layers=1, hidden_size=64, intermediate_size=64,
        n_heads=2, dtype="F32",
    )  # fmt: skip
    folder = tmp_path / "adapter"
    folder.mkdir()
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": str(base)}
    checkpoints.write_json(folder / "adapter_config.json", settings)
    half = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    weights = {
        f"{half}A.weight": checkpoints.noise((2, 64), 1),
        f"{half}B.weight": checkpoints.noise((64, 2), 2),
    }
    checkpoints.write_safetensors(folder / "adapter_model.safetensors", weights, "F32")
    convert(base, tmp_path / "base.gguf", quant="F32", verify=False)
    convert(base, tmp_path / "merged.gguf", quant="F32", adapters=[(folder, 1.0)], verify=False)

    def score(path: str, *lora: Path) -> list[float]:
        with Model.load(tmp_path / path, n_ctx=256, lora=lora, cache_type_k="f32") as model:
            return likelihoods(model.score_completion(TEXT, GOES_ON))

    once = score("base.gguf", folder)
    np.testing.assert_allclose(once, score("merged.gguf"), atol=0.02)
    assert np.abs(np.subtract(once, score("base.gguf"))).max() > 0.02
    kept = list((records.data_folder() / "adapters").iterdir())
    written = [path.stat().st_mtime_ns for path in kept]
    assert score("base.gguf", folder) == once
    assert [path.stat().st_mtime_ns for path in kept] == written
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(InvalidModel):
        score("base.gguf", folder)


HOSTILE = """
import json, sys
from komt_local import Model
from komt_local.errors import InvalidModel, ModelNotFound
from pathlib import Path
model = Model.load(sys.argv[1], n_ctx=256)
for name in sys.argv[2:]:
    try:
        model.set_adapters([name])
        print(json.dumps("taken"), flush=True)
    except (InvalidModel, ModelNotFound) as error:
        print(json.dumps([str(error), error.ko]), flush=True)
"""


def test_bad_adapters_are_refused_and_kill_nothing(random_gguf: Path, tmp_path: Path) -> None:
    """In a process of its own, which llama.cpp would take down."""
    whole = write_adapter(tmp_path / "good.gguf").read_bytes()
    alpha = b"adapter.lora.alpha"
    changes = {
        "kind": whole.replace(b"adapter.type", b"adapter.tipe"),
        "alpha": whole.replace(alpha + b"\6\0\0\0", alpha + b"\4\0\0\0"),
        "model": whole.replace(b"blk.1.attn_q", b"blk.7.attn_q"),
        "half": whole.replace(b"blk.1.attn_q.weight.lora_a", b"blk.1.attn_k.weight.lora_a"),
        "cut": whole[:-50],
    }
    for name, content in changes.items():
        assert content != whole
        (tmp_path / f"{name}.gguf").write_bytes(content)
    write_adapter(tmp_path / "wide.gguf", rank=4)
    _transpose_embedding(tmp_path / "embedding.gguf")
    (tmp_path / "good.gguf").unlink()
    (tmp_path / "wide.gguf").unlink()
    paths = [str(random_gguf), *sorted(map(str, tmp_path.glob("*.gguf"))), "no-such.gguf"]
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE, str(random_gguf), *paths],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(said) == len(paths)
    for path, sentences in zip(paths, said, strict=True):
        assert sentences != "taken" and all(path in sentence for sentence in sentences), path


def _transpose_embedding(path: Path) -> None:
    """Halves that llama.cpp does not compare with each other, and dies of later."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 1.0)
    writer.add_tensor("token_embd.weight.lora_a", np.zeros((32000, 4), np.float32))
    writer.add_tensor("token_embd.weight.lora_b", np.zeros((64, 3), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
