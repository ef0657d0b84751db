"""What a conversion says while it runs and when it is done: plain values, no printing."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from komt_convert.output import replacing

Stage = Literal["write", "verify"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stage is, in bytes: of the source while writing, of the file while verifying."""

    stage: Stage
    done: int
    total: int


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class TensorErrors:
    """The largest error among the tensors of one type.

    `relative` is the root mean square of the differences over that of the values.
    """

    type: str
    n_tensors: int
    relative: float
    worst: str


@dataclass(frozen=True, slots=True)
class TensorError:
    """How far one tensor is from its source; `relative` as in `TensorErrors`."""

    name: str
    type: str
    relative: float


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided, how, and why, in English and Korean."""

    what: str
    value: str
    en: str
    ko: str


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that was read, of "model", "adapter 1", ..., or "imatrix".

    `sha256` is None for a large file of a conversion that was not verified.
    """

    name: str
    size: int
    sha256: str | None
    part: str = "model"


@dataclass(frozen=True, slots=True)
class Report:
    """A finished conversion.

    `source_bytes` are those of the weight files, `bits_per_weight` counts the tensor data of the
    new file, `seconds` run from start to end, and `peak_memory_bytes` is the most that the process
    has had in memory at once, whatever it did before. `kernels` says of each quantized type whose
    code made its bytes, which are the same either way. Without verification, `tokens_compared` is
    0 and `errors` and `sha256` are empty. `warnings` are sentences, each in English and Korean.
    `worst` are the tensors that are farthest from their source.
    """

    out: Path
    file_type: str
    architecture: str
    n_tensors: int
    n_parameters: int
    source_bytes: int
    out_bytes: int
    bits_per_weight: float
    seconds: float
    peak_memory_bytes: int
    verified: bool
    tokens_compared: int
    has_chat_template: bool
    kernels: Mapping[str, Literal["numba", "ggml"]]
    errors: tuple[TensorErrors, ...]
    sha256: str
    warnings: tuple[tuple[str, str], ...]
    texts_compared: int = 0
    worst: tuple[TensorError, ...] = ()
    decisions: tuple[Decision, ...] = ()
    source_files: tuple[SourceFile, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON can say it."""
        return asdict(self) | {"out": str(self.out)}

    def save(self) -> Path:
        """Write it beside the file, as OUT.report.json; the path. Raises OutputError."""
        path = report_path(self.out)
        text = json.dumps(self.as_dict(), ensure_ascii=False, indent=2) + "\n"
        with replacing(path, force=True) as output:
            output.write_at(0, text.encode())
            output.commit()
        return path


def report_path(out: Path) -> Path:
    """Where the report of a file lies."""
    return out.with_name(out.name + ".report.json")


def peak_memory_bytes() -> int:
    """The most memory that this process has had at once, in bytes.

    Linux counts the memory of the program that started this one in `getrusage` (execve(2) keeps
    it), so its own account in /proc comes first.
    """
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        memory: Any = psutil.Process().memory_info()
        return int(memory.peak_wset)
    if match := re.search(r"VmHWM:\s+(\d+) kB", _own_status()):
        return int(match[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _own_status() -> str:
    status = Path("/proc/self/status")
    return status.read_text() if status.exists() else ""
