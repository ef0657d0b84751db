"""What a conversion decided that is not plain from its source, and why: for the report.

The deciding itself is done in `vocab` and `pipeline`; here the outcome is looked up in the plan,
and the files of the source are asked which of them says the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from komt_convert.checkpoint import read_json
from komt_convert.metadata import Metadata
from komt_convert.planning import Wanted
from komt_convert.report import Decision

_PREFIX = "tokenizer.ggml."


def decisions(
    metadata: Metadata, tokenizer: Path, wanted: Wanted, *, template_given: bool
) -> tuple[Decision, ...]:
    """In the order in which a reader would ask; `tokenizer` is the folder or file that has it."""
    folder = tokenizer if tokenizer.is_dir() else None
    return (
        _pre_tokenizer(metadata),
        *_end_tokens(metadata, folder),
        _template(metadata, given=template_given),
        *said_types(wanted),
    )


def _pre_tokenizer(metadata: Metadata) -> Decision:
    kind, pre = metadata[_PREFIX + "model"].data, metadata[_PREFIX + "pre"].data
    if kind == "llama":
        return Decision(
            "pre-tokenizer",
            pre,
            "A SentencePiece vocabulary is read without one.",
            "SentencePiece 어휘에는 필요하지 않습니다.",
        )
    return Decision(
        "pre-tokenizer",
        pre,
        "llama.cpp knows the expressions of tokenizer.json under this name.",
        "tokenizer.json의 정규식을 llama.cpp에서는 이 이름으로 부릅니다.",
    )


def _end_tokens(metadata: Metadata, folder: Path | None) -> Iterator[Decision]:
    tokens = metadata[_PREFIX + "tokens"].data
    for what, role in (("end token", "eos"), ("end of turn", "eot")):
        found = metadata.get(f"{_PREFIX}{role}_token_id")
        if found is not None:
            text = tokens[found.data]
            shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
            en, ko = _who_says(folder, shown, found.data)
            yield Decision(what, f"{found.data} {shown}", en, ko)


def _who_says(folder: Path | None, text: str, i: int) -> tuple[str, str]:
    """The files that name the token; and those that name another."""
    if folder is None:
        return "The file's vocabulary has it.", "파일의 어휘에 있습니다."
    named = {name: _named(read_json(folder / name)) for name in _FILES}
    agree = [name for name, said in named.items() if said & {text, i}]
    other = [name for name, said in named.items() if said and not said & {text, i}]
    verb = "names" if len(agree) == 1 else "name"
    en = f"{' and '.join(agree)} {verb} it" if agree else "No file names it; it is the usual one"
    ko = f"{', '.join(agree)}에 있습니다" if agree else "적힌 곳이 없어 관례를 따랐습니다"
    if other:
        verb = "differs" if len(other) == 1 else "differ"
        return f"{en}; {' and '.join(other)} {verb}.", f"{ko}. {', '.join(other)}은(는) 다릅니다."
    return f"{en}.", f"{ko}."


_FILES = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "config.json",
)


def _named(content: Mapping[str, Any]) -> set[str | int]:
    """What a file says about the end: a text, or one or more ids."""
    text, ids = content.get("eos_token"), content.get("eos_token_id")
    text = text.get("content") if isinstance(text, dict) else text
    ids = ids if isinstance(ids, list) else [ids]
    return {said for said in (text, *ids) if isinstance(said, str | int)}


def _template(metadata: Metadata, *, given: bool) -> Decision:
    template = metadata.get("tokenizer.chat_template")
    if template is None:
        return Decision(
            "chat template",
            "",
            "The tokenizer carries none and none was given.",
            "토크나이저에 없고 지정하지도 않았습니다.",
        )
    if given:
        return Decision("chat template", template.data, "It was given.", "지정한 것입니다.")
    return Decision(
        "chat template",
        template.data,
        "The tokenizer's own.",
        "토크나이저에 든 것입니다.",
    )


def said_types(wanted: Wanted) -> Iterator[Decision]:
    """What the user said about types and what weighs on them."""
    for given in wanted.overrides:
        yield Decision(
            "tensor types",
            f"{given.pattern.pattern}={given.type.name}",
            "It was asked for.",
            "지정한 것입니다.",
        )
    if wanted.imatrix:
        yield Decision(
            "importance matrix",
            wanted.imatrix.path.name,
            f"It was given, and knows {len(wanted.imatrix.weights):,} tensors.",
            f"지정한 것이고, 텐서 {len(wanted.imatrix.weights):,}개를 압니다.",
        )
