"""Roles and flags of a tokenizer: BOS and EOS, when they are added, `legacy`, the chat template.

They are spread over several files that need not agree; here is which of them counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from komt_convert.checkpoint import read_json
from komt_convert.errors import SourceError
from komt_convert.vocab_types import Base, Token

END_OF_TEXT = "<|endoftext|>"

ROLES = ("bos", "eos", "unk", "pad")

MAX_TEMPLATE_BYTES = 1 << 20
"""The longest template known has some 30,000."""


def special_ids(
    folder: Path, settings: Mapping[str, Any], base: Base, tokens: list[Token]
) -> dict[str, int]:
    """Ids by role: from the tokenizer's own files, else generation_config.json, else config.json.

    A tokenizer that names no end has `<|endoftext|>` for it, if there is one: the class of
    polyglot-ko fills a config that says nothing with 0, which never comes and so never ends.
    Raises SourceError when nothing tells the end: llama.cpp would take some id of its own for it.
    """
    by_text = {token.text: i for i, token in enumerate(tokens)}
    named = _named(folder, settings, by_text)
    unnamed = "eos" not in named and END_OF_TEXT in by_text
    if unnamed:
        named = dict.fromkeys(("bos", "eos"), by_text[END_OF_TEXT]) | named
    files = ("generation_config.json", "config.json")
    configs = [read_json(folder / name) for name in files]
    found = {}
    for role in ROLES:
        ids = [named.get(role)]
        ids += [i for config in configs for i in _ids(config.get(f"{role}_token_id"))]
        ids += [base.special.get(role)]
        if sane := [i for i in ids if i is not None and 0 <= i < len(tokens)]:
            found[role] = sane[0]
    if "eos" not in found:
        raise _no_end(folder)
    ends = [i for i in _ids(configs[0].get("eos_token_id")) if i < len(tokens)]
    if other := [i for i in ends if i != found["eos"] and not (unnamed and i == 0)]:
        found["eot"] = other[0]  # a second token that ends a turn, such as Llama 3's <|eot_id|>
    return found


def _named(folder: Path, settings: Mapping[str, Any], by_text: Mapping[str, int]) -> dict[str, int]:
    """Ids of the roles that tokenizer_config.json names, or special_tokens_map.json."""
    older = read_json(folder / "special_tokens_map.json")
    texts = {role: _content(settings.get(f"{role}_token")) for role in ROLES}
    texts = {role: text or _content(older.get(f"{role}_token")) for role, text in texts.items()}
    return {role: by_text[text] for role, text in texts.items() if text in by_text}


def _no_end(folder: Path) -> SourceError:
    return SourceError(
        f"No file in {folder} says which token ends a text; "
        'add "eos_token" to its tokenizer_config.json.',
        f"{folder} 폴더의 어느 파일에도 글을 끝내는 토큰이 없습니다. "
        'tokenizer_config.json에 "eos_token"을 추가하세요.',
    )


def _content(entry: Any) -> Any:
    """A special token is written as its text, or as an object with its text."""
    return entry.get("content") if isinstance(entry, dict) else entry


def _ids(entry: Any) -> list[int]:
    """generation_config.json gives one id, or a list."""
    entries = entry if isinstance(entry, list) else [entry]
    return [i for i in entries if type(i) is int and i >= 0]


def added_at_the_ends(
    processor: Mapping[str, Any] | None, settings: Mapping[str, Any]
) -> dict[str, bool]:
    """Whether BOS and EOS are put around a text: as tokenizer.json does it, else as configured."""
    said = {role: settings.get(f"add_{role}_token") for role in ("bos", "eos")}
    found = {role: value for role, value in said.items() if isinstance(value, bool)}
    for step in (processor or {}).get("processors", [processor] if processor else []):
        if step.get("type") == "ByteLevel":
            found = {"bos": False, "eos": False} | found
        elif step.get("type") == "TemplateProcessing":
            single = step.get("single", [])
            found["bos"] = bool(single) and "SpecialToken" in single[0]
            found["eos"] = bool(single) and "SpecialToken" in single[-1]
    return found


def legacy(base: Base, settings: Mapping[str, Any]) -> bool:
    """`legacy` of transformers' LlamaTokenizer; true when absent, as there."""
    if base.model != "llama" or not base.space_prefix:
        return True
    said = settings.get("legacy")
    return base.space_after_control and (said is None or bool(said))


def chat_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """chat_template.jinja, else the entry of tokenizer_config.json: a text, or several by name.

    Raises SourceError for one that is longer than any template.
    """
    file = folder / "chat_template.jinja"
    if file.is_file():
        if file.stat().st_size > MAX_TEMPLATE_BYTES:
            raise _no_template(file)
        return file.read_text(encoding="utf-8")
    entry = settings.get("chat_template")
    if isinstance(entry, list):
        named = {e["name"]: e["template"] for e in entry}
        entry = named.get("default", next(iter(named.values()), None))
    if isinstance(entry, str) and len(entry) > MAX_TEMPLATE_BYTES:
        raise _no_template(folder / "tokenizer_config.json")
    return entry if isinstance(entry, str) else None


def _no_template(file: Path) -> SourceError:
    return SourceError(
        f"The chat template in {file} has more than {MAX_TEMPLATE_BYTES:,} bytes, so it is none; "
        "download the file again, or remove it and name a template with --template.",
        f"{file}의 대화 템플릿이 {MAX_TEMPLATE_BYTES:,}바이트가 넘어 템플릿으로 볼 수 없습니다. "
        "파일을 다시 내려받거나, 지우고 --template으로 지정하세요.",
    )
