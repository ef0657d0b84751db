"""A conversion from its beginning to its end: open, map, plan, write, verify, report.

`convert` reads top to bottom; what each step does is in the module that it names. Nothing is
printed, and nothing is left behind when a step fails.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from komt_convert import kernels
from komt_convert.corpus import corpus, mixed
from komt_convert.decisions import decisions
from komt_convert.digests import Digests
from komt_convert.errors import SourceError, TokenizerMismatch
from komt_convert.ggml import Tokenizer
from komt_convert.gguf_file import parse_header
from komt_convert.gguf_rules import first_problem
from komt_convert.metadata import Metadata, flag, text, u32
from komt_convert.output import refuse_full_disk, refuse_target, replacing
from komt_convert.planning import Wanted, plan_tensors, want
from komt_convert.report import OnProgress, Report, peak_memory_bytes, report_path
from komt_convert.sources import Source, open_source
from komt_convert.tokens import compare_tokens
from komt_convert.verify import Proof, verify_tensors
from komt_convert.vocab import Vocabulary
from komt_convert.writer import Plan, encode_header, write


def convert(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    quant: str = "Q4_K_M",
    adapters: Sequence[tuple[str | os.PathLike[str], float]] = (),
    base: str | os.PathLike[str] | None = None,
    chat_template: str | None = None,
    name: str | None = None,
    tensor_types: Sequence[str] = (),
    imatrix: str | os.PathLike[str] | None = None,
    verify: bool = True,
    allow_token_mismatch: bool = False,
    force: bool = False,
    save_report: bool = False,
    threads: int | None = None,
    progress: OnProgress | None = None,
) -> Report:
    """Convert the checkpoint in the folder `source` to the GGUF file `out`.

    `quant` names one of `file_types.FILE_TYPES`. `adapters` are folders of LoRA adapters and
    how strongly each counts, 1.0 being as it was trained. `source` may be an adapter, too: `base`
    is then the folder of its base model, else the one that it names. `chat_template` is Jinja text,
    written in place of the tokenizer's own; `name` in place of what the model card says.
    `tensor_types` are PATTERN=TYPE, such as "attn_v=Q8_0": tensors whose names have the pattern get
    that type, the first one counts. `imatrix` is a file of llama-imatrix, which some types need.
    `verify` compares samples of every tensor, and the token ids of a corpus, with the source, and
    takes the digests of all files; a file that fails never appears under its name.
    `allow_token_mismatch` goes on where an id differs, and says so in the report's warnings.
    `force` replaces an existing `out`. `save_report` writes the report beside it. `threads`
    defaults to the processors that this process may use. `progress` is called in the calling
    thread.

    Raises ConvertError: SourceError, OutputError, QuantizationError or VerificationError.
    """
    started = perf_counter()
    wanted, target = want(quant, tensor_types, imatrix), Path(out)
    refuse_target(target, force=force)
    refuse_target(report_path(target), force=True)
    model = open_source(
        Path(source), adapters, base=None if base is None else Path(base), name=name
    )
    layout = plan_file(model, wanted, chat_template)
    refuse_lethal(layout, model.path)
    refuse_full_disk(target, layout.size)
    n_threads = available_processors() if threads is None else max(1, threads)
    n_tokens, differing, proof = 0, None, Proof()
    with Digests((*model.files, *wanted.files), threads=n_threads, large=verify) as digests:
        if verify:
            n_tokens, differing = prove_tokens(layout.metadata, model.vocabulary)
        if differing and not allow_token_mismatch:
            raise differing
        chosen = kernels.GGML if layout.is_weighed else kernels.choose(layout.values_by_type)
        with replacing(target, force=force) as output:
            moved = digests.following(progress)
            own = write(
                layout,
                output,
                threads=n_threads,
                kernels=chosen,
                hashed=verify,
                on_progress=moved,
            )
            output.begin_sync()
            if verify:
                proof = verify_tensors(
                    output.path, layout, threads=n_threads, sha256=own, on_progress=progress
                )
            files = digests.result()
            output.commit(outdated=report_path(target))
    report = Report(
        out=target,
        file_type=(model.kept or wanted.file_type).name,
        architecture=layout.metadata["general.architecture"].data,
        n_tensors=len(layout.tensors),
        n_parameters=layout.n_parameters,
        source_bytes=model.size_bytes,
        out_bytes=layout.size,
        bits_per_weight=8 * layout.tensor_bytes / layout.n_parameters,
        seconds=perf_counter() - started,
        peak_memory_bytes=peak_memory_bytes(),
        verified=verify,
        tokens_compared=n_tokens,
        has_chat_template="tokenizer.chat_template" in layout.metadata,
        kernels=chosen.makers(layout.values_by_type),
        errors=proof.errors,
        sha256=proof.sha256,
        warnings=(*model.vocabulary.warnings, *_sentences(differing)),
        texts_compared=sum(1 for _ in corpus()) if n_tokens else 0,
        worst=proof.worst,
        decisions=decisions(
            layout.metadata, model.tokenizer, wanted, template_given=chat_template is not None
        ),
        source_files=files,
    )
    if save_report:
        report.save()
    return report


def plan_file(source: Source, wanted: Wanted, chat_template: str | None = None) -> Plan:
    """The layout of the file that a source becomes; no weight is read."""
    vocabulary = source.vocabulary
    template = vocabulary.chat_template if chat_template is None else chat_template
    metadata: Metadata = {
        **source.architecture,
        **source.card,
        **wanted.metadata(),
        **vocabulary.metadata(),
        "komt.tokenizer.legacy": flag(vocabulary.legacy),
    }
    if source.kept:
        metadata["general.file_type"] = u32(source.kept.number)
    if template:
        metadata["tokenizer.chat_template"] = text(template)
    return plan_tensors(source.tensors, metadata, wanted, keep=source.kept is not None)


def refuse_lethal(layout: Plan, source: Path) -> None:
    """Raises SourceError if llama.cpp would die of the planned file; nothing is written yet."""
    problem = first_problem(parse_header(layout.header, layout.size, source))
    if problem is not None:
        raise SourceError(
            f"{source} would make a file that aborts llama.cpp: {problem[0]}; "
            "repair the tokenizer files or config.json.",
            f"{source}(으)로 만든 파일은 llama.cpp를 중단시킵니다. {problem[1]}. "
            "토크나이저 파일이나 config.json을 고치세요.",
        )


def prove_tokens(
    metadata: Metadata, vocabulary: Vocabulary
) -> tuple[int, TokenizerMismatch | None]:
    """How many ids are those of the source, or the first difference.

    llama.cpp needs no weights for it: a header alone is a file with a tokenizer.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder, "tokenizer.gguf")
        path.write_bytes(encode_header(metadata, []))
        try:
            return verify_tokens(path, vocabulary), None
        except TokenizerMismatch as error:
            return 0, error


def verify_tokens(path: Path, vocabulary: Vocabulary) -> int:
    """The number of token ids that are the same in the file and in its source."""
    with Tokenizer(path) as tokenizer:
        with_control = mixed(tuple(vocabulary.special_tokens))
        return compare_tokens(vocabulary, tokenizer, corpus(), with_control)


def _sentences(error: TokenizerMismatch | None) -> list[tuple[str, str]]:
    return [(str(error), error.ko)] if error else []


def available_processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
