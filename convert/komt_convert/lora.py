"""Merging a LoRA adapter: W + scale · (alpha / r) · B·A, in float32, while the rows are read.

Works on the names and the layout of Hugging Face, before an architecture renames or permutes. What
is quantized later is this float32 value, not one rounded to 16 bits in between. Plain LoRA on
linear layers and embeddings as PEFT saves it; what would compute something else is refused by name.
The formats: https://github.com/huggingface/peft, tuners/lora/config.py and layer.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from komt_convert.checkpoint import read_json
from komt_convert.errors import SourceError, UnsupportedError
from komt_convert.tensors import FloatArray, Tensor, require_float
from komt_convert.weight_files import find_weights, read_weights

UNSUPPORTED = (
    "use_dora",
    "modules_to_save",
    "layer_replication",
    "trainable_token_indices",
    "alora_invocation_tokens",
    "use_qalora",
    "lora_bias",
    "target_parameters",
)
"""Settings of adapter_config.json that ask for more than B·A, when they are set at all."""

PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")
"""Values of `init_lora_weights` that leave the base model as it is; PiSSA and others change it."""

HALF = re.compile(
    r"(?:base_model\.model\.)?(.+)\.lora_(?:embedding_)?([AB])(?:\.default)?(\.weight)?"
)

COPY = re.compile(r"(?:base_model\.model\.)?(.+?)(?:\.base_layer)?\.weight")
"""PEFT saves the embedding of the base model as well when it may have been changed."""

BLOCK = 128
"""Rows that are multiplied at once. A row's sum must not depend on what else is read with it, and
the last bits of a matrix product do depend on its shape, so the shape is always the same."""


def merge(tensors: Mapping[str, Tensor], folder: Path, scale: float = 1.0) -> dict[str, Tensor]:
    """The tensors with the adapter in `folder` added to them, `scale` times; nothing is read yet.

    Raises SourceError when an adapter does not fit these tensors or is not whole, and
    UnsupportedError for other kinds of adapters.
    """
    config = _read_config(folder)
    merged = dict(tensors)
    for pair in _pairs(folder, tensors):
        target = tensors.get(f"{pair.module}.weight")
        if target is None:
            raise SourceError(
                f"The adapter {folder} changes {pair.module!r}, which the model does not have; "
                "merge it into the model that it was trained on.",
                f"{folder} 어댑터가 바꾸는 {pair.module!r} 모듈이 모델에 없습니다. "
                "어댑터를 학습한 기반 모델에 합치세요.",
            )
        if not pair.fits(target):
            raise _does_not_fit(folder, pair, target)
        factor = scale * config.scaling(pair.module, pair.rank)
        merged[target.name] = replace(
            target, read=_sum(target, pair, np.float32(factor)), dtype="F32"
        )
    return merged


# --- adapter_config.json -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Config:
    alpha: float
    alphas: Mapping[str, float]
    by_root: bool

    def scaling(self, module: str, rank: int) -> float:
        """alpha / r, or alpha / sqrt(r) with `use_rslora`; alpha may be one of the module's own."""
        own = [a for key, a in self.alphas.items() if f".{module}".endswith(f".{key}")]
        return (own[0] if own else self.alpha) / (math.sqrt(rank) if self.by_root else rank)


def _read_config(folder: Path) -> _Config:
    config = read_json(folder / "adapter_config.json")
    if config.get("peft_type") != "LORA":
        kind = config.get("peft_type", "no adapter_config.json")
        raise _unsupported(folder, f"not LoRA ({kind})", f"LoRA가 아님({kind})")
    for key in UNSUPPORTED:
        if config.get(key):
            raise _unsupported(folder, key, key)
    if config.get("bias", "none") != "none":
        raise _unsupported(folder, f"bias {config['bias']!r}", f"bias {config['bias']!r}")
    if (start := config.get("init_lora_weights")) not in PLAIN_STARTS:
        raise _unsupported(folder, f"init_lora_weights {start!r}", f"init_lora_weights {start!r}")
    alphas = config.get("alpha_pattern") or {}
    odd = [key for key in alphas if not re.fullmatch(r"[\w.]+", key)]
    if odd:
        raise _unsupported(folder, f"alpha_pattern {odd[0]!r}", f"alpha_pattern {odd[0]!r}")
    values = (config.get("lora_alpha"), *alphas.values())
    if any(isinstance(a, bool) or not isinstance(a, int | float) for a in values):
        raise SourceError(
            f"{folder / 'adapter_config.json'} has no number for lora_alpha; download it again.",
            f"{folder / 'adapter_config.json'}의 lora_alpha가 숫자가 아닙니다. 다시 내려받으세요.",
        )
    return _Config(float(config["lora_alpha"]), alphas, bool(config.get("use_rslora")))


def _unsupported(folder: Path, en: str, ko: str) -> UnsupportedError:
    return UnsupportedError(
        f"The adapter {folder} asks for {en}, which is not merged here; merge it with PEFT "
        "(merge_and_unload) and convert the result.",
        f"{folder} 어댑터의 설정({ko})은 여기서 합칠 수 없습니다. PEFT의 merge_and_unload로 "
        "합친 뒤 변환하세요.",
    )


# --- adapter_model.safetensors -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Pair:
    """A (r, columns) and B (rows, r) of one module; for an embedding the product is transposed."""

    module: str
    a: Tensor
    b: Tensor
    embedding: bool

    @property
    def rank(self) -> int:
        return self.a.shape[0]

    def fits(self, target: Tensor) -> bool:
        sides = target.shape[::-1] if self.embedding else target.shape
        return (
            [len(t.shape) for t in (self.a, self.b, target)] == [2, 2, 2]
            and self.rank > 0
            and (*self.b.shape, *self.a.shape) == (sides[0], self.rank, self.rank, sides[1])
        )


def _pairs(folder: Path, base: Mapping[str, Tensor]) -> list[_Pair]:
    files = find_weights(folder, "adapter_model", "adapter_model")
    if files is None:
        raise SourceError(
            f"{folder} has no adapter_model.safetensors; load the adapter with PEFT and save it "
            "again with save_pretrained().",
            f"{folder} 폴더에 adapter_model.safetensors가 없습니다. PEFT로 불러와 "
            "save_pretrained()로 다시 저장하세요.",
        )
    path = files.files[0]
    halves: dict[str, dict[str, Tensor]] = {}
    for name, tensor in read_weights(files).items():
        require_float(path, name, tensor.dtype)
        match = HALF.fullmatch(name)
        if match is None:
            if not _is_copy(name, tensor, base):
                raise _unsupported(folder, repr(name), repr(name))
            continue
        halves.setdefault(match[1], {})[match[2]] = tensor
    pairs = []
    for module, half in halves.items():
        if len(half) < 2:
            raise _damaged(path, f"{module!r} lacks its other half", f"{module!r} 짝이 없습니다")
        pairs.append(_Pair(module, half["A"], half["B"], "lora_embedding_" in half["A"].name))
    if not pairs:
        raise _damaged(path, "it is empty", "비어 있습니다")
    return pairs


def _is_copy(name: str, tensor: Tensor, base: Mapping[str, Tensor]) -> bool:
    """Whether a tensor of the adapter is one of the base model, unchanged."""
    match = COPY.fullmatch(name)
    original = base.get(f"{match[1]}.weight") if match else None
    if original is None or original.shape != tensor.shape:
        return False
    starts = range(0, tensor.n_rows, BLOCK)
    ranges = ((start, min(start + BLOCK, tensor.n_rows)) for start in starts)
    return all(np.array_equal(tensor.read(*rows), original.read(*rows)) for rows in ranges)


def _damaged(path: Path, en: str, ko: str) -> SourceError:
    return SourceError(
        f"{path} is not whole: {en}; download it again.",
        f"{path} 파일이 온전하지 않습니다: {ko}. 다시 내려받으세요.",
    )


def _does_not_fit(folder: Path, pair: _Pair, target: Tensor) -> SourceError:
    return SourceError(
        f"The adapter {folder} has {list(pair.b.shape)} times {list(pair.a.shape)} for "
        f"{target.name!r}, which is {list(target.shape)}; it belongs to another model.",
        f"{folder} 어댑터의 {list(pair.b.shape)}×{list(pair.a.shape)}이(가) {target.name!r} "
        f"{list(target.shape)}에 맞지 않습니다. 다른 모델의 어댑터입니다.",
    )


def _sum(target: Tensor, pair: _Pair, factor: np.float32) -> Callable[[int, int], FloatArray]:
    def read(start: int, stop: int) -> FloatArray:
        first = start - start % BLOCK
        last = min(-(-stop // BLOCK) * BLOCK, target.n_rows)
        left, right = _factors(pair, first, last)
        summed = np.empty((last - first, target.row_length), np.float32)
        for at in range(0, last - first, BLOCK):
            rows = np.zeros((BLOCK, pair.rank), np.float32)
            part = left[at : at + BLOCK]
            rows[: len(part)] = part
            summed[at : at + BLOCK] = (rows @ right)[: len(part)]
        summed *= factor
        kept = summed[start - first : stop - first]
        kept += target.read(start, stop)
        return kept

    return read


def _factors(pair: _Pair, first: int, last: int) -> tuple[FloatArray, FloatArray]:
    """(rows, r) and (r, columns): their product is what is added to these rows."""
    if not pair.embedding:
        return pair.b.read(first, last), pair.a.read(0, pair.rank)
    a, b = pair.a.read(0, pair.rank), pair.b.read(0, pair.b.n_rows)
    return np.ascontiguousarray(a[:, first:last].T), np.ascontiguousarray(b.T)
