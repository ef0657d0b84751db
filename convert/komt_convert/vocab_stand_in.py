"""A pre-tokenizer of llama.cpp for a tokenizer.json whose expressions are not known by heart.

The same cuts can be written in many ways, so those of llama.cpp are tried one after another, and
the first that gives the ids of the source for every text of the corpus, and for some in scripts
that tell them apart, stands in. If none does, the tokenizer is refused. Which expressions are known
is the business of `vocab_pre`.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

from komt_convert.errors import TokenizerMismatch, UnsupportedError
from komt_convert.metadata import text
from komt_convert.vocab import Vocabulary

CANDIDATES = (
    "gpt-2",
    "llama-bpe",
    "smaug-bpe",
    "qwen2",
    "gpt-4o",
    "starcoder",
    "tekken",
    "exaone-moe",
    "qwen35",
    "minicpm5",
    "deepseek-v3",
    "bailingmoe",
    "seed-coder",
    "granite-embed-multi-97m",
    "youtu",
    "viking",
    "poro-chat",
)
"""Names that stand for different behaviour in src/llama-vocab.cpp, the likely ones first."""

IGNORE_MERGES = {"llama-bpe", "tekken", "minicpm5", "granite-embed-multi-97m", "youtu"}
"""For these, a word that is a token is not merged; they come first where the source says so too."""


def stand_in(
    vocabulary: Vocabulary, refusal: UnsupportedError, *, ignore_merges: bool
) -> Vocabulary:
    """The vocabulary with a pre-tokenizer that was tried; raises `refusal` when none will do."""
    for name in sorted(CANDIDATES, key=lambda name: (name in IGNORE_MERGES) != ignore_merges):
        candidate = replace(vocabulary, pre=name)
        if _same_ids(candidate):
            sentence = (
                "The expressions of this tokenizer.json are not known here; llama.cpp's "
                f"pre-tokenizer '{name}' gives the same ids for every text of the corpus.",
                "이 tokenizer.json의 규칙은 알려진 것이 아니지만, llama.cpp의 사전 토크나이저 "
                f"'{name}'이(가) 말뭉치의 모든 글에서 같은 토큰 번호를 냅니다.",
            )
            return replace(candidate, warnings=(*vocabulary.warnings, sentence))
    raise refusal


def _same_ids(vocabulary: Vocabulary) -> bool:
    from komt_convert.corpus import corpus, mixed, other_scripts
    from komt_convert.ggml import Tokenizer
    from komt_convert.tokens import compare_tokens
    from komt_convert.writer import encode_header

    with TemporaryDirectory() as folder:
        path = Path(folder, "tokenizer.gguf")
        metadata = {"general.architecture": text("llama"), **vocabulary.metadata()}
        path.write_bytes(encode_header(metadata, []))
        texts = chain(other_scripts(), corpus())
        with Tokenizer(path) as native:
            try:
                control = tuple(vocabulary.special_tokens)
                compare_tokens(vocabulary, native, texts, mixed(control))
            except TokenizerMismatch:
                return False
    return True
