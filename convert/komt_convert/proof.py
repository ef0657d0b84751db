"""The proof, repeated: does a GGUF file that lies there say what a checkpoint says?

`verify_file` reads the file's own header for the types and the order of its tensors, maps the
source as a conversion does, and compares names, shapes, metadata, values and token ids with the
same code that a conversion ends with; with `logits`, what both compute as well. Values are compared
in samples; where the report of the conversion lies beside the file, the digests in it say the same
of every byte.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any

from komt_convert.digests import Digests, Input
from komt_convert.errors import SourceError, VerificationError
from komt_convert.gguf_file import Array, Header, check
from komt_convert.json_file import read_json
from komt_convert.logits import Distance, compare_logits
from komt_convert.metadata import Metadata, Value
from komt_convert.pipeline import available_processors, verify_tokens
from komt_convert.report import OnProgress, SourceFile, TensorErrors, report_path
from komt_convert.sources import Source, open_source
from komt_convert.verify import verify_tensors
from komt_convert.writer import Placed, Plan


@dataclass(frozen=True, slots=True)
class FileProof:
    """What was compared, and how far apart it is. `logits` only when they were asked for.

    `source_files` are those of the source as they are now. Of the report beside the file,
    `recorded` counts those whose digests are in it, and `changed` names small files, such as
    config.json, that were others then; both are empty without a report.
    """

    path: Path
    sha256: str
    n_tensors: int
    tokens_compared: int
    errors: tuple[TensorErrors, ...]
    logits: Distance | None = None
    source_files: tuple[SourceFile, ...] = ()
    recorded: int = 0
    changed: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON can say it."""
        return asdict(self) | {"path": str(self.path)}


def verify_file(
    path: str | os.PathLike[str],
    source: str | os.PathLike[str],
    *,
    adapters: Sequence[tuple[str | os.PathLike[str], float]] = (),
    base: str | os.PathLike[str] | None = None,
    logits: bool = False,
    threads: int | None = None,
    progress: OnProgress | None = None,
) -> FileProof:
    """Compare the GGUF file at `path` with `source`, which is what `convert` was given.

    `logits` compares the next-token distributions with those of transformers as well; that needs
    the whole source in memory as float32. Raises VerificationError at the first difference that is
    more than rounding, or for weight files that are not those in the report beside the file, and
    what `convert` raises.
    """
    path = Path(path)
    header = check(path)
    model = open_source(Path(source), adapters, base=None if base is None else Path(base))
    _compare_metadata(header, model)
    n_threads = available_processors() if threads is None else max(1, threads)
    layout = _layout(header, model)
    with Digests(model.files, threads=n_threads, lead=inf, named=False) as digests:
        proof = verify_tensors(path, layout, threads=n_threads, on_progress=progress)
        n_tokens = verify_tokens(path, model.vocabulary)
        files = digests.result()
    recorded, changed = _compare_digests(path, proof.sha256, model.files, files)
    distance = None
    if logits:
        plain = not adapters and base is None
        distance = compare_logits(path, model, plain=plain, threads=n_threads)
    return FileProof(
        path=path,
        sha256=proof.sha256,
        n_tensors=len(header.tensors),
        tokens_compared=n_tokens,
        errors=proof.errors,
        logits=distance,
        source_files=files,
        recorded=recorded,
        changed=changed,
    )


def _compare_digests(
    path: Path, sha256: str, inputs: Sequence[Input], files: Sequence[SourceFile]
) -> tuple[int, tuple[str, ...]]:
    """How many files are those of the report beside `path`, and which small ones are not.

    Raises VerificationError for weights that are not, and for `path` itself.
    """
    of_file, of_sources = _reported(path)
    if of_file and of_file != sha256:
        raise _replaced(path, path)
    same, changed = 0, []
    for read, found in zip(inputs, files, strict=True):
        said = of_sources.get((found.part, found.name))
        if said == found.sha256:
            same += 1
        elif said and read.is_weights:
            raise _replaced(read.path, path)
        elif said:
            changed.append(found.name)
    return same, tuple(changed)


def _reported(path: Path) -> tuple[str, dict[tuple[str, str], str]]:
    """The digest of the file, and those of its sources by part and name; none without a report."""
    try:
        report = read_json(report_path(path))
        sources = {(s.get("part", "model"), s["name"]): s["sha256"] for s in report["source_files"]}
        return report["sha256"], sources
    except (SourceError, AttributeError, KeyError, TypeError):
        return "", {}


def _layout(header: Header, source: Source) -> Plan:
    """The file as it is, with the tensors of the source in its places."""
    by_name = {tensor.name: tensor for tensor in source.tensors}
    found = {info.name for info in header.tensors}
    if missing := sorted(by_name.keys() - found):
        raise _differs(header, f"it lacks {missing[0]!r}", f"{missing[0]!r} 텐서가 없습니다")
    if extra := sorted(found - by_name.keys()):
        raise _differs(header, f"it also holds {extra[0]!r}", f"{extra[0]!r} 텐서가 더 있습니다")
    for info in header.tensors:
        expected = by_name[info.name].shape
        if info.shape[::-1] != expected:
            raise _differs(
                header,
                f"{info.name!r} is {list(info.shape[::-1])} and not {list(expected)}",
                f"{info.name!r} 모양이 {list(expected)} 대신 {list(info.shape[::-1])}입니다",
            )
    placed = tuple(Placed(by_name[info.name], info.type, info.offset) for info in header.tensors)
    with header.path.open("rb") as file:
        return Plan({}, file.read(header.data_offset), placed, header.size)


def _compare_metadata(header: Header, source: Source) -> None:
    """What the model computes and how it tokenizes; names, licences and templates may differ."""
    for key, value in _significant(source):
        found = header.metadata.get(key)
        if not _equal(found, value):
            shown = "nothing" if found is None else "another value"
            raise _differs(
                header, f"it has {shown} for {key}", f"{key} 값이 원본과 다르거나 없습니다"
            )


def _significant(source: Source) -> Iterator[tuple[str, Value]]:
    keys: Metadata = {**source.architecture, **source.vocabulary.metadata()}
    return ((key, value) for key, value in keys.items() if not key.startswith("komt."))


def _equal(found: Any, expected: Value) -> bool:
    if expected.element is None:
        return bool(_number(found) == _number(expected.data))
    if not isinstance(found, Array) or len(found) != len(expected.data):
        return False
    if isinstance(next(iter(expected.data), None), str | bytes):
        return found.raw() == [t.encode() if isinstance(t, str) else t for t in expected.data]
    return list(map(_number, found)) == list(map(_number, expected.data))


def _number(value: Any) -> Any:
    """A float as a file holds it, in 32 bits."""
    import numpy as np

    return float(np.float32(value)) if isinstance(value, float | np.floating) else value


def _replaced(changed: Path, path: Path) -> VerificationError:
    return VerificationError(
        f"{changed} is not the file that it was when {path} was made: its SHA-256 is another than "
        f"in {report_path(path).name}; take the original file, or convert again.",
        f"{changed}: {path} 파일을 만들 때와 다른 파일입니다. SHA-256이 "
        f"{report_path(path).name}의 값과 다릅니다. 원래 파일을 쓰거나 다시 변환하세요.",
    )


def _differs(header: Header, en: str, ko: str) -> VerificationError:
    return VerificationError(
        f"{header.path} is not this model: {en}; name the source that it was converted from, with "
        "its adapters, or convert again.",
        f"{header.path} 파일은 이 모델이 아닙니다. {ko}. 변환할 때 쓴 원본과 어댑터를 "
        "지정하거나 다시 변환하세요.",
    )
