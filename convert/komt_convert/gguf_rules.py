"""What makes llama.cpp abort the whole process, said about a header.

llama.cpp refuses most bad files politely, and those are left to it. The rules here stand for its
GGML_ASSERTs that a file can reach, as of llama.cpp 0c1e5709: `llama_model_base::load_hparams` in
src/llama-model.cpp, `llama_vocab::impl` in src/llama-vocab.cpp, the graph of src/models/llama.cpp,
`ggml_backend_cpu_buffer_from_ptr`, `ggml_rms_norm`. They were found by reading, by flipping bits,
and by giving every key odd values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from komt_convert.gguf_header import Array, Header
from komt_convert.metadata import ValueType

MAX_LAYERS = 512
MAX_EXPERTS = 1024
TENSOR_ALIGNMENT = 32
ROPE_SCALINGS = ("none", "linear", "yarn", "longrope")

_BYTE_TOKEN = 6

Problem = tuple[str, str]
"""What is wrong, in English and in Korean."""


def first_problem(header: Header) -> Problem | None:
    """The first rule that the file breaks; None when llama.cpp survives it."""
    return next((problem for rule in _RULES for problem in rule(header)), None)


def _layers(header: Header) -> Iterator[Problem]:
    layers = header.of_architecture("block_count")
    if layers is not None and not _between(layers, 1, MAX_LAYERS):
        yield f"it claims {layers} layers", f"레이어가 {layers}개라고 되어 있습니다"
    elif not _between(header.of_architecture("nextn_predict_layers", 0), 0, layers or 0):
        yield (
            "it claims more prediction layers than layers",
            "예측 레이어가 레이어보다 많다고 되어 있습니다",
        )


def _experts(header: Header) -> Iterator[Problem]:
    experts = header.of_architecture("expert_count", 0)
    used = header.of_architecture("expert_used_count", 0)
    most = max(used, default=0) if isinstance(used, Array) else used
    groups = header.of_architecture("expert_group_count", 0)
    chosen = header.of_architecture("expert_group_used_count", 0)
    sane = _between(experts, 0, MAX_EXPERTS) and _between(most, min(1, experts), experts)
    if not sane or not _groups_fit(experts, groups, chosen):
        yield (
            f"it uses {most} of {experts} experts in {groups} groups",
            f"전문가 {experts}개 중 {most}개를 {groups}개 그룹으로 쓴다고 되어 있습니다",
        )


def _groups_fit(experts: int, groups: Any, chosen: Any) -> bool:
    if not _between(groups, 0, max(experts - 1, 0)):
        return False
    return groups < 2 or (experts % groups == 0 and _between(chosen, 1, groups - 1))


def _rope(header: Header) -> Iterator[Problem]:
    scaling = header.of_architecture("rope.scaling.type", "none")
    if scaling not in ROPE_SCALINGS:
        yield f"its RoPE scaling is {scaling!r}", f"RoPE 스케일링이 {scaling!r}입니다"


def _head_sizes(header: Header) -> Iterator[Problem]:
    if header.architecture != "llama":
        return
    heads = header.of_architecture("attention.head_count", 0)
    width = header.of_architecture("embedding_length", 0)
    if not _between(heads, 1, 1 << 32) or not _between(width, 1, 1 << 32):
        return
    key = header.of_architecture("attention.key_length", width // heads)
    value = header.of_architecture("attention.value_length", width // heads)
    if key != value:
        yield (
            f"its heads have keys of {key} and values of {value}",
            f"헤드의 키는 {key}, 값은 {value} 크기입니다",
        )


def _epsilon(header: Header) -> Iterator[Problem]:
    for key in ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"):
        value = header.of_architecture(key, 0.0)
        if isinstance(value, float) and not value >= 0:
            yield f"its norm has the epsilon {value}", f"정규화의 엡실론이 {value}입니다"


def _alignment(header: Header) -> Iterator[Problem]:
    for tensor in header.tensors:
        if tensor.offset % TENSOR_ALIGNMENT:
            yield (
                f"tensor '{tensor.name}' does not begin at a multiple of {TENSOR_ALIGNMENT} bytes",
                f"텐서 '{tensor.name}'의 위치가 {TENSOR_ALIGNMENT}바이트의 배수가 아닙니다",
            )


def _tokenizer(header: Header) -> Iterator[Problem]:
    """The kinds that are mixed up here are those that hang or abort on the tokens of another."""
    kind = header.metadata.get("tokenizer.ggml.model")
    types = header.metadata.get("tokenizer.ggml.token_type", ())
    if kind in ("none", "no_vocab"):
        yield "it has no tokenizer", "토크나이저가 없습니다"
    elif (kind == "bert" and isinstance(types, Array) and _BYTE_TOKEN in types) or (
        kind == "rwkv" and not header.architecture.startswith("rwkv")
    ):
        yield (
            f"its tokens do not belong to a tokenizer of the kind '{kind}'",
            f"토큰이 '{kind}' 종류의 토크나이저에 맞지 않습니다",
        )


def _tokens(header: Header) -> Iterator[Problem]:
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, Array) or tokens.element is not ValueType.STRING:
        return
    first_ids: dict[bytes, int] = {}
    for i, token in enumerate(tokens.raw()):
        first = first_ids.setdefault(token or f"[EMPTY_{i}]".encode(), i)
        if first != i:
            shown = token.decode("utf-8", "replace")
            yield (
                f"its tokens {first} and {i} are both {shown!r}",
                f"토큰 {first}번과 {i}번이 모두 {shown!r}입니다",
            )


def _between(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and low <= value <= high


_RULES: tuple[Callable[[Header], Iterator[Problem]], ...] = (
    _layers,
    _experts,
    _rope,
    _head_sizes,
    _epsilon,
    _alignment,
    _tokenizer,
    _tokens,
)
