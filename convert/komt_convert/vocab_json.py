"""tokenizer.json: a BPE of the `tokenizers` library, of one of the two kinds that llama.cpp knows.

- Like SentencePiece: spaces become ▁, unknown characters become byte tokens. llama.cpp merges by
  the score of the result, so a piece scores minus the rank of its merge.
- Byte-level, as in GPT-2: written with its merges and the name of its pre-tokenizer.

Whether a file is one of them is read from its parts, never from the name of a class or a model.
The format: https://huggingface.co/docs/tokenizers/api/models
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from komt_convert.errors import SourceError, UnsupportedError
from komt_convert.vocab_pre import pre_tokenizer_name
from komt_convert.vocab_types import Added, Base, NormalForm, Token, TokenType, looks_special

NORMAL_FORMS: Mapping[str, NormalForm]
NORMAL_FORMS = {"NFC": "NFC", "NFD": "NFD", "NFKC": "NFKC", "NFKD": "NFKD"}


def read_tokenizer_json(path: Path, settings: Mapping[str, Any]) -> Base:
    """The tokenizer in `path`, whose JSON is `settings`.

    Raises SourceError for a damaged file and UnsupportedError, naming the part, for a tokenizer
    that llama.cpp cannot do.
    """
    try:
        return _read(settings, path)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise SourceError(
            f"{path} is no tokenizer of the tokenizers library, or is damaged; download it again.",
            f"{path} 파일은 tokenizers 토크나이저가 아니거나 손상되었습니다. 다시 내려받으세요.",
        ) from None


def _read(settings: Mapping[str, Any], path: Path) -> Base:
    model = settings["model"]
    if model.get("type", "BPE") != "BPE":
        raise _unsupported(path, f"the model {model['type']}", f"{model['type']} 모델")
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise _unsupported(path, "prefixes or suffixes of subwords", "부분 단어 접두사·접미사")
    added = tuple(_added(entry) for entry in settings["added_tokens"])
    encode, parse = _references(settings, path)
    form, warnings = _normal_form(settings), tuple(_warnings(settings))
    if not _is_sentencepiece_like(settings):
        tokens = [Token(text) for text in _by_id(model["vocab"], path)]
        pre, refusal = _pre_tokenizer(settings, path)
        return Base(
            model="gpt2",
            pre=pre,
            tokens=tokens,
            encode=encode,
            parse=parse,
            merges=tuple(map(" ".join, _merges(model))),
            added=added,
            normal_form=form,
            warnings=warnings,
            refusal=refusal,
            ignore_merges=bool(model.get("ignore_merges")),
        )
    space_prefix, after_control, absorbs = _spaces(settings)
    return Base(
        model="llama",
        pre="default",
        tokens=list(_scored(model, path)),
        encode=encode,
        parse=parse,
        added=added,
        space_prefix=space_prefix,
        space_after_control=after_control,
        normal_form=form,
        absorbs_space=absorbs,
        warnings=warnings,
    )


def _pre_tokenizer(settings: Mapping[str, Any], path: Path) -> tuple[str, UnsupportedError | None]:
    try:
        return pre_tokenizer_name(settings, path), None
    except UnsupportedError as refusal:
        return "", refusal


def _added(entry: Mapping[str, Any]) -> Added:
    return Added(entry["id"], entry["content"], entry["special"] or looks_special(entry["content"]))


def _is_sentencepiece_like(settings: Mapping[str, Any]) -> bool:
    splitters = [step["type"] for step in steps(settings.get("pre_tokenizer"))]
    return bool(settings["model"].get("byte_fallback")) or "Metaspace" in splitters


def _spaces(settings: Mapping[str, Any]) -> tuple[bool, bool, bool]:
    """Whether a text gets a ▁ in front, also after a control token, only if it has no space there.

    A Metaspace puts ▁ in front of a text unless there is one; llama.cpp and Prepend do it always.
    """
    for step in steps(settings.get("pre_tokenizer")):
        if step["type"] == "Metaspace":
            default = "always" if step.get("add_prefix_space", True) else "never"
            scheme = step.get("prepend_scheme", default)
            return scheme != "never", scheme != "first", scheme != "never"
    return "Prepend" in (step["type"] for step in steps(settings.get("normalizer"))), True, False


def steps(part: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """The steps of a normalizer or pre-tokenizer, whether it is one or a sequence."""
    if part is None:
        return
    inner = part.get("normalizers", part.get("pretokenizers"))
    if part["type"] != "Sequence" or inner is None:
        yield part
        return
    for step in inner:
        yield from steps(step)


def _scored(model: Mapping[str, Any], path: Path) -> Iterator[Token]:
    """Pieces with minus the rank of their first merge as score; single characters need none."""
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(_merges(model)):
        ranks.setdefault(left + right, rank)
    byte_texts = {f"<0x{byte:02X}>" for byte in range(256)}
    texts = _by_id(model["vocab"], path)
    if not byte_texts.issubset(texts):
        raise _unsupported(path, "no byte fallback", "바이트 폴백 없음")
    for text in texts:
        if text == model.get("unk_token"):
            yield Token(text, TokenType.UNKNOWN)
        elif text in byte_texts:
            yield Token(text, TokenType.BYTE)
        else:
            yield Token(text, TokenType.NORMAL, -float(ranks.get(text, len(ranks))))


def _merges(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Pairs in rank order; written as "a b" until 2024, as ["a", "b"] since."""
    pairs = (m.split(" ") if isinstance(m, str) else m for m in model["merges"])
    return [(left, right) for left, right in pairs]


def _by_id(vocab: Mapping[str, int], path: Path) -> list[str]:
    """The texts in the order of their ids, which must be 0, 1, 2, …"""
    texts = sorted(vocab, key=lambda text: vocab[text])
    if [vocab[text] for text in texts] != list(range(len(texts))):
        raise _unsupported(path, "gaps between the ids", "비어 있는 토큰 번호")
    return texts


def _normal_form(settings: Mapping[str, Any]) -> NormalForm | None:
    types = [step["type"] for step in steps(settings.get("normalizer"))]
    return next((NORMAL_FORMS[type_] for type_ in types if type_ in NORMAL_FORMS), None)


def _references(
    settings: Mapping[str, Any], path: Path
) -> tuple[Callable[[str], list[int]], Callable[[str, Mapping[str, int]], list[int]]]:
    """The tokenizer with control tokens as text like any other, and with control tokens parsed.

    A token that is written into the file as a control token is one here as well, and is found
    wherever it stands.
    """
    changed = {**settings, "added_tokens": list(map(_as_control, settings["added_tokens"]))}
    raw = path.read_text(encoding="utf-8") if changed == settings else json.dumps(changed)
    tokenizer = _tokenizer(raw)

    def encode(text: str) -> list[int]:
        tokenizer.encode_special_tokens = True
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    def parse(text: str, control: Mapping[str, int]) -> list[int]:
        tokenizer.encode_special_tokens = False
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    return encode, parse


def _as_control(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    if _added(entry).special:
        return {**entry, "special": True, "normalized": False}
    return entry


def _warnings(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A `normalized` special token with a normalizer is found only where ▁ can go before it."""
    adds_space = any(step["type"] == "Prepend" for step in steps(settings.get("normalizer")))
    special = [entry for entry in settings["added_tokens"] if entry["special"]]
    hidden = [entry["content"] for entry in special if entry.get("normalized")]
    if hidden and adds_space:
        yield (
            f"This tokenizer.json finds {hidden[0]!r} only at the beginning of a text or after a "
            "space; here it is found everywhere, as templates mean it.",
            f"이 tokenizer.json은 {hidden[0]!r}을(를) 글머리나 공백 뒤에서만 찾지만, 여기서는 "
            "템플릿의 뜻대로 어디서나 찾습니다.",
        )


def _tokenizer(raw: str) -> Any:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(raw)
    except Exception as error:  # the library raises plain Exception
        raise ValueError(str(error)) from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _unsupported(path: Path, en: str, ko: str) -> UnsupportedError:
    return UnsupportedError(
        f"{path} is a tokenizer with {en}, which llama.cpp cannot do; it is not supported.",
        f"{path} 토크나이저({ko})는 llama.cpp가 다루지 못해 지원하지 않습니다.",
    )
