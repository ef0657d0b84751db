"""Vocabularies in which every preset's control tokens are control tokens, and their oracles.

Two real ones, of SentencePiece and of byte-level BPE, with the tokens put behind their own; each
is a vocabulary for `prompts.encode`, tokenized by llama.cpp, and can ask its source tokenizer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import gguf

from checkpoints.vocabularies import (
    ByteLevel,
    byte_level,
    byte_level_json,
    llama_pieces,
    read_vocabulary,
    sentencepiece_model,
)
from komt_convert.ggml import Tokenizer
from komt_convert.vocab_sentencepiece import Reference
from komt_local.prompts import PRESETS

VOCABULARIES = Path(__file__).parent.parent / "vocab"
CONTROL = 3
_LOOK = re.compile(r"<\|[^|<>]+\|>|\[\|[^|\[\]]+\|\]|<(?:start|end)_of_turn>")
NAMES = sorted({name for template in PRESETS.values() for name in _LOOK.findall(template.jinja)})


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
        self.native = Tokenizer(path)

    def tokenize(self, text: str, parse_special: bool = False) -> list[int]:
        return self.native.encode(text, parse_special=parse_special)

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
        import tokenizers

        whole = byte_level(full=True)
        made = tokenizers.Tokenizer.from_str(
            json.dumps(byte_level_json(ByteLevel(whole.vocab, whole.merges)))
        )
        made.add_special_tokens(sorted(self.control_tokens, key=self.control_tokens.__getitem__))
        return made


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
