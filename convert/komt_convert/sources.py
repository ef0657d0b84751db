"""What a conversion starts from, whatever it is on disk: tensors under GGUF names, and a tokenizer.

A folder is a checkpoint, with adapters merged as its rows are read. A file is recognised by its
first bytes, never by its name: of 2023, `ggml_legacy` reads it; anything else is refused with what
to do instead. No value of a tensor is read here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from komt_convert import arch
from komt_convert.card import called, describe
from komt_convert.checkpoint import Checkpoint, open_checkpoint
from komt_convert.digests import Input
from komt_convert.errors import SourceError, UnsupportedError
from komt_convert.lora import merge_into
from komt_convert.lora_file import is_adapter, read_adapter
from komt_convert.metadata import Metadata
from komt_convert.tensors import Tensor
from komt_convert.vocab import Vocabulary, read_vocabulary

if TYPE_CHECKING:
    from komt_convert.recipes import FileType

Adapters = Sequence[tuple[str | os.PathLike[str], float]]
"""Folders of LoRA adapters, and how strongly each counts."""


@dataclass(frozen=True, slots=True)
class Source:
    """A model that can be written as GGUF.

    `architecture` and `card` are metadata: what the model computes, and who made it. `kept` is the
    file type of a source whose tensors are quantized already and stay as they are. `files` are
    all that were read; `tokenizer` is the folder or the file that has it.
    """

    path: Path
    tensors: tuple[Tensor, ...]
    architecture: Metadata
    vocabulary: Vocabulary
    card: Metadata
    size_bytes: int
    files: tuple[Input, ...]
    tokenizer: Path
    kept: FileType | None = None


def open_source(
    path: Path, adapters: Adapters = (), *, base: Path | None = None, name: str | None = None
) -> Source:
    """The model at `path`; `name` overrules what its card says.

    An adapter counts as its base model with it merged: `base`, or the folder that it names.
    Raises SourceError.
    """
    if path.is_file():
        return _open_file(path, adapters, name)
    model = path
    if is_adapter(path):
        model, adapters = base_of(path, base), [(path, 1.0), *adapters]
        name = name or called(path)
    elif base is not None:
        raise SourceError(
            f"{path} is no adapter, so it has no base model; leave --base out.",
            f"{path} 폴더는 어댑터가 아니라 기반 모델이 없습니다. --base를 빼세요.",
        )
    checkpoint = with_adapters(open_checkpoint(model), adapters)
    architecture = arch.lookup(checkpoint.config)
    vocabulary = read_vocabulary(checkpoint.tokenizer, architecture.n_rows)
    tensors = tuple(architecture.tensors(checkpoint))
    return Source(
        path=path,
        tensors=tensors,
        architecture=architecture.metadata(checkpoint),
        vocabulary=vocabulary,
        card=describe(checkpoint.folder, sum(t.n_elements for t in tensors), name=name),
        size_bytes=checkpoint.size_bytes,
        files=checkpoint.files,
        tokenizer=checkpoint.tokenizer,
    )


def with_adapters(checkpoint: Checkpoint, adapters: Adapters) -> Checkpoint:
    """The checkpoint with its adapters merged as its rows are read."""
    for folder, scale in adapters:
        checkpoint = merge_into(checkpoint, read_adapter(Path(folder)), scale)
    return checkpoint


def base_of(folder: Path, given: Path | None = None) -> Path:
    """The folder of the model that an adapter was trained on: the one given, or the one it names.

    A name on the Hugging Face hub counts as a folder of that name beside the adapter.
    """
    if given is not None:
        return given
    named = read_adapter(folder).base
    for place in (Path(named), folder / named, folder.resolve().parent / Path(named).name):
        if named and os.path.isfile(place / "config.json"):  # Path raises for an endless name
            return place
    what, ko = (repr(named[:200]),) * 2 if named else ("a model that it does not name", "이름 모를")
    raise SourceError(
        f"{folder} is an adapter for {what}, which is not here; give its folder with --base.",
        f"{folder} 폴더는 {ko} 모델의 어댑터인데 그 모델이 여기 없습니다. "
        "--base로 폴더를 지정하세요.",
    )


def _open_file(path: Path, adapters: Adapters, name: str | None) -> Source:
    from komt_convert.ggml_legacy import MAGICS
    from komt_convert.ggml_model import open_legacy

    with path.open("rb") as file:
        magic = file.read(4)
    if magic == b"GGUF":
        raise UnsupportedError(
            f"{path} is a GGUF file already; give it another type with: komt-local quantize",
            f"{path}: 이미 GGUF 파일입니다. 타입을 바꾸려면 komt-local quantize를 쓰세요.",
        )
    if magic not in MAGICS:
        raise SourceError(
            f"{path} is a file, but no GGML file of 2023; give the folder that holds the "
            "checkpoint's config.json.",
            f"{path}: 2023년의 GGML 파일이 아닙니다. 체크포인트의 config.json이 있는 폴더를 "
            "지정하세요.",
        )
    if adapters:
        raise UnsupportedError(
            f"Adapters are merged into checkpoints only, and {path} is a GGML file; "
            "give the folder of the original checkpoint.",
            f"{path}: GGML 파일에는 어댑터를 합칠 수 없습니다. 원본 체크포인트의 폴더를 "
            "지정하세요.",
        )
    return open_legacy(path, name=name)
