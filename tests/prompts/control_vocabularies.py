"""Vocabularies in which every preset's control tokens are control tokens, and their oracles.

Two real ones, of SentencePiece and of byte-level BPE, with the tokens put behind their own; and one
like SentencePiece that exists as a tokenizer.json only, converted with a checkpoint and loaded as
the runtime loads it. Each is a vocabulary for `prompts.encode`, tokenized by llama.cpp, and can ask
its source tokenizer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import gguf
from tokenizers import Tokenizer

from checkpoints import write_llama_checkpoint
from checkpoints.vocabularies import (
    ByteLevel,
    added_token,
    byte_level,
    byte_level_json,
    llama_pieces,
    read_vocabulary,
    sentencepiece_model,
)
from komt_convert.ggml import Tokenizer as LlamaTokenizer
from komt_convert.vocab_sentencepiece import Reference
from komt_local.prompts import PRESETS

VOCABULARIES = Path(__file__).parent.parent / "vocab"
CONTROL = 3
_LOOK = re.compile(r"<\|[^|<>]+\|>|\[\|[^|\[\]]+\|\]|<(?:start|end)_of_turn>")
IN_HANGUL = "<|사용자|>"
"""A control token whose decomposed form is another text."""
NAMES = sorted({name for made in PRESETS.values() for name in _LOOK.findall(made.jinja)})
NAMES.append(IN_HANGUL)


class ControlVocabulary:
    """A vocabulary file with the control tokens of all presets, and the tokenizer it is from."""

    def __init__(self, folder: Path, kind: str, *, legacy: bool = True) -> None:
        self.is_spm, self.legacy = kind == "spm", legacy
        own = {"<s>": 1, "</s>": 2} if self.is_spm else {"<|endoftext|>": 50256}
        first = 32000 if self.is_spm else 50257
        added = [name for name in NAMES if name not in own]
        self.control_tokens = {**own, **{name: first + i for i, name in enumerate(added)}}
        self.bos = 1 if self.is_spm else None
        self.bos_text, self.eos_text = ("<s>", "</s>") if self.is_spm else ("", "<|endoftext|>")
        path = folder / f"{kind}.gguf"
        if not path.exists():
            _write(path, kind, added)
        self.native = LlamaTokenizer(path)

    def tokenize(self, text: str, parse_special: bool = False) -> list[int]:
        return self.native.encode(text, parse_special=parse_special)

    def close(self) -> None:
        self.native.close()

    def from_source(self, prompt: str) -> list[int]:
        """What the source tokenizer makes of a whole prompt, its control tokens parsed."""
        if not self.is_spm:
            return list(self._byte_level.encode(prompt).ids)
        ids = self._sentencepiece.parse(prompt, self.control_tokens)
        return ids if ids[:1] == [self.bos] else [1, *ids]

    @cached_property
    def _sentencepiece(self) -> Reference:
        raw = sentencepiece_model(llama_pieces(full=True))
        return Reference(raw, (), Path("tokenizer.model"), legacy=self.legacy)

    @cached_property
    def _byte_level(self) -> Any:
        whole = byte_level(full=True)
        made = Tokenizer.from_str(json.dumps(byte_level_json(ByteLevel(whole.vocab, whole.merges))))
        made.add_special_tokens(sorted(self.control_tokens, key=self.control_tokens.__getitem__))
        return made


class ConvertedVocabulary:
    """A BPE like SentencePiece that is a tokenizer.json alone, by way of the conversion.

    `legacy` is what the file's own parts say: a normalizer that prepends ▁ does so after every
    control token, a Metaspace with `prepend_scheme: first` only where the text begins.
    """

    is_spm = True
    bos, bos_text, eos_text = 1, "<s>", "</s>"

    def __init__(self, folder: Path, kind: str, *, legacy: bool) -> None:
        from komt_convert import convert
        from komt_local import llama

        source = folder / f"{kind}-{legacy}"
        if not source.exists():
            _write_checkpoint(source, legacy=legacy)
            convert(source, source / "model.gguf", quant="F16", verify=False)
        self.native = llama.load(source / "model.gguf")
        self.legacy = self.native.legacy
        self.control_tokens = self.native.control_tokens
        self.tokenize = self.native.tokenize
        self._source = Tokenizer.from_file(str(source / "tokenizer.json"))

    def from_source(self, prompt: str) -> list[int]:
        """What the source tokenizer makes of a whole prompt, its control tokens parsed."""
        ids = list(self._source.encode(prompt, add_special_tokens=False).ids)
        return ids if ids[:1] == [self.bos] else [self.bos, *ids]

    def close(self) -> None:
        self.native.close()


def _write_checkpoint(folder: Path, *, legacy: bool) -> None:
    added = [name for name in NAMES if name not in ("<s>", "</s>")]
    shape = {"n_layers": 1, "hidden_size": 32, "intermediate_size": 32, "n_heads": 2}
    n_rows = len(llama_pieces(full=True).texts) + len(added)
    write_llama_checkpoint(folder, vocab="hf-bpe", full_vocab=True, n_rows=n_rows, **shape)
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    first = n_rows - len(added)
    content["added_tokens"] += [added_token(first + i, name) for i, name in enumerate(added)]
    if not legacy:
        content["normalizer"] = None
        content["pre_tokenizer"] = {
            "type": "Metaspace",
            "replacement": "▁",
            "prepend_scheme": "first",
            "split": False,
        }
    path.write_text(json.dumps(content), encoding="utf-8")


def _write(path: Path, kind: str, added: Sequence[str]) -> None:
    name = "ggml-vocab-llama-spm.gguf" if kind == "spm" else "ggml-vocab-gpt-2.gguf"
    keys: Mapping[str, Any] = read_vocabulary(VOCABULARIES / name)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("llama" if kind == "spm" else "gpt2")
    if kind != "spm":
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_merges(list(keys["tokenizer.ggml.merges"]))
    else:
        writer.add_token_scores([*keys["tokenizer.ggml.scores"], *[0.0] * len(added)])
    writer.add_token_list([*keys["tokenizer.ggml.tokens"], *added])
    writer.add_token_types([*keys["tokenizer.ggml.token_type"], *[CONTROL] * len(added)])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
