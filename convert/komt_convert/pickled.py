"""pytorch_model.bin and adapter_model.bin: what `torch.save` writes, read without running it.

Such a file is a zip archive of a pickle, which says what tensors there are, and of their values as
they lie in memory. torch reads the pickle with `weights_only=True`, which builds tensors and plain
containers and refuses everything else; the values stay where they are and are read by rows, like
those of safetensors, so that a file larger than the memory is no problem.
https://docs.pytorch.org/docs/stable/notes/serialization.html
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

from komt_convert.errors import SourceError, UnsupportedError
from komt_convert.tensors import Tensor, stored_tensor

DTYPES = {
    "bfloat16": "BF16",
    "bool": "BOOL",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "int8": "I8",
    "uint8": "U8",
}
"""torch's names of dtypes → those of safetensors."""

MAX_PICKLE_BYTES = 100_000_000
"""The limit of a safetensors header; a pickle of 10,000 tensors has about one million bytes."""


def read_pickled(path: Path) -> dict[str, Tensor]:
    """The tensors of one file of `torch.save`, by name; none of their values is read.

    Raises SourceError for a file that is damaged, and UnsupportedError for one that holds code or
    anything else than tensors by name, that is older than torch 1.6, or when torch is missing.
    """
    records = _records(path)
    state = _load(path)
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise _unsupported(path, "holds no tensors by name", "이름 있는 텐서가 없습니다")
    return {name: _tensor(path, name, value, records) for name, value in state.items()}


# --- the archive ---------------------------------------------------------------------------------


def _records(path: Path) -> dict[int, int]:
    """Offset in the file → bytes, of everything in the archive that holds values."""
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            entries = archive.infolist()
            _check(path, archive, entries)
            return {_data_start(file, entry): entry.file_size for entry in entries}
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError):
        raise _no_archive(path) from None


def _check(path: Path, archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo]) -> None:
    """torch stores, never compresses; and it numbers the storages in the order of the file."""
    for entry in entries:
        is_pickle = entry.filename.endswith("data.pkl")
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise _damaged(path, "its archive is compressed", "압축되어 있습니다")
        if is_pickle and entry.file_size > MAX_PICKLE_BYTES:
            raise _damaged(path, "its pickle is too large", "피클이 너무 큽니다")
        if entry.filename.endswith("/byteorder") and archive.read(entry) != b"little":
            raise _unsupported(path, "is big-endian", "빅 엔디언입니다")
    entries.sort(key=lambda entry: entry.header_offset)
    numbers = [re.search(r"/data/(\d+)$", entry.filename) for entry in entries]
    order = [int(match[1]) for match in numbers if match]
    if order != sorted(set(order)):
        raise _damaged(path, "its values are out of order", "값의 순서가 맞지 않습니다")


def _data_start(file: Any, entry: zipfile.ZipInfo) -> int:
    """Behind the local header, whose name and padding have lengths of their own."""
    file.seek(entry.header_offset + 26)
    lengths = file.read(4)
    name, padding = (int.from_bytes(lengths[i : i + 2], "little") for i in (0, 2))
    return int(entry.header_offset) + 30 + name + padding


def _no_archive(path: Path) -> SourceError:
    with path.open("rb") as file:
        start = file.read(2)
    if start[:1] == b"\x80":  # a bare pickle
        return _unsupported(
            path, "was saved as torch before 1.6 did", "torch 1.6 이전 형식으로 저장되었습니다"
        )
    return _damaged(path, "it is no file of torch.save", "torch.save로 만든 파일이 아닙니다")


# --- the pickle ----------------------------------------------------------------------------------


def _load(path: Path) -> Any:
    """The pickled object, with tensors that have shapes and offsets but no values.

    `mmap=True` would have torch ask for as much memory as the file has bytes, which the system
    refuses for a file that is larger than the machine's.
    """
    torch = _torch(path)
    try:
        with shapes_alone(torch):
            return torch.load(path, map_location="meta", mmap=False, weights_only=True)
    except Exception as error:  # a pickle of anyone's making fails in any way
        if found := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise _code(path, found[1]) from None
        raise _damaged(path, "its pickle makes no sense", "피클을 이해할 수 없습니다") from None


def shapes_alone(torch: ModuleType) -> AbstractContextManager[object]:
    """Where `torch.load` to "meta" reads no values.

    torch 2.13 does not in any case; 2.7 only in the mode that computes with shapes alone, which
    takes a second to import.
    """
    if hasattr(torch.serialization, "_is_meta_location"):
        return nullcontext()
    return fake_tensors()


def fake_tensors() -> AbstractContextManager[object]:
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode: AbstractContextManager[object] = FakeTensorMode()
    return mode


def _torch(path: Path) -> ModuleType:
    try:
        import torch
    except ImportError:
        raise UnsupportedError(
            f"{path} can be read with torch only, which is not installed; "
            "install it with: pip install 'komt-local[convert]'",
            f"{path} 파일을 읽으려면 torch가 필요한데 설치되어 있지 않습니다. "
            "다음으로 설치하세요: pip install 'komt-local[convert]'",
        ) from None
    return torch  # type: ignore[no-any-return]


def _tensor(path: Path, name: str, value: Any, records: Mapping[int, int]) -> Tensor:
    import torch

    if not isinstance(value, torch.Tensor):
        kind = type(value).__name__
        raise _unsupported(path, f"holds {kind} {name!r}", f"{name!r}이(가) {kind}입니다")
    if value.layout is not torch.strided or not value.is_contiguous():
        raise _unsupported(
            path,
            f"holds {name!r}, whose values do not lie row by row",
            f"{name!r} 값이 행 순서로 놓여 있지 않습니다",
        )
    dtype = str(value.dtype).removeprefix("torch.")
    dtype, shape = DTYPES.get(dtype, dtype), tuple(value.shape)
    storage = value.untyped_storage()
    start: int = getattr(storage, "_checkpoint_offset", -1)  # since torch 2.7
    before = value.storage_offset() * value.element_size()
    if start not in records:
        raise _damaged(path, f"{name!r} has no place", f"{name!r} 값의 위치가 없습니다")
    if before + value.numel() * value.element_size() > records[start]:
        raise _damaged(path, f"{name!r} is cut short", f"{name!r} 값이 잘려 있습니다")
    return stored_tensor(path, name, dtype, shape, start + before)


# --- errors --------------------------------------------------------------------------------------


def _code(path: Path, function: str) -> UnsupportedError:
    return UnsupportedError(
        f"{path} asks for {function} to be run, and nothing in a checkpoint is run here; "
        "get the model from a place that you trust, as safetensors.",
        f"{path} 파일이 {function} 실행을 요구하지만, 체크포인트의 코드는 실행하지 않습니다. "
        "믿을 수 있는 곳에서 safetensors로 받으세요.",
    )


def _unsupported(path: Path, en: str, ko: str) -> UnsupportedError:
    return UnsupportedError(
        f"{path} {en}; load the model with transformers and save it again with save_pretrained().",
        f"{path}: {ko}. transformers로 불러와 save_pretrained()로 다시 저장하세요.",
    )


def _damaged(path: Path, en: str, ko: str) -> SourceError:
    return SourceError(
        f"{path} is damaged: {en}; download or copy it again.",
        f"{path} 파일이 손상되었습니다: {ko}. 다시 내려받거나 복사하세요.",
    )
