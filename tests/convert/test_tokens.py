"""llama.cpp gives the ids of sentencepiece and of tokenizers, on real vocabularies of each kind."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from checkpoints import (
    Pieces,
    added_token,
    byte_level,
    byte_level_json,
    llama_pieces,
    merges_of,
    metaspace_json,
    sentencepiece_model,
    write_json,
    write_llama_checkpoint,
    write_tokenizer,
)
from komt_convert import convert
from komt_convert.corpus import corpus, mixed
from komt_convert.errors import TokenizerMismatch, UnsupportedError
from komt_convert.ggml import Tokenizer
from komt_convert.metadata import text
from komt_convert.tokens import as_prompt, compare_tokens
from komt_convert.vocab import Vocabulary, read_vocabulary
from komt_convert.vocab_pre import NAMES
from komt_convert.vocab_types import TokenType
from komt_convert.writer import encode_header


def write_tokenizer_json(folder: Path, content: dict[str, Any], eos: int) -> None:
    write_json(folder / "tokenizer.json", content)
    write_json(folder / "config.json", {"eos_token_id": eos})


def compare(vocabulary: Vocabulary, folder: Path) -> int:
    """The proof over the whole corpus, on a file without tensors."""
    path = folder / "vocabulary.gguf"
    metadata = {"general.architecture": text("llama"), **vocabulary.metadata()}
    path.write_bytes(encode_header(metadata, []))
    with Tokenizer(path) as native:
        with_control = mixed(tuple(vocabulary.special_tokens))
        return compare_tokens(vocabulary, native, corpus(), with_control)


def test_the_corpus_has_what_it_should() -> None:
    texts = list(corpus())
    together = "".join(texts)
    assert 2000 < len(texts) == len(set(texts)) < 2500
    assert all(chr(code) in together for code in range(ord("가"), ord("힣") + 1))
    for part in ("\r\n", "        ", "\t\t", "\u200d", "\u3000", "ㅋㅋㅋ", "</s>", "<|im_end|>"):
        assert part in together
    assert any(text != unicodedata.normalize("NFC", text) for text in texts)
    assert list(corpus()) == texts


@pytest.mark.parametrize("kind", ["spm", "hf-bpe", "byte-level"])
def test_real_vocabularies_give_the_same_ids(kind: Any, tmp_path: Path) -> None:
    n_tokens = write_tokenizer(tmp_path, kind, full=True)
    vocabulary = read_vocabulary(tmp_path, n_tokens)
    assert len(vocabulary.tokens) == n_tokens == (50257 if kind == "byte-level" else 32000)
    assert compare(vocabulary, tmp_path) > 50_000


def test_both_files_of_llama_2_give_the_same_ids(tmp_path: Path) -> None:
    """tokenizer.json, derived from tokenizer.model, is another program but the same tokenizer."""
    folders = [tmp_path / kind for kind in ("spm", "hf-bpe")]
    for folder in folders:
        folder.mkdir()
    n_tokens = [write_tokenizer(f, f.name, full=True) for f in folders]  # type: ignore[arg-type]
    model, fast = (read_vocabulary(f, n) for f, n in zip(folders, n_tokens, strict=True))
    assert all(model.encode(line) == fast.encode(line) for line in corpus())


@pytest.mark.parametrize("expressions", NAMES, ids=lambda key: NAMES[key])
def test_every_pre_tokenizer_gives_the_same_ids(expressions: Any, tmp_path: Path) -> None:
    cuts, ignore_merges = expressions
    settings = byte_level_json(byte_level(full=True))
    settings["model"]["ignore_merges"] = ignore_merges
    splits = [
        {"type": "Split", "pattern": {"Regex": cut}, "behavior": "Isolated", "invert": False}
        for cut in cuts
    ]
    last = {**settings["pre_tokenizer"], "use_regex": False}
    settings["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [*splits, last]}
    write_tokenizer_json(tmp_path, settings, eos=50256)
    vocabulary = read_vocabulary(tmp_path, 50257)
    assert vocabulary.pre == NAMES[expressions]
    assert compare(vocabulary, tmp_path) > 50_000


CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*"
    r"|\s*[\r\n]|\s+(?!\S)|\s+"
)


def split_by(expression: str, *, full: bool) -> dict[str, Any]:
    """GPT-2's tokenizer.json with another expression that cuts."""
    settings = byte_level_json(byte_level(full))
    split = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated"}
    last = {**settings["pre_tokenizer"], "use_regex": False}
    steps = [{**split, "invert": False}, last]
    return {**settings, "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}}


def test_an_unknown_expression_that_cuts_like_a_known_one(tmp_path: Path) -> None:
    """OpenAI's own spelling, as tiktoken has it, of what Llama 3 wrote in another way."""
    write_tokenizer_json(tmp_path, split_by(CL100K, full=True), eos=50256)
    vocabulary = read_vocabulary(tmp_path, 50257)
    assert vocabulary.pre == "smaug-bpe"
    assert any("not known here" in en for en, _ in vocabulary.warnings)
    assert compare(vocabulary, tmp_path) > 50_000


def test_an_expression_that_nothing_cuts_like(tmp_path: Path) -> None:
    write_tokenizer_json(tmp_path, split_by(r"[a-c가-힣]|\s+|.", full=False), eos=767)
    with pytest.raises(UnsupportedError, match="no pre-tokenizer that is known here"):
        read_vocabulary(tmp_path, 768)


@pytest.mark.parametrize("scheme", ["always", "first", "never"])
def test_metaspace_gives_the_same_ids(scheme: str, tmp_path: Path) -> None:
    settings = metaspace_json(llama_pieces(full=True))
    settings["normalizer"] = None
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False}
    write_tokenizer_json(tmp_path, {**settings, "pre_tokenizer": metaspace}, eos=2)
    vocabulary = read_vocabulary(tmp_path, 32000)
    assert vocabulary.space_prefix == (scheme != "never")
    assert vocabulary.legacy == (scheme != "first")
    assert vocabulary.prepare("  말") == ("  말" if scheme == "never" else " 말")
    assert compare(vocabulary, tmp_path) > 50_000


def test_a_model_without_a_space_in_front(tmp_path: Path) -> None:
    n_tokens = write_tokenizer(tmp_path, "spm", overrides={"add_prefix_space": False})
    vocabulary = read_vocabulary(tmp_path, n_tokens)
    assert not vocabulary.space_prefix
    assert vocabulary.encode("the") != vocabulary.encode(" the")
    assert compare(vocabulary, tmp_path) > 50_000


def test_a_tokenizer_that_normalizes_is_given_normalized_text(tmp_path: Path) -> None:
    settings = {**byte_level_json(byte_level()), "normalizer": {"type": "NFC"}}
    write_tokenizer_json(tmp_path, settings, eos=767)
    vocabulary = read_vocabulary(tmp_path, 768)
    assert compare(vocabulary, tmp_path) > 50_000
    assert any("Unicode form NFC" in en for en, _ in vocabulary.warnings)
    assert vocabulary.metadata()["komt.tokenizer.normal_form"].data == "NFC"


def test_tokens_that_users_added_are_found_in_texts(tmp_path: Path) -> None:
    """They are parsed even where control tokens are not, by `tokenizers` and by llama.cpp."""
    settings = byte_level_json(byte_level())
    added = [added_token(768, "세종대왕", special=False), added_token(769, "<|끝|>")]
    settings["added_tokens"] += added
    write_tokenizer_json(tmp_path, settings, eos=767)
    vocabulary = read_vocabulary(tmp_path, 770)
    assert 768 in vocabulary.encode("세종대왕은 왕이다")
    assert 769 not in vocabulary.encode("<|끝|>")
    assert vocabulary.special_tokens == {"<|endoftext|>": 767, "<|끝|>": 769}
    assert compare(vocabulary, tmp_path) > 50_000


def gemma_like(folder: Path) -> Vocabulary:
    """Turns and runs of spaces and newlines as user-defined pieces, and no space in front."""
    pieces = llama_pieces(full=True)
    turns, runs = ("<start_of_turn>", "<end_of_turn>"), ["\t", "\n"]
    runs += [space * n for space in "\n▁" for n in range(2, 32)]
    kept = [i for i, piece in enumerate(pieces.texts) if len(piece) < 2 or piece.strip("▁")]
    texts = tuple(pieces.texts[i] for i in kept)
    new = (*turns, *runs)
    model = Pieces(
        (*texts, *new),
        (*(pieces.scores[i] for i in kept), *(0.0 for _ in new)),
        (*(pieces.types[i] for i in kept), *(TokenType.USER_DEFINED for _ in new)),
    )
    raw = sentencepiece_model(model, add_dummy_prefix=False)
    (folder / "tokenizer.model").write_bytes(raw)
    special = {
        str(len(texts) + i): {"content": turn, "special": True} for i, turn in enumerate(turns)
    }
    write_json(folder / "tokenizer_config.json", {"added_tokens_decoder": special})
    return read_vocabulary(folder, len(model.texts))


def test_turns_of_gemma_are_control_tokens_though_the_model_has_them(tmp_path: Path) -> None:
    vocabulary = gemma_like(tmp_path)
    turn = vocabulary.special_tokens["<start_of_turn>"]
    assert vocabulary.parse is not None
    assert turn not in vocabulary.encode("<start_of_turn>user")
    assert vocabulary.parse("<start_of_turn>user")[0] == turn
    assert not vocabulary.space_prefix
    assert compare(vocabulary, tmp_path) > 50_000


# --- control tokens among text -------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [True, False])
def test_a_model_says_whether_a_space_follows_a_control_token(legacy: bool, tmp_path: Path) -> None:
    n_tokens = write_tokenizer(tmp_path, "spm", full=True, overrides={"legacy": legacy})
    vocabulary = read_vocabulary(tmp_path, n_tokens)
    assert vocabulary.parse is not None
    assert vocabulary.parse("</s>the") == [2, *([278] if legacy else [1552])]  # ▁the, the
    assert compare(vocabulary, tmp_path) > 50_000
    other = replace(vocabulary, legacy=not legacy)
    assert "</s>" in str(mismatch(other, tmp_path))


def test_the_rule_is_that_of_the_runtime(tmp_path: Path) -> None:
    from komt_local.prompts.segments import Segment, encode

    for legacy in (True, False):
        n_tokens = write_tokenizer(tmp_path, "spm", full=True, overrides={"legacy": legacy})
        vocabulary = read_vocabulary(tmp_path, n_tokens)
        path = tmp_path / "vocabulary.gguf"
        metadata = {"general.architecture": text("llama"), **vocabulary.metadata()}
        path.write_bytes(encode_header(metadata, []))
        with Tokenizer(path) as native:

            class Runtime:
                control_tokens = vocabulary.special_tokens
                bos = None
                legacy = vocabulary.legacy
                tokenize = native.encode

            for line in mixed(tuple(vocabulary.special_tokens)):
                ids = as_prompt(line, vocabulary.special_tokens, vocabulary, native)
                assert ids == encode([Segment(line, ours=True)], Runtime())


def test_a_token_that_looks_special_is_one_for_both(tmp_path: Path) -> None:
    """polyglot-ko's three tokens for personal data, which a user's text must not become."""
    n_tokens = write_tokenizer(tmp_path, "polyglot")
    vocabulary = read_vocabulary(tmp_path, 800)
    assert vocabulary.parse is not None
    for i, name in enumerate(("<|acc|>", "<|rrn|>", "<|tell|>"), start=n_tokens - 3):
        assert vocabulary.special_tokens[name] == i
        assert i not in vocabulary.encode(f"계좌 {name}")
        assert i in vocabulary.parse(f"계좌 {name}")
    assert compare(vocabulary, tmp_path) > 50_000


def test_a_control_token_is_found_wherever_it_stands(tmp_path: Path) -> None:
    """With `normalized`, the tokenizers library finds it only where a ▁ goes before it."""
    settings = metaspace_json(llama_pieces())
    for entry in settings["added_tokens"]:
        entry["normalized"] = True
    write_tokenizer_json(tmp_path, settings, eos=2)
    vocabulary = read_vocabulary(tmp_path, 1024)
    assert vocabulary.parse is not None
    assert 2 in vocabulary.parse("가</s>나")
    assert any("only at the beginning" in en for en, _ in vocabulary.warnings)
    assert compare(vocabulary, tmp_path) > 50_000


def test_a_control_token_that_swallows_spaces_is_found(tmp_path: Path) -> None:
    settings = byte_level_json(byte_level())
    settings["added_tokens"].append({**added_token(768, "<|끝|>"), "lstrip": True})
    write_tokenizer_json(tmp_path, settings, eos=767)
    error = mismatch(read_vocabulary(tmp_path, 769), tmp_path)
    assert "<|끝|>" in str(error)


# --- the proof finds what is wrong ---------------------------------------------------------------


def mismatch(vocabulary: Vocabulary, folder: Path) -> TokenizerMismatch:
    with pytest.raises(TokenizerMismatch) as error:
        compare(vocabulary, folder)
    return error.value


def test_scores_of_the_converter_would_be_found(tmp_path: Path) -> None:
    """llama.cpp's own converter scores each piece of such a tokenizer.json -1000."""
    n_tokens = write_tokenizer(tmp_path, "hf-bpe")
    vocabulary = read_vocabulary(tmp_path, n_tokens)
    flat = tuple(token._replace(score=-1000.0) for token in vocabulary.tokens)
    error = mismatch(replace(vocabulary, tokens=flat), tmp_path)
    line = next(line for line in corpus() if repr(line) in str(error))
    for words in (repr(line), str(vocabulary.encode(line))):
        assert words in str(error)
        assert words in error.ko


def test_a_wrong_pre_tokenizer_would_be_found(tmp_path: Path) -> None:
    vocabulary = read_vocabulary(tmp_path, write_tokenizer(tmp_path, "byte-level", full=True))
    mismatch(replace(vocabulary, pre="llama-bpe"), tmp_path)


def test_two_tokens_in_each_others_place_would_be_found(tmp_path: Path) -> None:
    vocabulary = read_vocabulary(tmp_path, write_tokenizer(tmp_path, "spm"))
    tokens = list(vocabulary.tokens)
    tokens[817], tokens[818] = tokens[818], tokens[817]
    mismatch(replace(vocabulary, tokens=tuple(tokens)), tmp_path)


def test_a_control_token_that_is_not_one_would_be_found(tmp_path: Path) -> None:
    vocabulary = read_vocabulary(tmp_path, write_tokenizer(tmp_path, "spm"))

    class Forgetful:
        encode = staticmethod(vocabulary.encode)
        prepare = staticmethod(vocabulary.prepare)
        parse, legacy = None, True
        special_tokens = {**vocabulary.special_tokens, "<|im_end|>": 5}

    metadata = {"general.architecture": text("llama"), **vocabulary.metadata()}
    (tmp_path / "v.gguf").write_bytes(encode_header(metadata, []))
    with Tokenizer(tmp_path / "v.gguf") as native, pytest.raises(TokenizerMismatch, match=r"\[5\]"):
        compare_tokens(Forgetful(), native, [])


def test_a_conversion_that_would_tokenize_differently_fails(tmp_path: Path) -> None:
    """The merges of the last pieces are gone: the source no longer makes what llama.cpp makes."""
    folder = write_llama_checkpoint(tmp_path / "tiny", vocab="hf-bpe", n_layers=1, hidden_size=64)
    settings = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    settings["model"]["merges"] = list(map(" ".join, merges_of(llama_pieces())))[:-100]
    write_json(folder / "tokenizer.json", settings)
    with pytest.raises(TokenizerMismatch, match="where the source tokenizer gives"):
        convert(folder, tmp_path / "tiny.gguf")
    assert list(tmp_path.iterdir()) == [folder]
    assert convert(folder, tmp_path / "tiny.gguf", verify=False).tokens_compared == 0


def test_a_difference_can_be_accepted(tmp_path: Path) -> None:
    folder = write_llama_checkpoint(tmp_path / "tiny", vocab="hf-bpe", n_layers=1, hidden_size=64)
    settings = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    settings["model"]["merges"] = list(map(" ".join, merges_of(llama_pieces())))[:-100]
    write_json(folder / "tokenizer.json", settings)
    report = convert(folder, tmp_path / "tiny.gguf", quant="F16", allow_token_mismatch=True)
    assert report.out.is_file()
    assert report.tokens_compared == 0
    assert any("where the source tokenizer gives" in en for en, _ in report.warnings)


def test_a_user_defined_token_of_one_byte_has_room(tmp_path: Path) -> None:
    """llama.cpp puts a space before the text after each of them."""
    added = {"1024": {"content": "\x01", "special": False}}
    write_tokenizer(tmp_path, "spm", overrides={"added_tokens_decoder": added})
    vocabulary = read_vocabulary(tmp_path, 1025)
    path = tmp_path / "vocabulary.gguf"
    metadata = {"general.architecture": text("llama"), **vocabulary.metadata()}
    path.write_bytes(encode_header(metadata, []))
    with Tokenizer(path) as native:
        assert native.encode("\x01가" * 50) == vocabulary.encode("\x01가" * 50)
