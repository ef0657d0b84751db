"""The vocabulary of a checkpoint: its tokenizer files as GGUF metadata, and the reference for ids.

Where there is a tokenizer.model, it gives pieces, scores and types, and sentencepiece is the
reference; else, or where tokenizer.json has more tokens, tokenizer.json is both. Added tokens,
padding and special ids are put on top, as llama.cpp's own converter does. Whether the result
tokenizes alike is shown by `tokens`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from komt_convert.checkpoint import read_json
from komt_convert.errors import SourceError, UnsupportedError
from komt_convert.metadata import Metadata, f32s, flag, i32s, text, texts, u32
from komt_convert.vocab_json import read_tokenizer_json
from komt_convert.vocab_sentencepiece import read_sentencepiece
from komt_convert.vocab_special import added_at_the_ends, chat_template, legacy, special_ids
from komt_convert.vocab_types import Added, Base, NormalForm, Token, TokenType, looks_special

ROLES = {"bos": "bos", "eos": "eos", "eot": "eot", "unk": "unknown", "pad": "padding"}
"""Role → the name in `tokenizer.ggml.<name>_token_id`."""

PADDING_SCORE, ADDED_SCORE = -10000.0, -1000.0


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens by id, one for each row of the embedding, and how the source tokenizes.

    `encode` gives the ids of the source tokenizer: no BOS or EOS, special tokens not parsed; with
    `parse` they are (None where nobody knows how the source would do it).
    `special_tokens` are the control tokens by text. `legacy` is false for SentencePiece tokenizers
    that put no space after a control token. `warnings` are sentences (English, Korean) for the
    user. `normal_form` and `absorbs_space` are what `prepare` is about.
    """

    model: str
    pre: str
    tokens: tuple[Token, ...]
    merges: tuple[str, ...]
    special_ids: Mapping[str, int]
    add_bos: bool
    add_eos: bool
    space_prefix: bool
    chat_template: str | None
    legacy: bool
    warnings: tuple[tuple[str, str], ...]
    encode: Callable[[str], list[int]]
    normal_form: NormalForm | None
    absorbs_space: bool
    parse: Callable[[str], list[int]] | None = None

    def prepare(self, text: str) -> str:
        """What llama.cpp must be given for `text`, so that its ids are those of the source."""
        if self.normal_form:
            text = unicodedata.normalize(self.normal_form, text)
        return text[1:] if self.absorbs_space and text.startswith((" ", "▁")) else text

    @property
    def special_tokens(self) -> Mapping[str, int]:
        control = TokenType.CONTROL
        return {token.text: i for i, token in enumerate(self.tokens) if token.type is control}

    def metadata(self) -> Metadata:
        """The keys that llama.cpp's converter writes under `tokenizer.ggml.`, and two of ours."""
        prefix = "tokenizer.ggml."
        keys: Metadata = {
            prefix + "model": text(self.model),
            prefix + "pre": text(self.pre),
            prefix + "tokens": texts(token.text for token in self.tokens),
        }
        if self.model == "llama":
            keys[prefix + "scores"] = f32s([token.score for token in self.tokens])
        keys[prefix + "token_type"] = i32s([int(token.type) for token in self.tokens])
        if self.merges:
            keys[prefix + "merges"] = texts(self.merges)
        for role, i in self.special_ids.items():
            keys[f"{prefix}{ROLES[role]}_token_id"] = u32(i)
        keys[prefix + "add_bos_token"] = flag(self.add_bos)
        keys[prefix + "add_eos_token"] = flag(self.add_eos)
        if self.model == "llama":
            keys[prefix + "add_space_prefix"] = flag(self.space_prefix)
        if self.normal_form:
            keys["komt.tokenizer.normal_form"] = text(self.normal_form)
        if self.absorbs_space:
            keys["komt.tokenizer.absorbs_space"] = flag(True)
        return keys


def read_vocabulary(folder: Path, n_rows: int) -> Vocabulary:
    """The vocabulary of the checkpoint in `folder`, whose embedding has `n_rows` rows.

    Raises SourceError for tokenizer files that are missing, damaged or do not belong to the
    weights, and UnsupportedError for a tokenizer that llama.cpp cannot do.
    """
    try:
        return _read(folder, n_rows)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise SourceError(
            f"The tokenizer files in {folder} make no sense ({error!r}); download them again.",
            f"{folder} 폴더의 토크나이저 파일을 이해할 수 없습니다({error!r}). 다시 내려받으세요.",
        ) from error


def _read(folder: Path, n_rows: int) -> Vocabulary:
    settings = read_json(folder / "tokenizer_config.json")
    fast = read_json(folder / "tokenizer.json")
    base = _read_base(folder, settings, fast)
    tokens, warnings = _token_table(base, settings, n_rows)
    ends = added_at_the_ends(fast.get("post_processor"), settings)
    control = {token.text: i for i, token in enumerate(tokens) if token.type is TokenType.CONTROL}
    vocabulary = Vocabulary(
        model=base.model,
        pre=base.pre,
        tokens=tuple(tokens),
        merges=base.merges,
        special_ids=special_ids(folder, settings, base, tokens),
        add_bos=ends.get("bos", base.add_bos),
        add_eos=ends.get("eos", base.add_eos),
        space_prefix=base.space_prefix,
        chat_template=chat_template(folder, settings),
        legacy=legacy(base, settings),
        warnings=(*warnings, *base.warnings, *_peculiarities(base)),
        encode=base.encode,
        normal_form=base.normal_form,
        absorbs_space=base.absorbs_space,
        parse=lambda text: base.parse(text, control),
    )
    if base.refusal is None:
        return vocabulary
    from komt_convert.vocab_stand_in import stand_in

    return stand_in(vocabulary, base.refusal, ignore_merges=base.ignore_merges)


def _read_base(folder: Path, settings: Mapping[str, Any], fast: Mapping[str, Any]) -> Base:
    path = folder / "tokenizer.model"
    if path.is_file():
        listed = read_json(folder / "added_tokens.json")
        added = _added_tokens(listed, fast.get("added_tokens", []), settings)
        base = read_sentencepiece(
            path,
            added,
            space_prefix=settings.get("add_prefix_space"),
            legacy=settings.get("legacy") in (None, True),
        )
        if len(fast.get("model", {}).get("vocab", ())) <= len(base.tokens):
            return base  # else the vocabulary was extended, and this is what it was before
    if fast:
        return read_tokenizer_json(folder / "tokenizer.json", fast)
    raise SourceError(
        f"{folder} has neither tokenizer.model nor tokenizer.json; copy the tokenizer of the model "
        "there, saved with save_pretrained().",
        f"{folder} 폴더에 tokenizer.model도 tokenizer.json도 없습니다. 모델의 토크나이저를 "
        "save_pretrained()로 저장해 넣으세요.",
    )


# --- tokens by id --------------------------------------------------------------------------------


def _added_tokens(
    listed: Mapping[str, int], fast: Iterable[Mapping[str, Any]], settings: Mapping[str, Any]
) -> Iterator[Added]:
    """Of added_tokens.json, tokenizer.json and tokenizer_config.json; the later knows better."""
    described: dict[int, Mapping[str, Any]] = {
        **{int(i): {"content": token} for token, i in listed.items()},
        **{int(entry["id"]): entry for entry in fast},
        **{int(i): entry for i, entry in settings.get("added_tokens_decoder", {}).items()},
    }
    for i, entry in described.items():
        token = entry["content"]
        yield Added(i, token, bool(entry.get("special")) or looks_special(token))


def _token_table(
    base: Base, settings: Mapping[str, Any], n_rows: int
) -> tuple[list[Token], list[tuple[str, str]]]:
    """A token for each row: those of the tokenizer, added ones, and padding in the gaps."""
    if len(base.tokens) > n_rows:
        raise SourceError(
            f"The tokenizer has {len(base.tokens):,} tokens and the embedding {n_rows:,} rows; "
            "the tokenizer files and the weights must be of one model.",
            f"토크나이저 토큰은 {len(base.tokens):,}개인데 임베딩은 {n_rows:,}행입니다. "
            "토크나이저와 가중치가 같은 모델이어야 합니다.",
        )
    padding = (Token(f"[PAD{i}]", TokenType.UNUSED, PADDING_SCORE) for i in range(n_rows))
    tokens = base.tokens + list(padding)[len(base.tokens) :]
    warnings = []
    for added in base.added or _added_tokens({}, (), settings):
        if not 0 <= added.id < n_rows:
            warnings.append(_out_of_range(added, n_rows))
            continue
        tokens[added.id] = _added_token(added, tokens[added.id])
    _refuse_equal_texts(tokens)
    return tokens, warnings


def _added_token(added: Added, before: Token) -> Token:
    if before.type is TokenType.UNKNOWN:
        return before
    if added.special or looks_special(added.text):
        return Token(added.text, TokenType.CONTROL, ADDED_SCORE)
    # llama.cpp looks for these in the text before it turns spaces into ▁
    return Token(added.text.replace("▁", " "), TokenType.USER_DEFINED, ADDED_SCORE)


def _out_of_range(added: Added, n_rows: int) -> tuple[str, str]:
    return (
        f"The added token {added.text!r} ({added.id}) is left out: the embedding has {n_rows:,} "
        "rows.",
        f"추가 토큰 {added.text!r}({added.id})은 뺐습니다. 임베딩이 {n_rows:,}행입니다.",
    )


def _peculiarities(base: Base) -> Iterator[tuple[str, str]]:
    if base.normal_form:
        yield (
            f"The source tokenizer brings text into the Unicode form {base.normal_form} and "
            "llama.cpp does not; programs should do so (keyboards write NFC).",
            f"원본 토크나이저는 글을 유니코드 {base.normal_form}로 바꾸지만 llama.cpp는 바꾸지 "
            "않습니다. 프로그램이 바꿔 주어야 합니다(키보드 입력은 NFC입니다).",
        )
    if base.absorbs_space:
        yield (
            "For a text that begins with a space, llama.cpp gives one space more than the source "
            "tokenizer.",
            "공백으로 시작하는 글에서 llama.cpp는 원본 토크나이저보다 공백을 하나 더 넣습니다.",
        )


def _refuse_equal_texts(tokens: list[Token]) -> None:
    """llama.cpp aborts the whole process when two tokens have one text."""
    seen: dict[str, int] = {}
    for i, token in enumerate(tokens):
        token.text.encode()  # half a surrogate pair is no text
        if (first := seen.setdefault(token.text, i)) != i:
            raise UnsupportedError(
                f"The tokens {first} and {i} are both {token.text!r}, and llama.cpp cannot load "
                "such a vocabulary; remove one from the tokenizer files.",
                f"{first}번과 {i}번 토큰이 모두 {token.text!r}이라 llama.cpp가 읽지 못합니다. "
                "토크나이저 파일에서 하나를 지우세요.",
            )
