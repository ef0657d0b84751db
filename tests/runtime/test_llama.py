"""The seam to llama.cpp: vocabulary, contexts, samplers, and files that must not reach it."""

from __future__ import annotations

import json
import subprocess
import sys
from array import array
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from runtime_models import VOCABULARIES, token_ids, vocabulary, write_random

from komt_local import llama
from komt_local.errors import Closed, InvalidModel, UsageError
from komt_local.llama import ABORTED, Context, NativeModel, Sampler, Span
from komt_local.llama import library as binding
from komt_local.types import Sampling


@pytest.mark.parametrize("name", ["llama-spm", "gpt-2"])
def test_tokens_are_those_of_llama_cpps_own_lists(name: str) -> None:
    texts = (VOCABULARIES / f"ggml-vocab-{name}.gguf.inp").read_bytes().decode()
    ids = (VOCABULARIES / f"ggml-vocab-{name}.gguf.out").read_text().splitlines()
    model = load_vocabulary(name)
    for text, expected in zip(texts.split("\n__ggml_vocab_test__\n"), ids, strict=False):
        assert model.tokenize(text) == [int(token) for token in expected.split()], text
    model.close()


def load_vocabulary(name: str) -> NativeModel:
    """The committed files hold no weights: only this test may have llama.cpp open one."""
    library = binding.native()
    params = library.llama_model_default_params()
    params.vocab_only = True
    path = VOCABULARIES / f"ggml-vocab-{name}.gguf"
    return NativeModel(library, library.llama_model_load_from_file(bytes(path), params), path)


def test_every_piece_of_a_vocabulary_arrives_whole() -> None:
    model = load_vocabulary("gpt-2")
    texts = vocabulary("gpt-2")["tokenizer.ggml.tokens"]
    longest = max(range(len(texts)), key=lambda token: len(texts[token]))
    assert len(model.piece(longest)) == len(texts[longest]) > 64
    model.close()


def test_facts_of_a_file(random_model: NativeModel) -> None:
    assert random_model.n_vocab == 32000
    assert (random_model.bos, random_model.eos) == (1, 2)
    assert random_model.end_tokens == {2}
    assert random_model.control_tokens == {"<s>": 1, "</s>": 2}
    assert random_model.metadata["general.name"] == "tiny"
    assert random_model.n_ctx_train == 2048
    assert random_model.legacy and random_model.chat_template is None


def test_what_a_conversion_wrote_is_read(tmp_path: Path) -> None:
    template = "{{ messages }}" + "가" * 5000
    keys = {
        "tokenizer.chat_template": template,
        "komt.tokenizer.legacy": False,
        "tokenizer.ggml.add_bos_token": False,
    }
    model = llama.load(write_random(tmp_path / "model.gguf", **keys))
    assert model.chat_template == template
    assert not model.legacy
    assert model.bos is None and model.bos_token == 1
    model.close()


def test_control_tokens_in_text_stay_text_unless_asked_for(random_model: NativeModel) -> None:
    assert 2 not in random_model.tokenize("a</s>b")
    assert 2 in random_model.tokenize("a</s>b", parse_special=True)
    assert random_model.piece(2) == b"" and random_model.piece(2, special=True) == b"</s>"


def test_long_text_and_odd_characters_are_tokenized(random_model: NativeModel) -> None:
    for text in ("", "\0", "a\0b", "가" * 20000, "👍🏽" * 1000):
        pieces = map(random_model.piece, random_model.tokenize(text))
        assert b"".join(pieces).decode().removeprefix(" ") == text


def test_broken_text_and_unknown_tokens_are_refused(random_model: NativeModel) -> None:
    with pytest.raises(UsageError, match="position 1"):
        random_model.tokenize("a\udc80")
    with pytest.raises(UsageError, match="no token 32000"):
        random_model.piece(32000)


def test_a_closed_model_says_so(random_gguf: Path) -> None:
    model = llama.load(random_gguf)
    model.close()
    model.close()
    uses = (
        lambda: model.tokenize("a"),
        lambda: model.piece(5),
        lambda: model.token_text(5),
        lambda: model.end_tokens,
        lambda: model.control_tokens,
        lambda: model.metadata,
        lambda: model.description,
        lambda: model.dimensions,
        lambda: Context(model, n_ctx=64),
    )
    for use in uses:
        with pytest.raises(Closed):
            use()


def evaluate(context: Context, tokens: list[int], *, slot: int = 0, start: int = 0) -> np.ndarray:
    span = Span(slot, array("i", tokens), start, len(tokens))
    assert context.decode([span]) == 0
    return context.logits(len(tokens) - start - 1)


def test_copied_and_cut_sequences_go_on_like_the_original(random_model: NativeModel) -> None:
    prompt = random_model.tokenize("The quick brown fox jumps over the lazy dog")
    with Context(random_model, n_ctx=256, n_slots=4, exact=True) as context:
        expected = evaluate(context, prompt)
        evaluate(context, [*prompt[:5], 77, 78], slot=1)
        context.copy(0, 2)
        for slot, n_tokens in ((1, 5), (2, 7)):
            assert context.keep(slot, n_tokens)
            found = evaluate(context, prompt, slot=slot, start=n_tokens)
            np.testing.assert_allclose(found, expected, atol=1e-3)
        elsewhere = evaluate(context, [77, 78, prompt[-1]], slot=3)
        assert not np.allclose(elsewhere, expected, atol=0.1), "the context has no say"


def test_an_abort_stops_the_evaluation_and_can_be_taken_back(random_model: NativeModel) -> None:
    prompt = random_model.tokenize("The quick brown fox")
    with Context(random_model, n_ctx=256, exact=True) as context:
        expected = evaluate(context, prompt)
        context.keep(0, 0)
        context.abort()
        span = Span(0, array("i", prompt), 0, len(prompt))
        assert context.decode([span]) == ABORTED
        context.resume()
        context.keep(0, 0)
        np.testing.assert_array_equal(evaluate(context, prompt), expected)


def draws(model: NativeModel, sampling: Sampling, n_draws: int, prompt: list[int]) -> list[int]:
    """Draw after the same token again and again; what is drawn counts for the penalties."""
    with Context(model, n_ctx=256) as context:
        evaluate(context, prompt)
        sampler = Sampler(model, sampling, prompt)
        tokens = [context.sample(sampler, len(prompt) - 1) for _ in range(n_draws)]
        sampler.close()
    return tokens


def test_samplers_follow_the_distribution(random_model: NativeModel) -> None:
    prompt = random_model.tokenize("fox")
    with Context(random_model, n_ctx=256) as context:
        logits = evaluate(context, prompt).astype(np.float64)
    best = np.argsort(-logits)
    cool = 20.0  # flattens the random model's sharp logits enough to see several tokens

    def counts(**settings: float) -> Counter[int]:
        sampling = Sampling(**{"temperature": cool, "top_k": 0, "top_p": 1, "min_p": 0, **settings})  # type: ignore[arg-type]
        return Counter(draws(random_model, sampling, 3000, prompt))

    weights = np.exp((logits[best[:3]] - logits[best[0]]) / cool)
    found = counts(top_k=3, seed=7)
    assert set(found) == set(best[:3].tolist())
    for token, share in zip(best[:3].tolist(), weights / weights.sum(), strict=True):
        assert found[token] / 3000 == pytest.approx(share, abs=0.04)
    assert set(counts(top_p=1e-6, seed=7)) == {best[0]}
    assert set(counts(min_p=0.999, seed=7, temperature=0.1)) == {best[0]}
    assert draws(random_model, Sampling(temperature=0, seed=1), 3, prompt) == [best[0]] * 3


def test_seeds_repeat_and_differ(random_model: NativeModel) -> None:
    prompt = random_model.tokenize("fox")

    def of(seed: int | None) -> list[int]:
        return draws(random_model, Sampling(temperature=50, top_k=0, seed=seed), 20, prompt)

    assert of(5) == of(5) != of(6)
    assert of(2**32 - 1) == of(2**32 - 1)
    assert of(None) != of(None)


def test_the_penalty_holds_at_temperature_0_and_sees_the_prompt(random_model: NativeModel) -> None:
    prompt = random_model.tokenize("fox")
    (likeliest,) = draws(random_model, Sampling(temperature=0), 1, prompt)
    penalized = Sampling(temperature=0, repeat_penalty=100.0)
    first, second, third = draws(random_model, penalized, 3, prompt)
    assert first == likeliest and len({first, second, third}) == 3
    assert draws(random_model, penalized, 1, [likeliest, *prompt])[0] != likeliest


HOSTILE = """
import json, sys
from komt_local import llama
from komt_local.errors import InvalidModel
from pathlib import Path
for name in sys.argv[1:]:
    try:
        llama.load(Path(name))
    except InvalidModel as error:
        print(json.dumps([str(error), error.ko]), flush=True)
"""


def test_files_that_are_no_models_are_refused_and_kill_nothing(
    random_gguf: Path, tmp_path: Path
) -> None:
    """In a process of its own, which llama.cpp would take down."""
    whole = random_gguf.read_bytes()
    keys = vocabulary()
    doubled = list(keys["tokenizer.ggml.tokens"])
    doubled[500] = doubled[501]
    write_random(tmp_path / "doubled.gguf", **{"tokenizer.ggml.tokens": doubled})
    (tmp_path / "empty.gguf").write_bytes(b"")
    (tmp_path / "text.gguf").write_text("no model at all")
    (tmp_path / "huge-counts.gguf").write_bytes(whole[:8] + b"\xff" * 16 + whole[24:])
    for length in (4, 30, 10_000, len(whole) // 2, len(whole) - 100):
        (tmp_path / f"cut-at-{length}.gguf").write_bytes(whole[:length])
    (tmp_path / "no-llama.gguf").write_bytes(
        whole.replace(b"\5\0\0\0\0\0\0\0llama", b"\5\0\0\0\0\0\0\0lLama", 1)
    )
    paths = sorted(str(path) for path in tmp_path.glob("*.gguf"))
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE, *paths], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    errors = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(errors) == len(paths)
    for path, sentences in zip(paths, errors, strict=True):
        assert all(path in sentence for sentence in sentences)


def test_a_file_that_llama_cpp_refuses_is_quoted(tmp_path: Path) -> None:
    path = write_random(tmp_path / "model.gguf", **{"tokenizer.ggml.pre": "no-such"})
    blob = path.read_bytes()
    path.write_bytes(blob.replace(b"blk.1.attn_q.weight", b"blk.1.attn_x.weight"))
    with pytest.raises(InvalidModel, match=r"blk\.1\.attn_q\.weight"):
        llama.load(path)


def test_a_binding_with_other_structs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    library = binding.native()
    params = library.llama_context_default_params()
    params.n_batch = 7
    monkeypatch.setattr(library, "llama_context_default_params", lambda: params)
    with pytest.raises(binding.EngineError, match="reinstall it"):
        binding.check_layout(library)


def test_token_ids_of_the_tests_are_right(chain_model: NativeModel) -> None:
    assert [chain_model.piece(token) for token in token_ids("▁Hello", "<0xED>")] == [
        b" Hello",
        b"\xed",
    ]
