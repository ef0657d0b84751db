"""How large the parts of a model are, from the header of its file alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from ..hardware import Shape
from ..offload import Size

if TYPE_CHECKING:
    from komt_convert.gguf_file import Header

_BLOCK = re.compile(r"blk\.(\d+)\.")


def size_of(header: Header) -> Size:
    """Bytes by layer; an output that is tied to the input is there twice on a GPU."""
    n_layer = _number(header.of_architecture("block_count"), 1)
    layers, output, rest = [0] * n_layer, 0, 0
    for tensor in header.tensors:
        match = _BLOCK.match(tensor.name)
        if match and int(match[1]) < n_layer:
            layers[int(match[1])] += tensor.n_bytes
        elif tensor.name.startswith("output"):
            output += tensor.n_bytes
        else:
            rest += tensor.n_bytes
    trained = _number(header.of_architecture("context_length"), 0)
    return Size(tuple(layers), output, rest, header.n_parameters, _shape(header), trained)


def _shape(header: Header) -> Shape:
    def number(key: str, default: int) -> int:
        return _number(header.of_architecture(key), default)

    n_embd = number("embedding_length", 1)
    n_head = max(number("attention.head_count", 1), 1)
    head = n_embd // n_head
    n_head_kv = number("attention.head_count_kv", n_head)
    keys, values = number("attention.key_length", head), number("attention.value_length", head)
    n_ff = number("feed_forward_length", 4 * n_embd)
    n_layer = number("block_count", 1)
    rows = [prod(t.shape[1:]) for t in header.tensors if t.name == "token_embd.weight"]
    return Shape(n_layer, n_head_kv * (keys + values), n_embd, n_ff, rows[0] if rows else 0)


def _number(value: Any, default: int) -> int:
    """A count, or the largest of those given for each layer."""
    if isinstance(value, int):
        return value
    numbers = value if isinstance(value, Sequence) else ()
    return max((n for n in numbers if isinstance(n, int)), default=default)
