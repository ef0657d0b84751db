r"""The name under which llama.cpp knows the pre-tokenizer of a byte-level tokenizer.json.

A pre-tokenizer cuts a text into words before any merge. llama.cpp has a fixed list of them, by
names that it asks for in `tokenizer.ggml.pre`; here a name is found by what the pre-tokenizer
says. The expressions are those that llama-vocab.cpp quotes as "original regex from tokenizer.json";
some names also mean that a word which is a token is not merged (`ignore_merges`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from komt_convert.errors import UnsupportedError

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
START = r"[^\r\n\p{L}\p{N}]?"
SYMBOLS = r" ?[^\s\p{L}\p{N}]+"

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
DIGIT = r"\p{N}"
LLAMA3 = rf"{CONTRACTIONS}|{START}\p{{L}}+|\p{{N}}{{1,3}}|{SYMBOLS}[\r\n]*|{SPACES}"
QWEN2 = rf"{CONTRACTIONS}|{START}\p{{L}}+|\p{{N}}|{SYMBOLS}[\r\n]*|{SPACES}"
QWEN35 = (
    rf"{CONTRACTIONS}|{START}[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*"
    rf"|{SPACES}"
)
GPT4O = (
    rf"{START}{UPPER}*{LOWER}+{CONTRACTIONS}?|{START}{UPPER}+{LOWER}*{CONTRACTIONS}?"
    rf"|\p{{N}}{{1,3}}|{SYMBOLS}[\r\n/]*|{SPACES}"
)
TEKKEN = rf"{START}{UPPER}*{LOWER}+|{START}{UPPER}+{LOWER}*|\p{{N}}|{SYMBOLS}[\r\n/]*|{SPACES}"
DEEPSEEK3 = (
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{SPACES}",
)
EXAONE_MOE = (
    rf"{CONTRACTIONS}|{START}(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
    rf"|{SYMBOLS}[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
)

NAMES: Mapping[tuple[tuple[str, ...], bool], str] = {
    ((GPT2,), False): "gpt-2",
    ((DIGIT, GPT2), False): "starcoder",
    ((LLAMA3,), True): "llama-bpe",
    ((LLAMA3,), False): "smaug-bpe",
    ((QWEN2,), False): "qwen2",
    ((QWEN35,), False): "qwen35",
    ((GPT4O,), False): "gpt-4o",
    ((TEKKEN,), True): "tekken",
    (DEEPSEEK3, False): "deepseek-v3",
    ((EXAONE_MOE,), False): "exaone-moe",
}
"""(Expressions in order, ignore_merges) → name; of several names for the same, a common one."""


def pre_tokenizer_name(settings: Mapping[str, Any], path: Path) -> str:
    """The value of `tokenizer.ggml.pre` for a tokenizer.json; `path` is for messages.

    Raises UnsupportedError, quoting the expressions, when llama.cpp has no such pre-tokenizer.
    """
    expressions = tuple(_expressions(settings.get("pre_tokenizer")))
    ignore_merges = bool(settings["model"].get("ignore_merges"))
    name = NAMES.get((expressions, ignore_merges))
    if name is None:
        found = " then ".join(map(repr, expressions)) or "nothing"
        raise UnsupportedError(
            f"{path} cuts text by {found} (ignore_merges {ignore_merges}), for which llama.cpp has "
            "no pre-tokenizer that is known here; this tokenizer is not supported.",
            f"{path} 토크나이저는 {found} 규칙(ignore_merges {ignore_merges})으로 글을 나누는데, "
            "이에 맞는 llama.cpp 사전 토크나이저를 모릅니다. 지원하지 않는 토크나이저입니다.",
        )
    return name


def _expressions(part: Mapping[str, Any] | None) -> Iterator[str]:
    """What a text is cut by, in order; parts that are not understood come as their JSON."""
    if part is None:
        return
    if part["type"] == "Sequence":
        for step in part["pretokenizers"]:
            yield from _expressions(step)
    elif part["type"] == "ByteLevel" and not part.get("add_prefix_space", True):
        if part.get("use_regex", True):
            yield GPT2
    elif part["type"] == "Digits" and part.get("individual_digits"):
        yield DIGIT
    elif part["type"] == "Split" and _keeps_everything(part):
        yield part["pattern"]["Regex"].replace("\r", r"\r").replace("\n", r"\n")
    else:
        yield str(dict(part))


def _keeps_everything(split: Mapping[str, Any]) -> bool:
    """Whether the pieces of a Split are the matches and what lies between them."""
    how = split.get("behavior"), bool(split.get("invert"))
    return "Regex" in split["pattern"] and how in (("Isolated", False), ("Removed", True))
