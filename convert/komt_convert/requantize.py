"""A GGUF file in another type, through the same planner, writer and proof as a conversion.

Metadata stay as they are but for the file type. The bytes are those of llama.cpp's quantizer;
models whose rules are not known here (mixtures of experts) are left to it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from time import perf_counter

from komt_convert import kernels
from komt_convert.corpus import corpus
from komt_convert.decisions import said_types
from komt_convert.digests import Digests, Input
from komt_convert.errors import (
    QuantizationError,
    TokenizerMismatch,
    UnsupportedError,
)
from komt_convert.ggml import Tokenizer
from komt_convert.gguf_file import check
from komt_convert.gguf_header import Array, Header
from komt_convert.metadata import Metadata, Value
from komt_convert.output import refuse_full_disk, refuse_target, replacing
from komt_convert.packed import block_tensor
from komt_convert.pipeline import available_processors
from komt_convert.planning import Wanted, choose, want, weigh
from komt_convert.recipes import Model, is_quantized
from komt_convert.report import OnProgress, Report, peak_memory_bytes, report_path
from komt_convert.tensor_types import BY_NAME
from komt_convert.tensors import Tensor
from komt_convert.verify import Proof, verify_tensors
from komt_convert.writer import Plan, plan, write

Sentences = tuple[tuple[str, str], ...]

_NOT_KEPT = ("general.alignment", "split.no", "split.count", "split.tensors.count")
_OTHER_RULES = ("falcon", "glm5-next")


def quantize(
    source_gguf: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    quant: str,
    tensor_types: Sequence[str] = (),
    imatrix: str | os.PathLike[str] | None = None,
    allow_requantize: bool = False,
    verify: bool = True,
    force: bool = False,
    save_report: bool = False,
    threads: int | None = None,
    progress: OnProgress | None = None,
) -> Report:
    """Write the GGUF file `source_gguf` as `out`, in another type.

    The options are those of `convert`. Tensors that are quantized already lose again when they
    are quantized to another type, which `allow_requantize` permits; the report warns of it.

    Raises ConvertError: GGUFError, UnsupportedError, OutputError, QuantizationError or
    VerificationError.
    """
    started = perf_counter()
    wanted, target = want(quant, tensor_types, imatrix), Path(out)
    refuse_target(target, force=force)
    refuse_target(report_path(target), force=True)
    source = check(source_gguf)
    layout = plan_again(source, wanted)
    warnings = _refuse_losses(source, layout, allow=allow_requantize)
    refuse_full_disk(target, layout.size)
    n_threads = available_processors() if threads is None else max(1, threads)
    chosen = kernels.GGML if layout.is_weighed else kernels.choose(layout.values_by_type)
    proof, n_tokens, read = Proof(), 0, (Input("model", source.path), *wanted.files)
    with (
        Digests(read, threads=n_threads, large=verify) as digests,
        replacing(target, force=force) as output,
    ):
        moved = digests.following(progress)
        own = write(
            layout, output, threads=n_threads, kernels=chosen, hashed=verify, on_progress=moved
        )
        output.begin_sync()
        if verify:
            proof = verify_tensors(
                output.path, layout, threads=n_threads, sha256=own, on_progress=progress
            )
            n_tokens = _compare_tokens(source.path, output.path)
        files = digests.result()
        output.commit(outdated=report_path(target))
    report = Report(
        out=target,
        file_type=wanted.file_type.name,
        architecture=source.architecture,
        n_tensors=len(layout.tensors),
        n_parameters=layout.n_parameters,
        source_bytes=source.size,
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
        warnings=warnings,
        texts_compared=sum(1 for _ in corpus()) if n_tokens else 0,
        worst=proof.worst,
        decisions=tuple(said_types(wanted)),
        source_files=files,
    )
    if save_report:
        report.save()
    return report


def plan_again(source: Header, wanted: Wanted) -> Plan:
    """The layout of the new file; no weight is read."""
    tensors = [
        block_tensor(source.path, info.name, info.type, info.shape[::-1], info.offset)
        for info in source.tensors
    ]
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    own = {info.name: info.type for info in source.tensors}
    types = choose(shapes, _model(source), wanted)
    types = {n: t if is_quantized(n, shapes[n]) else own[n] for n, t in types.items()}
    weights = weigh(shapes, types, wanted)
    return plan({**_metadata(source), **wanted.metadata()}, _single(tensors), types, weights)


def _single(tensors: Iterable[Tensor]) -> Iterable[Tensor]:
    """Tensors of which nothing has more than two dimensions: ours have a matrix for each."""
    for tensor in tensors:
        if len(tensor.shape) > 2 and tensor.shape[0] > 1:
            raise UnsupportedError(
                f"Tensor '{tensor.name}' holds several matrices, as mixtures of experts have them; "
                "quantize such models with llama-quantize of llama.cpp.",
                f"'{tensor.name}' 텐서는 전문가 혼합 모델처럼 행렬이 여럿입니다. "
                "이런 모델은 llama.cpp의 llama-quantize로 양자화하세요.",
            )
        yield tensor


def _metadata(source: Header) -> Metadata:
    return {
        key: _typed(source, key, value)
        for key, value in source.metadata.items()
        if key not in _NOT_KEPT
    }


def _typed(source: Header, key: str, value: object) -> Value:
    if not isinstance(value, Array):
        return Value(source.kinds[key], value)
    strings = value.element.name == "STRING"
    return Value(source.kinds[key], value.raw() if strings else list(value), value.element)


def _model(source: Header) -> Model:
    """What the rules depend on. Raises UnsupportedError where they are others."""
    if source.metadata.get("split.count", 0) not in (0, 1):
        raise UnsupportedError(
            f"{source.path} is one part of a model in several files; "
            "join them with llama-gguf-split --merge.",
            f"{source.path}: 여러 파일로 나뉜 모델의 일부입니다. "
            "llama-gguf-split --merge로 합치세요.",
        )
    if source.of_architecture("expert_count", 0) or source.architecture in _OTHER_RULES:
        raise UnsupportedError(
            f"{source.path} is a '{source.architecture}' model with rules of its own; "
            "quantize it with llama-quantize of llama.cpp.",
            f"{source.path}: 규칙이 따로 있는 '{source.architecture}' 모델입니다. "
            "llama.cpp의 llama-quantize로 양자화하세요.",
        )
    heads = _first(source.of_architecture("attention.head_count", 1))
    kv_heads = _first(source.of_architecture("attention.head_count_kv", heads))
    n_layers = _first(source.of_architecture("block_count", 0))
    return Model(source.architecture, n_layers, heads, kv_heads)


def _first(value: object) -> int:
    """The number of the first layer, where there is one for each."""
    found = value[0] if isinstance(value, Array) and len(value) else value
    return found if isinstance(found, int) else 0


def _refuse_losses(source: Header, layout: Plan, *, allow: bool) -> Sentences:
    """A warning when quantized tensors are quantized again; QuantizationError unless allowed."""
    again = [p for p in layout.tensors if not p.is_ready and BY_NAME[p.tensor.dtype].is_quantized]
    if not again:
        return ()
    n, first = len(again), again[0].tensor.dtype
    if allow:
        return (
            (
                f"{n:,} tensors were quantized already ({first}) and lost again; "
                "a file made from the original weights is better.",
                f"텐서 {n:,}개는 이미 양자화된 것({first})이라 손실이 겹쳤습니다. "
                "원본 가중치로 만든 파일이 더 낫습니다.",
            ),
        )
    raise QuantizationError(
        f"{source.path} is quantized already ({n:,} tensors, {first}), and would lose again; "
        "take a file in F32, F16 or BF16, or allow it with --allow-requantize.",
        f"{source.path}: 이미 양자화된 파일입니다(텐서 {n:,}개, {first}). 손실이 겹치니 "
        "F32, F16, BF16 파일을 쓰거나 --allow-requantize로 허용하세요.",
    )


def _compare_tokens(source: Path, made: Path) -> int:
    """The number of ids that llama.cpp gives alike for both files."""
    n_compared = 0
    with Tokenizer(source) as theirs, Tokenizer(made) as ours:
        for text in corpus():
            expected = theirs.encode(text)
            if ours.encode(text) != expected:
                raise TokenizerMismatch(
                    f"{text!r} is tokenized otherwise than in {source}; report this, please.",
                    f"{text!r} 글이 {source}와 다르게 나뉩니다. 이 문제를 알려 주세요.",
                )
            n_compared += len(expected)
    return n_compared
