"""What `komt-local show` knows of a model without running it, as rows for people and as JSON.

It gathers and words; what the file says comes from the library, the arithmetic from `hardware`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import hardware, library
from ..language import say
from .output import size
from .sizes import need_as_dict

if TYPE_CHECKING:
    from komt_convert.gguf_file import Header

    from ..library import Facts, Proof

_CONTEXTS = (2048, 4096, 8192)
_READ_AT_ONCE = 64 << 20
"""Bytes of a file whose digest is taken unasked: about a tenth of a second."""
_LONGEST_TEXT = 100
_SHOWN_ITEMS = 8

Row = tuple[str, list[str]]


@dataclass(frozen=True, slots=True)
class Shown:
    """A model file as `show` tells it: `memory` by context; texts are empty where unknown."""

    header: Header
    facts: Facts
    licence: str
    restrictions: tuple[str, str]
    repository: str
    revision: str
    sha256: str
    proof: Proof | None
    memory: dict[int, hardware.Need]

    def as_dict(self) -> dict[str, Any]:
        memory = [{"context": n} | need_as_dict(need) for n, need in self.memory.items()]
        return self.facts.as_dict() | {
            "licence": self.licence,
            "restrictions": self.restrictions[0],
            "repository": self.repository,
            "revision": self.revision,
            "sha256": self.sha256 or None,
            "proof": self.proof.as_dict() if self.proof else None,
            "memory": memory,
            "available_memory_bytes": hardware.available_memory(),
            "metadata": {key: _plain(value) for key, value in self.header.metadata.items()},
        }


def look(path: Path, *, digest: bool) -> Shown:
    """Gather it; with `digest`, the file is read where its SHA-256 is not known."""
    header = library.read_header(path)
    facts = library.facts_of(header)
    model = library.model_for(path, facts.identity)
    origin = library.origin(path)
    sha256 = _digest(path, header.size, asked=digest)
    proof = library.proof_of(path, sha256)
    return Shown(
        header=header,
        facts=facts,
        licence=facts.licence or origin.licence or (model.licence if model else ""),
        restrictions=(model.restrictions, model.restrictions_ko) if model else ("", ""),
        repository=origin.repo,
        revision=origin.revision,
        sha256=sha256 or (proof.sha256 if proof else ""),
        proof=proof,
        memory=_memory(header),
    )


def _digest(path: Path, n_bytes: int, *, asked: bool) -> str:
    """The SHA-256 if it is known, or was asked for, or costs nothing to know; else empty."""
    from .bars import bars

    if known := library.known_fingerprint(path):
        return known
    if not asked and n_bytes > _READ_AT_ONCE:
        return ""
    with bars(hidden=not asked) as step:
        return library.fingerprint(path, lambda done, total: step("check", path.name, done, total))


def _memory(header: Header) -> dict[int, hardware.Need]:
    """By context: what the model takes with the usual sizes up to the trained one, and with that.

    As `chat` and `run` load it on a machine without a GPU: one answer at a time, keys and values
    in 16 bits.
    """
    from ..model.sizes import size_of

    found = size_of(header)
    trained = found.n_ctx_train or max(_CONTEXTS)
    contexts = sorted({n for n in _CONTEXTS if n < trained} | {trained})
    demand = hardware.Demand()
    return {n: hardware.need(found.shape, found.total, n, demand) for n in contexts}


# --- for people ----------------------------------------------------------------------------------


def rows(shown: Shown) -> list[Row]:
    """What there is to say, by name."""
    facts = shown.facts
    context = f"{facts.n_ctx_train:,} {say('tokens', '토큰')}" if facts.n_ctx_train else "-"
    return [
        (say("file", "파일"), [str(facts.path)]),
        (say("name", "이름"), [facts.name]),
        (say("architecture", "구조"), [facts.architecture]),
        (say("parameters", "매개변수"), [f"{facts.n_parameters:,}"]),
        (say("type", "양자화"), [facts.file_type]),
        (say("size", "크기"), [size(facts.size_bytes)]),
        (say("context", "컨텍스트"), [context]),
        (say("tokenizer", "토크나이저"), [_tokenizer(facts)]),
        (say("memory", "메모리"), list(_memory_lines(shown.memory))),
        (say("author", "만든 이"), [facts.author or "-"]),
        (say("licence", "라이선스"), [_licence(shown)]),
        (say("source", "출처"), [_source(shown)]),
        ("SHA-256", [shown.sha256 or _no_digest()]),
        (say("proof", "증명"), list(_proof_lines(shown))),
    ]


def _tokenizer(facts: Facts) -> str:
    ends = [
        f"{name} {token}"
        for name, token in ((say("begin", "시작"), facts.bos), (say("end", "끝"), facts.eos))
        if token
    ]
    return ", ".join([facts.tokenizer, f"{facts.n_tokens:,} {say('tokens', '토큰')}", *ends])


def _memory_lines(memory: dict[int, hardware.Need]) -> Iterator[str]:
    available = hardware.available_memory()
    for n_ctx, need in memory.items():
        parts = say(
            f"{size(need.weights)} weights, {size(need.kv_cache)} KV cache, "
            f"{size(need.compute)} buffers, {size(hardware.RESERVE)} program",
            f"가중치 {size(need.weights)}, KV 캐시 {size(need.kv_cache)}, "
            f"버퍼 {size(need.compute)}, 프로그램 {size(hardware.RESERVE)}",
        )
        large = say("; too large here", ", 이 컴퓨터에는 너무 큼")
        line = say(
            f"{size(need.total)} with a context of {n_ctx:,} ({parts})",
            f"컨텍스트 {n_ctx:,}: {size(need.total)} ({parts})",
        )
        yield line + (large if need.total > available else "")


def _licence(shown: Shown) -> str:
    limits = say(*shown.restrictions)
    return f"{shown.licence or '-'}{f' ({limits})' if limits else ''}"


def _source(shown: Shown) -> str:
    where = shown.repository + (f"@{shown.revision[:12]}" if shown.revision else "")
    return where or shown.facts.source or "-"


def _no_digest() -> str:
    return say(
        "not known; --digest reads the file for it",
        "알려지지 않음. --digest를 주면 파일을 읽어 계산합니다",
    )


def _proof_lines(shown: Shown) -> Iterator[str]:
    proof = shown.proof
    if proof is None:
        yield _no_proof(shown.facts.path)
        return
    if not proof.verified:
        yield say(
            "none: it was converted with --no-verify", "없음: --no-verify로 변환한 파일입니다"
        )
    else:
        yield say(
            f"{proof.n_tensors} tensors held against the source; {proof.tokens_compared:,} token "
            f"ids in {proof.texts_compared:,} texts equal its tokenizer's",
            f"텐서 {proof.n_tensors}개를 원본과 견줌, 글 {proof.texts_compared:,}개의 토큰 "
            f"{proof.tokens_compared:,}개가 원본 토크나이저와 같음",
        )
    for error in proof.errors:
        yield say(
            f"{error.n_tensors} tensors of {error.type}: largest error {error.relative:.2%} "
            f"({error.worst})",
            f"{error.type} 텐서 {error.n_tensors}개: 가장 큰 오차 {error.relative:.2%}"
            f"({error.worst})",
        )
    for source in proof.sources:
        digest = f", SHA-256 {source.sha256[:12]}…" if source.sha256 else ""
        yield f"{say('from', '원본')} {source.name} ({size(source.size)}{digest})"


def _no_proof(path: Path) -> str:
    from ..library.proofs import report_path

    if report_path(path).exists():
        return say(
            f"none: {report_path(path).name} is not the report of this file",
            f"없음: {report_path(path).name}은 이 파일의 보고서가 아닙니다",
        )
    return say(
        "none: there is no report of a conversion beside it; `komt-local verify MODEL --against "
        "SOURCE` proves it",
        "없음: 파일 옆에 변환 보고서가 없습니다. `komt-local verify MODEL --against 원본`으로 "
        "증명할 수 있습니다",
    )


# --- metadata ------------------------------------------------------------------------------------


def metadata_lines(header: Header) -> Iterator[str]:
    """Every key with its value, of long ones the beginning."""
    for key, value in header.metadata.items():
        yield f"  {key} = {_short(value)}"


def _short(value: Any) -> str:
    if isinstance(value, str):
        cut = f"… ({len(value):,})" if len(value) > _LONGEST_TEXT else ""
        return json.dumps(value[:_LONGEST_TEXT], ensure_ascii=False) + cut
    if isinstance(value, bool | int):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    told = _plain(value)
    if isinstance(told, list):
        return f"[{', '.join(map(_short, told))}]"
    return f"[{told['type']} × {told['length']:,}]"


def _plain(value: Any) -> Any:
    """A value as JSON has it: a short array as a list, of a long one its type and length."""
    if isinstance(value, str | bool | int | float):
        return value
    if len(value) <= _SHOWN_ITEMS:
        return list(value)
    return {"type": value.element.name.lower(), "length": len(value)}
