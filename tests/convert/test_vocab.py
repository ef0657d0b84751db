"""Tokens by id, special ids, flags and templates, from the files as they are found in the field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoints import (
    Pieces,
    added_token,
    byte_level,
    byte_level_json,
    llama_pieces,
    metaspace_json,
    sentencepiece_model,
    write_json,
    write_tokenizer,
)
from komt_convert.errors import SourceError, UnsupportedError
from komt_convert.vocab import Vocabulary, read_vocabulary
from komt_convert.vocab_sentencepiece import parse_model
from komt_convert.vocab_types import TokenType

LLAMA_SPECIAL = {"bos": 1, "eos": 2, "unk": 0}


def spm(folder: Path, n_rows: int = 1024, **changes: Any) -> Vocabulary:
    write_tokenizer(folder, "spm", overrides=changes)
    return read_vocabulary(folder, n_rows)


def test_pieces_scores_and_types_are_those_of_the_model(tmp_path: Path) -> None:
    pieces, vocabulary = llama_pieces(), spm(tmp_path)
    assert tuple(token.text for token in vocabulary.tokens) == pieces.texts
    assert tuple(token.score for token in vocabulary.tokens) == pieces.scores
    assert tuple(token.type for token in vocabulary.tokens) == pieces.types
    assert (vocabulary.model, vocabulary.pre) == ("llama", "default")
    assert vocabulary.special_ids == LLAMA_SPECIAL
    assert vocabulary.special_tokens == {"<s>": 1, "</s>": 2}
    assert vocabulary.add_bos and not vocabulary.add_eos and vocabulary.space_prefix


def test_the_models_fields_are_those_that_sentencepiece_reads(tmp_path: Path) -> None:
    import sentencepiece

    write_tokenizer(tmp_path, "spm", full=True)
    path = tmp_path / "tokenizer.model"
    processor = sentencepiece.SentencePieceProcessor(str(path))
    model = parse_model(path.read_bytes(), path)
    assert len(model.pieces) == processor.vocab_size()
    for i, piece in enumerate(model.pieces):
        assert piece.text == processor.id_to_piece(i)
        assert piece.score == processor.get_score(i)
        assert (piece.type is TokenType.BYTE) == processor.is_byte(i)
        assert (piece.type is TokenType.CONTROL) == processor.is_control(i)
    assert model.special == {"unk": 0, "bos": 1, "eos": 2}


def test_rows_beyond_the_tokenizer_are_padding(tmp_path: Path) -> None:
    vocabulary = spm(tmp_path, 1030)
    assert [t.text for t in vocabulary.tokens[1022:]] == [
        *llama_pieces().texts[1022:],
        *(f"[PAD{i}]" for i in range(1024, 1030)),
    ]
    assert {t.type for t in vocabulary.tokens[1024:]} == {TokenType.UNUSED}


def test_more_tokens_than_rows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="has 1,024 tokens and the embedding 1,000 rows"):
        spm(tmp_path, 1000)


def test_added_tokens_of_both_files(tmp_path: Path) -> None:
    write_json(tmp_path / "added_tokens.json", {"<pad>": 1024, "낱말": 1025, "[INST]": 1026})
    decoder = {"1026": {"content": "[INST]", "special": True}}
    vocabulary = spm(tmp_path, 1028, added_tokens_decoder=decoder, pad_token="<pad>")
    assert [(t.text, t.type) for t in vocabulary.tokens[1024:]] == [
        ("<pad>", TokenType.CONTROL),
        ("낱말", TokenType.USER_DEFINED),
        ("[INST]", TokenType.CONTROL),
        ("[PAD1027]", TokenType.UNUSED),
    ]
    assert vocabulary.special_ids == {**LLAMA_SPECIAL, "pad": 1024}
    assert vocabulary.encode("낱말")[-1] == 1025
    assert 1026 not in vocabulary.encode("[INST]")
    assert not vocabulary.warnings


def test_an_extended_tokenizer_json_counts_before_the_model_that_it_extends(
    tmp_path: Path,
) -> None:
    """Such checkpoints often still hold the tokenizer.model of the model that they began with."""
    write_tokenizer(tmp_path, "spm")
    write_json(tmp_path / "tokenizer.json", metaspace_json(llama_pieces()))
    assert read_vocabulary(tmp_path, 1026).tokens[1024].text == "[PAD1024]"
    tokenizer = metaspace_json(llama_pieces())
    tokenizer["model"]["vocab"] = {**tokenizer["model"]["vocab"], "하세": 1024, "하세요": 1025}
    tokenizer["model"]["merges"] += ["하 세", "하세 요"]
    write_json(tmp_path / "tokenizer.json", tokenizer)
    vocabulary = read_vocabulary(tmp_path, 1026)
    assert vocabulary.tokens[1025].text == "하세요"
    assert vocabulary.encode("안녕하세요")[-1] == 1025


def test_an_added_token_without_a_row_is_left_out_with_a_warning(tmp_path: Path) -> None:
    write_json(tmp_path / "added_tokens.json", {"<pad>": 1024})
    vocabulary = spm(tmp_path)
    assert len(vocabulary.tokens) == 1024
    ((en, ko),) = vocabulary.warnings
    assert "'<pad>' (1024) is left out" in en and "'<pad>'(1024)" in ko
    assert "pad" not in vocabulary.special_ids


def test_equal_texts_are_refused(tmp_path: Path) -> None:
    text = llama_pieces().texts[300]
    write_json(tmp_path / "added_tokens.json", {text: 1024})
    with pytest.raises(UnsupportedError, match=f"tokens 300 and 1024 are both '{text}'"):
        spm(tmp_path, 1025)


# --- special ids, flags, templates ---------------------------------------------------------------


def test_tokenizer_config_overrules_the_other_configs(tmp_path: Path) -> None:
    """A config with the defaults of its class, next to a tokenizer that knows better."""
    tokens = byte_level()
    write_json(tmp_path / "tokenizer.json", without_end(byte_level_json(tokens)))
    write_json(tmp_path / "config.json", {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 3})
    assert read_vocabulary(tmp_path, 768).special_ids == {"bos": 0, "eos": 0, "pad": 3}
    entry = {"content": "<end>", "lstrip": False}
    write_json(tmp_path / "tokenizer_config.json", {"eos_token": entry, "bos_token": None})
    assert read_vocabulary(tmp_path, 768).special_ids == {"bos": 0, "eos": 767, "pad": 3}


def test_the_older_file_of_special_tokens_counts_too(tmp_path: Path) -> None:
    write_json(tmp_path / "tokenizer.json", without_end(byte_level_json(byte_level())))
    write_json(tmp_path / "config.json", {"eos_token_id": 0})
    write_json(tmp_path / "special_tokens_map.json", {"eos_token": "<end>"})
    assert read_vocabulary(tmp_path, 768).special_ids == {"eos": 767}


def test_polyglot_ends_whatever_the_config_says(tmp_path: Path) -> None:
    """0 is what GPTNeoXConfig writes when nobody says better."""
    n_tokens = write_tokenizer(tmp_path, "polyglot")
    for name in ("config.json", "generation_config.json"):
        write_json(tmp_path / name, {"bos_token_id": 0, "eos_token_id": 0})
    vocabulary = read_vocabulary(tmp_path, 800)
    assert vocabulary.special_ids == {"bos": 2, "eos": 2}
    assert vocabulary.pre == "gpt-2"
    assert not vocabulary.add_bos and not vocabulary.add_eos
    assert [token.text for token in vocabulary.tokens[n_tokens - 1 : n_tokens + 1]] == [
        "<|tell|>",
        f"[PAD{n_tokens}]",
    ]
    assert vocabulary.tokens[799].type is TokenType.UNUSED
    control = {"<|endoftext|>": 2, "<|acc|>": n_tokens - 3, "<|tell|>": n_tokens - 1}
    assert control.items() <= vocabulary.special_tokens.items()


def without_end(content: dict[str, Any]) -> dict[str, Any]:
    """The same with another name for the token that ends a text."""
    i = content["model"]["vocab"].pop("<|endoftext|>")
    content["model"]["vocab"]["<end>"] = i
    content["added_tokens"] = [added_token(i, "<end>")]
    return content


def test_a_tokenizer_without_an_end_is_refused(tmp_path: Path) -> None:
    """llama.cpp would take the token 11 of a byte-level vocabulary, whatever that is."""
    write_json(tmp_path / "tokenizer.json", without_end(byte_level_json(byte_level())))
    with pytest.raises(SourceError, match="says which token ends a text"):
        read_vocabulary(tmp_path, 768)


def test_several_ends_become_end_and_end_of_turn(tmp_path: Path) -> None:
    write_json(tmp_path / "generation_config.json", {"eos_token_id": [2, 900, 901]})
    assert spm(tmp_path).special_ids == {**LLAMA_SPECIAL, "eot": 900}


@pytest.mark.parametrize("value", [-1, 99999, "2", True, None, [], {}])
def test_ids_that_make_no_sense_are_passed_over(value: object, tmp_path: Path) -> None:
    write_json(tmp_path / "generation_config.json", {"pad_token_id": value, "eos_token_id": value})
    assert spm(tmp_path).special_ids == LLAMA_SPECIAL


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("eos", [True, False])
def test_bos_and_eos_as_configured(bos: bool, eos: bool, tmp_path: Path) -> None:
    vocabulary = spm(tmp_path, add_bos_token=bos, add_eos_token=eos)
    assert (vocabulary.add_bos, vocabulary.add_eos) == (bos, eos)


def test_what_tokenizer_json_does_overrules_the_flags(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, "hf-bpe", overrides={"add_bos_token": False})
    assert read_vocabulary(tmp_path, 1024).add_bos
    tokenizer = {**metaspace_json(llama_pieces()), "post_processor": None}
    write_json(tmp_path / "tokenizer.json", tokenizer)
    assert not read_vocabulary(tmp_path, 1024).add_bos


@pytest.mark.parametrize("said, legacy", [(None, True), (True, True), (False, False)])
def test_legacy_is_true_when_absent(said: bool | None, legacy: bool, tmp_path: Path) -> None:
    assert spm(tmp_path, legacy=said).legacy == legacy


def test_legacy_says_nothing_about_byte_level_tokenizers(tmp_path: Path) -> None:
    n_tokens = write_tokenizer(tmp_path, "byte-level", overrides={"legacy": False})
    assert read_vocabulary(tmp_path, n_tokens).legacy


def test_the_chat_template_in_all_its_places(tmp_path: Path) -> None:
    assert spm(tmp_path).chat_template is None
    assert spm(tmp_path, chat_template="{{ 1 }}").chat_template == "{{ 1 }}"
    named = [{"name": "rag", "template": "R"}, {"name": "default", "template": "D"}]
    assert spm(tmp_path, chat_template=named).chat_template == "D"
    assert spm(tmp_path, chat_template=named[:1]).chat_template == "R"
    (tmp_path / "chat_template.jinja").write_text("한글 {{ 2 }}", encoding="utf-8")
    assert spm(tmp_path, chat_template="{{ 1 }}").chat_template == "한글 {{ 2 }}"


def test_a_chat_template_of_absurd_length(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"tokenizer_config\.json has more than 1,048,576 bytes"):
        spm(tmp_path, chat_template="x" * (1 << 21))
    with (tmp_path / "chat_template.jinja").open("wb") as file:
        file.truncate(1 << 32)  # all of it holes
    with pytest.raises(SourceError, match=r"chat_template\.jinja has more than 1,048,576 bytes"):
        spm(tmp_path)


# --- what is refused -----------------------------------------------------------------------------


def test_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="neither tokenizer.model nor tokenizer.json"):
        read_vocabulary(tmp_path, 10)


def test_a_unigram_model_is_refused_by_its_kind(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model(llama_pieces(), model_type=1))
    with pytest.raises(UnsupportedError, match="of the kind unigram"):
        read_vocabulary(tmp_path, 1024)


def test_a_model_without_byte_fallback_is_refused(tmp_path: Path) -> None:
    """llama.cpp would end the process at the first character that is not in the vocabulary."""
    pieces = llama_pieces()
    kept = [i for i in range(1024) if pieces.types[i] != TokenType.BYTE]
    texts, scores, types = (
        tuple(values[i] for i in kept) for values in (pieces.texts, pieces.scores, pieces.types)
    )
    model = sentencepiece_model(Pieces(texts, scores, types))
    (tmp_path / "tokenizer.model").write_bytes(model)
    with pytest.raises(UnsupportedError, match="has no byte fallback"):
        read_vocabulary(tmp_path, 1024)


@given(data=st.data())
@settings(deadline=None, max_examples=200)
def test_a_damaged_model_is_read_or_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    raw = bytearray(sentencepiece_model(llama_pieces()))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (folder / "tokenizer.model").write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        read_vocabulary(folder, 2000)
    except SourceError as error:
        assert str(folder) in str(error) or "tokens" in str(error)


def changed(change: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """`base` with the entries of `change`, objects inside objects alike."""
    merged = dict(base)
    for key, value in change.items():
        inner = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = changed(value, base[key]) if inner else value
    return merged


SPLIT = {"type": "Split", "pattern": {"Regex": "x+"}, "behavior": "Isolated", "invert": False}
REFUSED: dict[str, tuple[dict[str, Any], type[SourceError], str]] = {
    "unigram": ({"model": {"type": "Unigram"}}, UnsupportedError, "the model Unigram"),
    "suffixes": ({"model": {"end_of_word_suffix": "</w>"}}, UnsupportedError, "subwords"),
    "a gap in the ids": ({"model": {"vocab": {"x": 9999}}}, UnsupportedError, "gaps between"),
    "an unknown cut": ({"pre_tokenizer": SPLIT}, UnsupportedError, "cuts text by 'x+'"),
    "no pre-tokenizer": ({"pre_tokenizer": None}, UnsupportedError, "cuts text by nothing"),
    "a space in front": (
        {"pre_tokenizer": {"add_prefix_space": True}},
        UnsupportedError,
        "'add_prefix_space': True",
    ),
    "no vocabulary": ({"model": {"vocab": None}}, SourceError, "is damaged"),
    "merges of three": ({"model": {"merges": ["a b c"]}}, SourceError, "is damaged"),
    "added tokens as text": ({"added_tokens": "none"}, SourceError, "is damaged"),
    "half a character": (
        {"added_tokens": [added_token(768, "\ud83d")]},
        SourceError,
        "is damaged",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_tokenizer_json_that_cannot_be_used_is_refused(name: str, tmp_path: Path) -> None:
    change, kind, sentence = REFUSED[name]
    tokenizer = changed(change, byte_level_json(byte_level()))
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    with pytest.raises(kind) as error:
        read_vocabulary(tmp_path, 10000)
    assert type(error.value) is kind
    assert sentence in str(error.value)
    assert str(tmp_path) in error.value.ko


@pytest.mark.parametrize(
    "content",
    [
        {"added_tokens_decoder": [1]},
        {"added_tokens_decoder": {"x": {}}},
        {"added_tokens_decoder": {"5": "text"}},
        {"chat_template": [1]},
    ],
)
def test_a_tokenizer_config_that_makes_no_sense_is_refused(content: Any, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="make no sense"):
        spm(tmp_path, **content)
