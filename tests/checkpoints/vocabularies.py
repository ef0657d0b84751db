"""Tokenizers of the kinds that there are, made of excerpts of two real vocabularies."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from .files import write_json

VOCABULARIES = Path(__file__).parent.parent / "vocab"

Vocab = Literal["spm", "hf-bpe", "byte-level", "polyglot"]

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


@dataclass(frozen=True)
class Pieces:
    """A SentencePiece vocabulary: texts, scores and types by id."""

    texts: tuple[str, ...]
    scores: tuple[float, ...]
    types: tuple[int, ...]

    @property
    def ids(self) -> dict[str, int]:
        return {text: i for i, text in enumerate(self.texts)}


@dataclass(frozen=True)
class ByteLevel:
    """A byte-level BPE vocabulary: ids by token, and merges in rank order."""

    vocab: Mapping[str, int]
    merges: tuple[tuple[str, str], ...]
    end: str = "<|endoftext|>"


def write_tokenizer(
    folder: Path, vocab: Vocab, *, full: bool = False, overrides: Mapping[str, Any] | None = None
) -> int:
    """Write the tokenizer files of a kind; returns the number of tokens."""
    if vocab == "polyglot":
        content = polyglot_json(byte_level(full))
        write_json(folder / "tokenizer.json", content)
        settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
        n_tokens = len(content["model"]["vocab"]) + len(PERSONAL)
    elif vocab == "byte-level":
        tokens = byte_level(full)
        write_json(folder / "tokenizer.json", byte_level_json(tokens))
        special = {"bos_token": tokens.end, "eos_token": tokens.end, "unk_token": tokens.end}
        settings = {"tokenizer_class": "GPT2Tokenizer", **special}
        n_tokens = len(tokens.vocab)
    else:
        pieces = llama_pieces(full)
        if vocab == "spm":
            (folder / "tokenizer.model").write_bytes(sentencepiece_model(pieces))
        else:
            write_json(folder / "tokenizer.json", metaspace_json(pieces))
        special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
        flags = {"add_bos_token": True, "add_eos_token": False, "legacy": True}
        settings = {"tokenizer_class": "LlamaTokenizer", **special, **flags}
        n_tokens = len(pieces.texts)
    write_json(folder / "tokenizer_config.json", {**settings, **(overrides or {})})
    return n_tokens


@cache
def llama_pieces(full: bool = False) -> Pieces:
    """Llama-2's vocabulary, or 1,024 pieces of it: all bytes, Latin and Hangul, early merges."""
    fields = read_vocabulary(VOCABULARIES / "ggml-vocab-llama-spm.gguf")
    texts, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    if full:
        return Pieces(texts, fields["tokenizer.ggml.scores"], types)
    letters = [
        t for t in texts[259:] if len(t) == 1 and (t <= "~" or "가" <= t <= "힣" or t == "▁")
    ]
    known = set(letters)
    merges = [t for t in texts[259:] if len(t) > 1 and known.issuperset(t)]
    kept = texts[:259] + tuple(merges[: 1024 - 259 - len(letters)] + letters)
    scores = (0.0,) * 259 + tuple(float(-i) for i in range(len(kept) - 259))
    return Pieces(kept, scores, types[:259] + (NORMAL,) * (len(kept) - 259))


@cache
def byte_level(full: bool = False) -> ByteLevel:
    """GPT-2's vocabulary, or its 256 bytes, first 511 merges and end token."""
    fields = read_vocabulary(VOCABULARIES / "ggml-vocab-gpt-2.gguf")
    tokens = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    if not full:
        tokens, merges = (*tokens[:767], tokens[-1]), merges[:511]
    return ByteLevel({token: i for i, token in enumerate(tokens)}, tuple(merges), tokens[-1])


def read_vocabulary(path: Path) -> dict[str, Any]:
    """The arrays under `tokenizer.ggml.` in a GGUF file of ours, as tuples."""
    import gguf

    reader = gguf.GGUFReader(path)
    keys = ("tokens", "scores", "token_type", "merges")
    fields = (reader.fields.get(f"tokenizer.ggml.{key}") for key in keys)
    return {field.name: tuple(field.contents()) for field in fields if field is not None}


def sentencepiece_model(
    pieces: Pieces,
    *,
    model_type: int = 2,
    add_dummy_prefix: bool = True,
    remove_extra_whitespaces: bool = False,
) -> bytes:
    """A tokenizer.model (`model_type` 2: BPE, 1: unigram) with byte fallback and no normalizing.

    The message is ModelProto of sentencepiece_model.proto, written field by field.
    """
    entries = (
        field(1, text.encode()) + tag(2, 5) + struct.pack("<f", score) + field(3, kind)
        for text, score, kind in zip(pieces.texts, pieces.scores, pieces.types, strict=True)
    )
    trainer = field(3, model_type) + field(4, len(pieces.texts)) + field(35, 1)
    trainer += field(40, 0) + field(41, 1) + field(42, 2) + field(43, -1)
    normalizer = field(1, b"identity") + field(3, int(add_dummy_prefix))
    normalizer += field(4, int(remove_extra_whitespaces)) + field(5, 1)
    body = b"".join(field(1, entry) for entry in entries)
    return body + field(2, trainer) + field(3, normalizer)


def tag(number: int, wire_type: int) -> bytes:
    return varint(number << 3 | wire_type)


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return tag(number, 0) + varint(value & (2**64 - 1))
    return tag(number, 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def metaspace_json(pieces: Pieces) -> dict[str, Any]:
    """The tokenizer.json that transformers 4 wrote for a Llama-2 tokenizer.model."""
    return {
        "version": "1.0",
        "added_tokens": [added_token(i, pieces.texts[i]) for i in range(3)],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": begins_with("<s>", 1),
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": pieces.ids,
            "merges": [f"{left} {right}" for left, right in merges_of(pieces)],
        },
    }


def merges_of(pieces: Pieces) -> Iterable[tuple[str, str]]:
    """All pairs of pieces that make a piece, best score first, as transformers derives them."""
    ids = pieces.ids
    found = []
    for text, score, kind in zip(pieces.texts, pieces.scores, pieces.types, strict=True):
        pairs = [(text[:i], text[i:]) for i in range(1, len(text) * (kind == NORMAL))]
        known = [pair for pair in pairs if pair[0] in ids and pair[1] in ids]
        found += [(-score, ids[left], ids[right], left, right) for left, right in known]
    return [(left, right) for *_, left, right in sorted(found)]


def byte_level_json(tokens: ByteLevel) -> dict[str, Any]:
    """The tokenizer.json of GPT-2."""
    byte_level_step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "added_tokens": [added_token(tokens.vocab[tokens.end], tokens.end)],
        "normalizer": None,
        "pre_tokenizer": {**byte_level_step, "use_regex": True},
        "post_processor": byte_level_step,
        "decoder": byte_level_step,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": dict(tokens.vocab),
            "merges": [list(merge) for merge in tokens.merges],
        },
    }


FIRST = ("<|unused0|>", "<|unused1|>", "<|endoftext|>", "<|sep|>")
PERSONAL = ("<|acc|>", "<|rrn|>", "<|tell|>")


def polyglot_json(tokens: ByteLevel) -> dict[str, Any]:
    """In the manner of polyglot-ko: special tokens first, three for personal data at the end."""
    content = byte_level_json(tokens)
    plain = [token for token in tokens.vocab if token != tokens.end]
    vocab = {token: i for i, token in enumerate((*FIRST, *plain))}
    content["model"]["vocab"] = vocab
    content["added_tokens"] = [added_token(i, token) for i, token in enumerate(FIRST)]
    content["added_tokens"] += [
        added_token(len(vocab) + i, token, special=False) for i, token in enumerate(PERSONAL)
    ]
    return content


def added_token(i: int, content: str, *, special: bool = True) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": i, "content": content, **flags, "special": special}


def begins_with(token: str, i: int) -> dict[str, Any]:
    """A post-processor that puts one special token in front of a text."""
    first = {"SpecialToken": {"id": token, "type_id": 0}}
    a, b = ({"Sequence": {"id": id_, "type_id": t}} for t, id_ in enumerate("AB"))
    second = {"SpecialToken": {"id": token, "type_id": 1}}
    special = {token: {"id": token, "ids": [i], "tokens": [token]}}
    template = {"single": [first, a], "pair": [first, a, second, b]}
    return {"type": "TemplateProcessing", **template, "special_tokens": special}
