"""A conversion from its beginning to its end: open, map, plan, write, verify, report.

`convert` reads top to bottom; what each step does is in the module that it names. Nothing is
printed, and nothing is left behind when a step fails.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from komt_convert import arch, recipes
from komt_convert.card import describe
from komt_convert.checkpoint import Checkpoint, open_checkpoint
from komt_convert.corpus import corpus
from komt_convert.errors import SourceError
from komt_convert.ggml import QUANTIZATION_VERSION, Tokenizer
from komt_convert.gguf_file import parse_header
from komt_convert.gguf_rules import first_problem
from komt_convert.lora import merge
from komt_convert.metadata import Metadata, flag, text, u32
from komt_convert.output import refuse_full_disk, refuse_target, replacing
from komt_convert.report import OnProgress, Report, peak_memory_bytes
from komt_convert.tokens import compare_tokens
from komt_convert.verify import Proof, verify_tensors
from komt_convert.vocab import Vocabulary, read_vocabulary
from komt_convert.writer import Plan, plan, write

if TYPE_CHECKING:
    from komt_convert.arch.base import Architecture


def convert(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    quant: str = "Q4_K_M",
    adapters: Sequence[tuple[str | os.PathLike[str], float]] = (),
    chat_template: str | None = None,
    name: str | None = None,
    verify: bool = True,
    force: bool = False,
    threads: int | None = None,
    progress: OnProgress | None = None,
) -> Report:
    """Convert the checkpoint in the folder `source` to the GGUF file `out`.

    `quant` names a file type of `recipes.FILE_TYPES`. `adapters` are folders of LoRA adapters and
    how strongly each counts, 1.0 being as it was trained. `chat_template` is Jinja text, written in
    place of the tokenizer's own; `name` is written in place of what the model card says. `verify`
    compares samples of every tensor, and the token ids of a corpus, with the source; a file that
    fails never appears under its name. `force` replaces an existing `out`. `threads` defaults to
    the processors that this process may use. `progress` is called in the calling thread.

    Raises ConvertError: SourceError, OutputError, QuantizationError or VerificationError.
    """
    started = perf_counter()
    file_type, target = recipes.file_type(quant), Path(out)
    refuse_target(target, force=force)
    checkpoint = with_adapters(open_checkpoint(Path(source)), adapters)
    architecture = arch.lookup(checkpoint.config)
    vocabulary = read_vocabulary(checkpoint.folder, architecture.n_rows)
    layout = plan_file(checkpoint, architecture, vocabulary, file_type, chat_template, name)
    refuse_lethal(layout, checkpoint.folder)
    refuse_full_disk(target, layout.size)
    n_threads = available_processors() if threads is None else max(1, threads)
    with replacing(target, force=force) as output:
        write(layout, output, threads=n_threads, on_progress=progress)
        proof, n_tokens = Proof(), 0
        if verify:
            proof = verify_tensors(output.path, layout, threads=n_threads, on_progress=progress)
            n_tokens = verify_tokens(output.path, vocabulary)
        output.commit()
    return Report(
        out=target,
        file_type=file_type.name,
        architecture=layout.metadata["general.architecture"].data,
        n_tensors=len(layout.tensors),
        n_parameters=layout.n_parameters,
        source_bytes=checkpoint.size_bytes,
        out_bytes=layout.size,
        bits_per_weight=8 * layout.tensor_bytes / layout.n_parameters,
        seconds=perf_counter() - started,
        peak_memory_bytes=peak_memory_bytes(),
        verified=verify,
        tokens_compared=n_tokens,
        has_chat_template="tokenizer.chat_template" in layout.metadata,
        errors=proof.errors,
        sha256=proof.sha256,
        warnings=vocabulary.warnings,
    )


def with_adapters(
    checkpoint: Checkpoint, adapters: Sequence[tuple[str | os.PathLike[str], float]]
) -> Checkpoint:
    """The checkpoint with its adapters merged as its rows are read."""
    tensors = checkpoint.tensors
    for folder, scale in adapters:
        tensors = merge(tensors, Path(folder), scale)
    return replace(checkpoint, tensors=tensors)


def plan_file(
    checkpoint: Checkpoint,
    architecture: Architecture,
    vocabulary: Vocabulary,
    file_type: recipes.FileType,
    chat_template: str | None = None,
    name: str | None = None,
) -> Plan:
    """The layout of the file that a checkpoint becomes; no weight is read."""
    tensors = architecture.tensors(checkpoint)
    of_architecture = architecture.metadata(checkpoint)
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    types = recipes.choose_types(shapes, _model(of_architecture), file_type)
    template = vocabulary.chat_template if chat_template is None else chat_template
    metadata: Metadata = {
        **of_architecture,
        **describe(checkpoint.folder, sum(t.n_elements for t in tensors), name=name),
        "general.file_type": u32(file_type.number),
        "general.quantization_version": u32(QUANTIZATION_VERSION),
        **vocabulary.metadata(),
        "komt.tokenizer.legacy": flag(vocabulary.legacy),
    }
    if template:
        metadata["tokenizer.chat_template"] = text(template)
    return plan(metadata, tensors, types)


def refuse_lethal(layout: Plan, folder: Path) -> None:
    """Raises SourceError if llama.cpp would die of the planned file; nothing is written yet."""
    problem = first_problem(parse_header(layout.header, layout.size, folder))
    if problem is not None:
        raise SourceError(
            f"{folder} would make a file that aborts llama.cpp: {problem[0]}; "
            "repair the tokenizer files or config.json.",
            f"{folder} 폴더로 만든 파일은 llama.cpp를 중단시킵니다. {problem[1]}. "
            "토크나이저 파일이나 config.json을 고치세요.",
        )


def verify_tokens(path: Path, vocabulary: Vocabulary) -> int:
    """The number of token ids that are the same in the file and in its source."""
    with Tokenizer(path) as tokenizer:
        return compare_tokens(vocabulary, tokenizer, corpus())


def available_processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _model(metadata: Metadata) -> recipes.Model:
    name = metadata["general.architecture"].data

    def number(key: str) -> int:
        return int(metadata[f"{name}.{key}"].data)

    heads, kv_heads = number("attention.head_count"), number("attention.head_count_kv")
    return recipes.Model(name, number("block_count"), heads, kv_heads)
