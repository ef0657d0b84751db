"""The table of `convert --dry-run`: what a model takes in every type, on disk and in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from .. import hardware
from ..language import say
from .output import print_json, size

if TYPE_CHECKING:
    from komt_convert import Survey
    from komt_convert.sizes import Option


def show_sizes(survey: Survey, given: Mapping[str, Any]) -> None:
    """Print the table, or with --json the same as numbers of bytes."""
    shape, trained = _shape(survey)
    n_ctx = given["ctx_size"] or min(trained, hardware.DEFAULT_CONTEXT)
    needs = [
        (option, hardware.need(shape, option.tensor_bytes, n_ctx, hardware.Demand()))
        for option in survey.options
    ]
    available = hardware.available_memory()
    if given["json"]:
        types = [_as_dict(option, need) for option, need in needs]
        print_json({"context": n_ctx, "available_memory_bytes": available, "types": types})
        return
    for line in _lines(needs, n_ctx, available):
        click.echo(line)


def _as_dict(option: Option, need: hardware.Need) -> dict[str, Any]:
    return {
        "type": option.file_type,
        "bits_per_weight": option.bits_per_weight,
        "file_bytes": option.out_bytes,
        **need_as_dict(need),
        "needs_imatrix": option.needs_imatrix,
    }


def need_as_dict(need: hardware.Need) -> dict[str, int]:
    """A need as JSON has it, in bytes."""
    return {
        "memory_bytes": need.total,
        "weights_bytes": need.weights,
        "kv_cache_bytes": need.kv_cache,
        "compute_bytes": need.compute,
    }


def _lines(needs: list[tuple[Option, hardware.Need]], n_ctx: int, available: int) -> Iterator[str]:
    yield say(
        f"type        bits        file      memory  with a context of {n_ctx:,} tokens "
        f"({size(available)} available)",
        f"타입        비트        파일      메모리  컨텍스트 {n_ctx:,}토큰일 때"
        f"({size(available)} 사용 가능)",
    )
    for option, need in needs:
        notes = []
        if option.needs_imatrix:
            notes.append(say("needs --imatrix", "--imatrix 필요"))
        if need.total > available:
            notes.append(say("too large here", "이 컴퓨터에는 너무 큼"))
        columns = f"{size(option.out_bytes):>11} {size(need.total):>11}  {', '.join(notes)}"
        yield f"{option.file_type:<8} {option.bits_per_weight:>7.2f} {columns}".rstrip()


def _shape(survey: Survey) -> tuple[hardware.Shape, int]:
    """What the memory depends on, and the context that the model was trained on."""
    architecture = survey.metadata["general.architecture"].data

    def number(key: str, default: int) -> int:
        value = survey.metadata.get(f"{architecture}.{key}")
        return default if value is None else int(value.data)

    width, heads = number("embedding_length", 0), number("attention.head_count", 1)
    keys = number("attention.key_length", width // max(heads, 1))
    values = number("attention.value_length", width // max(heads, 1))
    shape = hardware.Shape(
        n_layer=number("block_count", 0),
        kv_row=number("attention.head_count_kv", heads) * (keys + values),
        n_embd=width,
        n_ff=number("feed_forward_length", 4 * width),
        n_vocab=len(survey.metadata["tokenizer.ggml.tokens"].data),
    )
    return shape, number("context_length", hardware.DEFAULT_CONTEXT)
