"""Which type each tensor gets in a file of a given type: llama.cpp's choice, rule for rule.

`file_types` has the rules; here they meet the tensors of a model, in the order in which llama.cpp's
quantizer counts them, with what the user wants otherwise. Tests compare the choice with llama.cpp's
own for the shapes of real models.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from komt_convert.errors import QuantizationError
from komt_convert.file_types import (
    FILE_TYPES,
    FileType,
    Model,
    Place,
    file_type,
    file_type_name,
)
from komt_convert.tensor_types import BY_NAME, TensorType

__all__ = [
    "FILE_TYPES",
    "FileType",
    "Model",
    "Override",
    "Shape",
    "choose_types",
    "file_order",
    "file_type",
    "file_type_name",
    "is_quantized",
    "override",
    "requires_imatrix",
]

Shape = tuple[int, ...]
"""Rows first, as in Hugging Face and numpy; the last number is the row length."""

_FALLBACKS = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S"), "IQ4_NL"),
    **dict.fromkeys(("IQ3_XXS", "IQ3_S", "IQ4_XS"), "IQ4_NL"),
    **dict.fromkeys(("Q2_0", "Q2_K", "Q3_K", "TQ1_0", "TQ2_0"), "Q4_0"),
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}
"""For rows that are no multiple of 256 (or 64, in Q2_0): a type with blocks of 32."""

_ROLES = (
    ("attn_qkv.weight", "attn_v"),
    ("attn_kv_b.weight", "attn_v"),
    ("attn_v.weight", "attn_v"),
    ("attn_k.weight", "attn_k"),
    ("attn_q.weight", "attn_q"),
    ("attn_output.weight", "attn_output"),
    ("ffn_up", "ffn_up"),
    ("ffn_gate", "ffn_gate"),
    ("ffn_down", "ffn_down"),
)
"""Name parts and roles; what makes the rules of attn_v hold for fused weights as well."""

_LEFT_ALONE = (
    *("_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight"),
    *("altup", "laurel", "per_layer_model_proj", "ssm_conv1d", "shortconv.conv.weight"),
    *("indexer.k_proj.weight", "indexer.q_proj.weight", "attn_rel_b.weight"),
    *("position_embd.weight", "token_types.weight"),
    *(f"time_mix_{part}.weight" for part in ("first", "w0", "w1", "w2", "v0", "v1", "v2")),
    *(f"time_mix_{part}.weight" for part in ("a0", "a1", "a2", "g1", "g2", "lerp_fused")),
    *(f"time_mix_decay_{part}.weight" for part in ("w1", "w2")),
)
"""What llama.cpp never quantizes in language models (`tensor_allows_quantization`)."""
_NEED_IMATRIX = ("IQ3_XXS", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ1_M", "IQ1_S")
_CANNOT_WITHOUT = ("IQ2_XXS", "IQ2_XS", "IQ1_S")
"""ggml aborts for these without a matrix (`ggml_quantize_requires_imatrix`)."""
_NOT_FOR_WEIGHTS = ("Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64")
_LAYER = re.compile(r"blk\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Override:
    """The type that a user wants for the tensors in whose names `pattern` is found."""

    pattern: re.Pattern[str]
    type: TensorType


def override(text: str) -> Override:
    """From PATTERN=TYPE, as in `attn_v=Q8_0`; PATTERN is a regular expression."""
    pattern, _, name = text.rpartition("=")
    type_ = BY_NAME.get(name.upper())
    try:
        if pattern and type_ is not None and type_.name not in _NOT_FOR_WEIGHTS:
            return Override(re.compile(pattern), type_)
    except re.error:
        pass
    raise QuantizationError(
        f"'{text}' is no PATTERN=TYPE, such as attn_v=Q8_0 with a regular expression and the type "
        "of a tensor; correct it.",
        f"'{text}': PATTERN=TYPE 형식이 아닙니다. attn_v=Q8_0처럼 정규식과 텐서 타입을 쓰세요.",
    )


def file_order(name: str) -> tuple[int, str]:
    """The sort key of llama.cpp's quantizer: what is in no layer first, then layer by layer."""
    layer = _LAYER.match(name)
    return (int(layer[1]) if layer else -1), name


def choose_types(
    shapes: Mapping[str, Shape],
    model: Model,
    file_type: FileType,
    *,
    overrides: Sequence[Override] = (),
    imatrix: bool = False,
) -> dict[str, TensorType]:
    """A type for every tensor, in the order of the file.

    The first of `overrides` that fits a name counts. `imatrix` is whether there is an importance
    matrix, which changes some rules.
    """
    _refuse_idle(overrides, shapes, file_type)
    roles = {name: _role(name) for name in shapes}
    tied = "output.weight" not in shapes
    n_values = sum(role == "attn_v" for role in roles.values())
    seen: dict[str, int] = {}
    chosen: dict[str, TensorType] = {}
    for name in sorted(shapes, key=file_order):
        role = "output" if tied and name == "token_embd.weight" else roles[name]
        own = next((o.type for o in overrides if o.pattern.search(name)), None)
        if not is_quantized(name, shapes[name]):
            chosen[name] = BY_NAME["F32"]
        elif own is not None:
            chosen[name] = _fitting(own, shapes[name][-1])
        else:
            count = n_values if role == "attn_v" else model.n_layers
            place = Place(seen.get(role, 0), count, model, imatrix)
            seen[role] = place.index + 1
            wanted = _wanted(file_type, role, place, shapes[name][-1])
            chosen[name] = _fitting(wanted, shapes[name][-1])
    return chosen


def requires_imatrix(name: str, type_: TensorType, file_type: FileType) -> bool:
    """Whether that tensor cannot be made without weights from an importance matrix."""
    if name in ("token_embd.weight", "output.weight"):
        return type_.name in _CANNOT_WITHOUT
    return type_.name in _NEED_IMATRIX or (type_.name == "Q2_K" and file_type.name == "Q2_K_S")


def _role(name: str) -> str:
    if name in ("token_embd.weight", "output.weight"):
        return name.removesuffix(".weight")
    return next((role for part, role in _ROLES if part in name), "")


def is_quantized(name: str, shape: Shape) -> bool:
    """What else stays as it is: vectors, norms, and what is no weight or a very small one."""
    return len(shape) > 1 and name.endswith("weight") and not any(p in name for p in _LEFT_ALONE)


def _wanted(file_type: FileType, role: str, place: Place, row_length: int) -> TensorType:
    default = file_type.default
    if not default.is_quantized:
        return default
    if role == "output":
        return _for_output(file_type, place, row_length)
    rule = file_type.rules.get(role)
    wanted = BY_NAME[(rule and rule(place)) or default.name]
    is_value = role == "attn_v" and not file_type.is_very_small
    if is_value and place.model.is_70b and wanted.name in ("Q3_K", "Q4_K"):
        return BY_NAME["Q5_K"]
    return wanted


def _for_output(file_type: FileType, place: Place, row_length: int) -> TensorType:
    default = file_type.default
    if row_length % default.block or default.name == "Q8_0":
        return BY_NAME["Q8_0"]
    rule = file_type.rules.get("output")
    return BY_NAME[(rule and rule(place)) or "Q6_K"]


def _fitting(wanted: TensorType, row_length: int) -> TensorType:
    if row_length % wanted.block == 0:
        return wanted
    smaller = BY_NAME[_FALLBACKS.get(wanted.name, wanted.name)]
    if smaller is wanted and wanted.block > 32:
        raise QuantizationError(
            f"Rows of {row_length:,} values are no multiple of {wanted.block}, as {wanted.name} "
            "needs them; choose another type.",
            f"행의 길이 {row_length:,}이(가) {wanted.name}에 필요한 {wanted.block}의 배수가 "
            "아닙니다. 다른 타입을 고르세요.",
        )
    return smaller if row_length % smaller.block == 0 else BY_NAME["F16"]


def _refuse_idle(
    overrides: Sequence[Override], shapes: Mapping[str, Shape], file_type: FileType
) -> None:
    """Raises QuantizationError for an override that would change nothing."""
    if overrides and not file_type.default.is_quantized:
        raise QuantizationError(
            f"Types of single tensors go with a quantized file type, not with {file_type.name}; "
            "choose one such as Q8_0, or leave them out.",
            f"텐서별 타입은 양자화 타입에만 쓸 수 있고 {file_type.name}에는 쓸 수 없습니다. "
            "Q8_0 같은 타입을 고르거나 빼세요.",
        )
    for given in overrides:
        if not any(given.pattern.search(name) for name in shapes):
            raise QuantizationError(
                f"No tensor's name has '{given.pattern.pattern}' in it; "
                "give a part of one, such as blk.0.attn_v.",
                f"이름에 '{given.pattern.pattern}'이(가) 든 텐서가 없습니다. "
                "blk.0.attn_v처럼 이름의 일부를 쓰세요.",
            )
