"""Which type each tensor gets in a file of a given type: llama.cpp's choice, rule for rule.

A file type such as Q4_K_M names a default type and a few exceptions by the role of a tensor; some
exceptions hold in some layers only. The rules are those of src/llama-quant.cpp at llama.cpp
0c1e5709 without an importance matrix; types that require one are not here, nor are the rules for
mixtures of experts. Tests compare the choice with llama.cpp's own for the shapes of real models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from komt_convert.errors import QuantizationError
from komt_convert.tensor_types import BY_NAME, TensorType

Shape = tuple[int, ...]
"""Rows first, as in Hugging Face and numpy; the last number is the row length."""


@dataclass(frozen=True, slots=True)
class Model:
    """What the choice depends on beside names and shapes."""

    architecture: str
    n_layers: int
    n_heads: int
    n_kv_heads: int

    @property
    def grouped(self) -> bool:
        """Whether four or more query heads share one of keys and values."""
        return self.n_kv_heads > 0 and self.n_heads // self.n_kv_heads >= 4

    @property
    def is_70b(self) -> bool:
        return self.n_layers == 80 and self.n_heads != self.n_kv_heads


@dataclass(frozen=True, slots=True)
class Place:
    """The `index`-th of `count` tensors with the same role."""

    index: int
    count: int
    model: Model


Rule = Callable[[Place], str | None]
"""Gives the name of a type, or None for the default."""


def always(name: str) -> Rule:
    return lambda place: name


def first(n: int, name: str, otherwise: str | None = None) -> Rule:
    return lambda place: name if place.index < n else otherwise


def first_part(divisor: int, name: str, otherwise: str | None = None) -> Rule:
    return lambda place: name if place.index < place.count // divisor else otherwise


def if_grouped(name: str, otherwise: str | None = None) -> Rule:
    return lambda place: name if place.model.grouped else otherwise


def more_bits(name: str) -> Rule:
    """The first and the last eighth, and every third between them (`use_more_bits`)."""

    def rule(place: Place) -> str | None:
        i, n = place.index, place.count
        return name if i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2 else None

    return rule


@dataclass(frozen=True, slots=True)
class FileType:
    """A type of file: its number as general.file_type, the default type, and exceptions by role."""

    name: str
    number: int
    default: TensorType
    rules: Mapping[str, Rule] = field(default_factory=dict)


def _type(name: str, number: int, default: str, **rules: Rule) -> FileType:
    return FileType(name, number, BY_NAME[default], rules)


FILE_TYPES = {
    file_type.name: file_type
    for file_type in (
        _type("F32", 0, "F32"),
        _type("F16", 1, "F16"),
        _type("BF16", 32, "BF16"),
        _type("Q8_0", 7, "Q8_0"),
        _type("Q6_K", 18, "Q6_K"),
        _type("Q5_K_M", 17, "Q5_K", attn_v=more_bits("Q6_K"), ffn_down=more_bits("Q6_K")),
        _type("Q5_K_S", 16, "Q5_K"),
        _type("Q5_1", 9, "Q5_1"),
        _type("Q5_0", 8, "Q5_0"),
        _type("Q4_K_M", 15, "Q4_K", attn_v=more_bits("Q6_K"), ffn_down=more_bits("Q6_K")),
        _type("Q4_K_S", 14, "Q4_K", attn_v=first(4, "Q5_K"), ffn_down=first_part(8, "Q5_K")),
        _type("Q4_1", 3, "Q4_1"),
        _type("Q4_0", 2, "Q4_0"),
        _type("IQ4_NL", 25, "IQ4_NL", attn_v=if_grouped("Q5_K"), ffn_down=first_part(8, "Q5_K")),
        _type("IQ4_XS", 30, "IQ4_XS", attn_v=if_grouped("Q5_K"), ffn_down=first_part(8, "Q5_K")),
        _type(
            "Q3_K_L",
            13,
            "Q3_K",
            attn_v=always("Q5_K"),
            ffn_down=always("Q5_K"),
            attn_output=always("Q5_K"),
        ),
        _type(
            "Q3_K_M",
            12,
            "Q3_K",
            attn_v=first(2, "Q5_K", otherwise="Q4_K"),
            ffn_down=first_part(16, "Q5_K", otherwise="Q4_K"),
            attn_output=always("Q4_K"),
        ),
        _type("Q3_K_S", 11, "Q3_K"),
        _type(
            "IQ3_M",
            27,
            "IQ3_S",
            attn_v=always("Q4_K"),
            ffn_down=first_part(8, "Q4_K"),
            attn_output=always("Q4_K"),
        ),
        _type("IQ3_S", 26, "IQ3_S", attn_v=if_grouped("Q4_K")),
        _type(
            "Q2_K",
            10,
            "Q2_K",
            attn_v=if_grouped("Q4_K", otherwise="Q3_K"),
            ffn_down=always("Q3_K"),
            attn_output=always("Q3_K"),
        ),
    )
}

_OTHER_FILE_TYPES = {
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    28: "IQ2_S",
    29: "IQ2_M",
    31: "IQ1_M",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4",
    39: "NVFP4",
    40: "Q1_0",
    41: "Q2_0",
}
"""Numbers of file types that exist and are not made here (`enum llama_ftype`)."""

_FALLBACKS = {
    "IQ3_S": "IQ4_NL",
    "IQ4_XS": "IQ4_NL",
    "Q2_K": "Q4_0",
    "Q3_K": "Q4_0",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}
"""For rows that are no multiple of 256: a type with blocks of 32."""

_ROLES = (
    ("attn_qkv.weight", "attn_v"),
    ("attn_kv_b.weight", "attn_v"),
    ("attn_v.weight", "attn_v"),
    ("attn_output.weight", "attn_output"),
    ("ffn_down", "ffn_down"),
)
"""Name parts and roles; what makes the rules of attn_v hold for fused weights as well."""

_LAYER = re.compile(r"blk\.(\d+)\.")


def file_type(name: str) -> FileType:
    """The file type of that name, in any case; raises QuantizationError for an unknown one."""
    known = FILE_TYPES.get(name.upper())
    if known is None:
        names = ", ".join(FILE_TYPES)
        raise QuantizationError(
            f"There is no quantization type '{name}'; choose one of {names}.",
            f"'{name}' 양자화 타입은 없습니다. 다음 중에서 고르세요: {names}.",
        )
    return known


def file_type_name(number: object) -> str:
    """The name of a general.file_type, of any kind that llama.cpp knows; "unknown" otherwise."""
    names = {known.number: known.name for known in FILE_TYPES.values()} | _OTHER_FILE_TYPES
    return names.get(number, "unknown") if isinstance(number, int) else "unknown"


def file_order(name: str) -> tuple[int, str]:
    """The sort key of llama.cpp's quantizer: what is in no layer first, then layer by layer."""
    layer = _LAYER.match(name)
    return (int(layer[1]) if layer else -1), name


def choose_types(
    shapes: Mapping[str, Shape], model: Model, file_type: FileType
) -> dict[str, TensorType]:
    """A type for every tensor, in the order of the file."""
    tied = "output.weight" not in shapes
    counts = {"ffn_down": model.n_layers, "attn_v": sum(_role(name) == "attn_v" for name in shapes)}
    seen = dict.fromkeys(counts, 0)
    chosen: dict[str, TensorType] = {}
    for name in sorted(shapes, key=file_order):
        role = _role(name)
        if not _is_quantized(name, shapes[name]):
            chosen[name] = BY_NAME["F32"]
            continue
        is_output = name == "output.weight" or (tied and name == "token_embd.weight")
        place = Place(seen.get(role, 0), counts.get(role, 0), model)
        seen[role] = place.index + 1
        wanted = _wanted(file_type, "output" if is_output else role, place, shapes[name][-1])
        chosen[name] = _fitting(wanted, shapes[name][-1])
    return chosen


def _role(name: str) -> str:
    return next((role for part, role in _ROLES if part in name), "")


def _is_quantized(name: str, shape: Shape) -> bool:
    """What else stays F32: vectors, norms, and what is no weight, as llama.cpp's converter does."""
    return (
        len(shape) > 1
        and name.endswith("weight")
        and not name.endswith(("_norm.weight", "ffn_gate_inp.weight"))
    )


def _wanted(file_type: FileType, role: str, place: Place, row_length: int) -> TensorType:
    default = file_type.default
    if not default.is_quantized:
        return default
    if role == "output":
        return BY_NAME["Q8_0" if row_length % default.block or default.name == "Q8_0" else "Q6_K"]
    rule = file_type.rules.get(role)
    wanted = BY_NAME[(rule and rule(place)) or default.name]
    if role == "attn_v" and place.model.is_70b and wanted.name in ("Q3_K", "Q4_K"):
        return BY_NAME["Q5_K"]
    return wanted


def _fitting(wanted: TensorType, row_length: int) -> TensorType:
    if row_length % wanted.block == 0:
        return wanted
    smaller = BY_NAME[_FALLBACKS.get(wanted.name, wanted.name)]
    return smaller if row_length % smaller.block == 0 else BY_NAME["F16"]
