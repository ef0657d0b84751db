"""tokenizer.json: a BPE of the `tokenizers` library, of one of the two kinds that llama.cpp knows.

- Like SentencePiece: spaces become ▁, unknown characters become byte tokens. llama.cpp merges by
  the score of the result, so a piece scores minus the rank of its merge.
- Byte-level, as in GPT-2: written with its merges and the name of its pre-tokenizer.

Whether a file is one of them is read from its parts, never from the name of a class or a model.
The format: https://huggingface.co/docs/tokenizers/api/models
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from komt_convert.checkpoint import read_json
from komt_convert.errors import SourceError, UnsupportedError
from komt_convert.vocab_pre import pre_tokenizer_name
from komt_convert.vocab_types import Added, Base, NormalForm, Token, TokenType

NORMAL_FORMS: Mapping[str, NormalForm]
NORMAL_FORMS = {"NFC": "NFC", "NFD": "NFD", "NFKC": "NFKC", "NFKD": "NFKD"}


def read_tokenizer_json(path: Path) -> Base:
    """The tokenizer in `path`.

    Raises SourceError for a damaged file and UnsupportedError, naming the part, for a tokenizer
    that llama.cpp cannot do.
    """
    settings = read_json(path)
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
    added = tuple(Added(a["id"], a["content"], a["special"]) for a in settings["added_tokens"])
    encode, form = _reference(path), _normal_form(settings)
    if not _is_sentencepiece_like(settings):
        tokens = [Token(text) for text in _by_id(model["vocab"], path)]
        pre, merges = pre_tokenizer_name(settings, path), tuple(map(" ".join, _merges(model)))
        return Base("gpt2", pre, tokens, encode, merges, added, normal_form=form)
    space_prefix, after_control, absorbs = _spaces(settings)
    return Base(
        model="llama",
        pre="default",
        tokens=list(_scored(model, path)),
        encode=encode,
        added=added,
        space_prefix=space_prefix,
        space_after_control=after_control,
        normal_form=form,
        absorbs_space=absorbs,
    )


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


def _reference(path: Path) -> Callable[[str], list[int]]:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise ValueError(str(error)) from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids)


def _unsupported(path: Path, en: str, ko: str) -> UnsupportedError:
    return UnsupportedError(
        f"{path} is a tokenizer with {en}, which llama.cpp cannot do; it is not supported.",
        f"{path} 토크나이저({ko})는 llama.cpp가 다루지 못해 지원하지 않습니다.",
    )
