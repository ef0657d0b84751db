"""What is on record of how a file was proven: OUT.report.json, which a conversion leaves beside it.

It is read, not repeated: `komt-local verify` does that.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from komt_convert.report import TensorErrors


@dataclass(frozen=True, slots=True)
class Source:
    """A file that was read; `sha256` is empty where knowing it would have cost a reading."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Proof:
    """What a conversion compared before it gave the file its name.

    `tokens_compared` token ids in `texts_compared` texts were those of the source's tokenizer;
    `n_tensors` tensors were held against the source. `sha256` and `out_bytes` are the file's own.
    """

    report: Path
    verified: bool
    n_tensors: int
    tokens_compared: int
    texts_compared: int
    errors: tuple[TensorErrors, ...]
    sources: tuple[Source, ...]
    sha256: str
    out_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self) | {"report": str(self.report)}


def report_path(model: Path) -> Path:
    """Where a conversion to `model` leaves its report."""
    from komt_convert import report

    return report.report_path(model)


def proof_of(model: Path, sha256: str = "") -> Proof | None:
    """What the report beside a file says; None without one, or when it is that of another file.

    It belongs to the file if the size is right, and the digest where the file's `sha256` is given.
    A report that cannot be read proves nothing, and counts as none.
    """
    path = report_path(model)
    try:
        proof = _proof(path, json.loads(path.read_text(encoding="utf-8")))
        is_its_own = proof.out_bytes == model.stat().st_size
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    known = (sha256, proof.sha256)
    return proof if is_its_own and (not all(known) or known[0] == known[1]) else None


def _proof(path: Path, told: dict[str, Any]) -> Proof:
    return Proof(
        report=path,
        verified=bool(told["verified"]),
        n_tensors=int(told["n_tensors"]),
        tokens_compared=int(told["tokens_compared"]),
        texts_compared=int(told.get("texts_compared", 0)),
        errors=tuple(_errors(each) for each in told["errors"]),
        sources=tuple(_source(each) for each in told.get("source_files", ())),
        sha256=str(told["sha256"] or ""),
        out_bytes=int(told["out_bytes"]),
    )


def _errors(told: dict[str, Any]) -> TensorErrors:
    from komt_convert.report import TensorErrors

    relative = float(told["relative"])
    return TensorErrors(str(told["type"]), int(told["n_tensors"]), relative, str(told["worst"]))


def _source(told: dict[str, Any]) -> Source:
    return Source(str(told["name"]), int(told["size"]), str(told.get("sha256") or ""))
