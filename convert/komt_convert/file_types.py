"""The types of files: a name such as Q4_K_M, its default type, and the exceptions to it.

An exception goes by the role of a tensor; some hold in some layers only, or without an importance
matrix. The rules are those of src/llama-quant.cpp at llama.cpp 0c1e5709 for models that are no
mixtures of experts. Which tensor has which role is said in `recipes`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from komt_convert.errors import QuantizationError
from komt_convert.tensor_types import BY_NAME, TensorType


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
    imatrix: bool = False


Rule = Callable[[Place], str | None]
"""Gives the name of a type, or None for the default."""


def always(name: str) -> Rule:
    return lambda place: name


def first(n: int, name: str, otherwise: str | None = None) -> Rule:
    return lambda place: name if place.index < n else otherwise


def first_part(divisor: int, name: str, otherwise: str | None = None) -> Rule:
    return lambda place: name if place.index < place.count // divisor else otherwise


def middle(name: str) -> Rule:
    """All but the first and the last eighth."""
    return lambda place: name if place.count // 8 <= place.index < 7 * place.count // 8 else None


def if_grouped(name: str, otherwise: Rule | str | None = None) -> Rule:
    def rule(place: Place) -> str | None:
        if place.model.grouped:
            return name
        return otherwise(place) if callable(otherwise) else otherwise

    return rule


def with_imatrix(rule: Rule) -> Rule:
    return lambda place: rule(place) if place.imatrix else None


def without_imatrix(rule: Rule) -> Rule:
    return lambda place: None if place.imatrix else rule(place)


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

    @property
    def is_very_small(self) -> bool:
        """Whether the attention's values are left alone in 70B models, as in llama.cpp."""
        return self.name.startswith(("IQ1", "IQ2"))


def _type(name: str, number: int, default: str, **rules: Rule) -> FileType:
    return FileType(name, number, BY_NAME[default], rules)


def _iq4(name: str, number: int) -> FileType:
    down = without_imatrix(first_part(8, "Q5_K"))
    return _type(name, number, name, attn_v=if_grouped("Q5_K"), ffn_down=down)


def _iq2(name: str, number: int, default: str, better: str, **rules: Rule) -> FileType:
    """One or two bits; `better` is for what matters most."""
    return _type(
        name,
        number,
        default,
        output=always("Q5_K"),
        token_embd=always(better),
        attn_v=if_grouped("Q4_K", otherwise=better),
        ffn_down=first_part(8, better),
        **rules,
    )


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
        _type("Q5_0", 8, "Q5_0", ffn_down=with_imatrix(first_part(8, "Q5_1"))),
        _type("Q4_K_M", 15, "Q4_K", attn_v=more_bits("Q6_K"), ffn_down=more_bits("Q6_K")),
        _type("Q4_K_S", 14, "Q4_K", attn_v=first(4, "Q5_K"), ffn_down=first_part(8, "Q5_K")),
        _type("Q4_1", 3, "Q4_1"),
        _type("Q4_0", 2, "Q4_0", ffn_down=with_imatrix(first_part(8, "Q4_1"))),
        _iq4("IQ4_NL", 25),
        _iq4("IQ4_XS", 30),
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
            "IQ3_XS",
            22,
            "IQ3_S",
            attn_v=if_grouped("Q4_K"),
            attn_k=always("IQ3_XXS"),
            attn_q=always("IQ3_XXS"),
            ffn_gate=middle("IQ3_XXS"),
            ffn_up=middle("IQ3_XXS"),
        ),
        _type(
            "IQ3_XXS",
            23,
            "IQ3_XXS",
            output=always("Q5_K"),
            token_embd=always("IQ3_S"),
            attn_v=if_grouped("Q4_K", otherwise=without_imatrix(always("IQ3_S"))),
            attn_k=always("IQ2_S"),
            attn_q=always("IQ2_S"),
            ffn_down=without_imatrix(first_part(8, "Q4_K", otherwise="Q3_K")),
            attn_output=always("IQ3_S"),
        ),
        _type(
            "Q2_K",
            10,
            "Q2_K",
            attn_v=if_grouped("Q4_K", otherwise="Q3_K"),
            ffn_down=always("Q3_K"),
            attn_output=always("Q3_K"),
        ),
        _type("Q2_K_S", 21, "Q2_K", attn_v=if_grouped("Q4_K"), ffn_down=first_part(8, "Q4_K")),
        _iq2("IQ2_M", 29, "IQ2_S", "IQ3_S", attn_output=always("IQ3_S")),
        _iq2("IQ2_S", 28, "IQ2_XS", "IQ3_S", attn_output=always("IQ3_S")),
        _iq2("IQ2_XS", 20, "IQ2_XS", "Q2_K"),
        _iq2("IQ2_XXS", 19, "IQ2_XXS", "Q2_K"),
        _iq2("IQ1_M", 31, "IQ1_M", "Q2_K", attn_output=always("IQ2_XXS")),
        _iq2("IQ1_S", 24, "IQ1_S", "Q2_K", attn_output=always("IQ2_XXS")),
        _type("TQ2_0", 37, "TQ2_0", token_embd=always("Q4_K")),
        _type("TQ1_0", 36, "TQ1_0", token_embd=always("Q4_K")),
        _type("Q2_0", 41, "Q2_0", token_embd=always("Q4_K")),
        _type("Q1_0", 40, "Q1_0"),
    )
}
"""From the best to the smallest; the last four are for models trained with such weights."""

_OTHER_FILE_TYPES = {38: "MXFP4", 39: "NVFP4"}
"""Numbers of file types that exist and are not made here (`enum llama_ftype`)."""


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
