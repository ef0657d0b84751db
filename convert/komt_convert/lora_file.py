"""A LoRA adapter as PEFT saves it: pairs of matrices, how strongly each counts, and what is saved
whole beside them (embeddings, heads, norms, biases).

What would compute something else than W + factor · B·A is refused by name. Nothing is merged here.
The formats: https://github.com/huggingface/peft, tuners/lora/config.py, utils/save_and_load.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from komt_convert.errors import SourceError, UnsupportedError
from komt_convert.json_file import read_json
from komt_convert.tensors import Tensor, require_float
from komt_convert.weight_files import find_weights, read_weights

UNSUPPORTED = (
    "use_dora",
    "layer_replication",
    "trainable_token_indices",
    "alora_invocation_tokens",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "target_parameters",
    "arrow_config",
    "corda_config",
)
"""Settings of adapter_config.json that ask for more than B·A, when they are set at all."""

PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")
"""Values of `init_lora_weights` that leave the base model as it is; PiSSA and others change it."""

HALF = re.compile(
    r"(?:base_model\.model\.)?(.+)\.lora_(?:embedding_)?([AB])(?:\.default)?(\.weight)?"
)

SAVED = re.compile(
    r"(?:base_model\.model\.)?(.+?)(?:\.base_layer|\.modules_to_save(?:\.default)?)?\.(weight|bias)"
)
"""A tensor of the model itself: trained whole, or saved because the embedding was resized."""

PATTERN = re.compile(r"(?:[\w.^$|-]|\\[.d]|\[[\w-]+\])*")
LOOSE = re.compile(r"\.\*|\\d\+")
MAX_PATTERNS, MAX_PATTERN, MAX_LOOSE = 4096, 200, 2
"""Patterns are regular expressions; only those are read that are matched in no time, whatever they
match against: without groups, and with few parts of any length."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A (r, columns) and B (rows, r) of one module, whose product counts `factor` times.

    `transposed`: the module holds its weight columns first, as embeddings do.
    """

    module: str
    a: Tensor
    b: Tensor
    factor: float
    transposed: bool

    @property
    def weight(self) -> str:
        return f"{self.module}.weight"

    @property
    def rank(self) -> int:
        return self.a.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """Of the weight that the product is added to."""
        rows, columns = self.b.shape[0], self.a.shape[1]
        return (columns, rows) if self.transposed else (rows, columns)


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter; `saved` are tensors of the base model by its names, which they replace.

    `base` is what it names as its base model, `alpha` its `lora_alpha`. With `fan_in_fan_out` the
    weights of its modules may lie columns first; whether they do, their shapes tell. `separate` are
    the modules that were trained as copies of their own. `weights` are its files with tensors.
    """

    folder: Path
    base: str
    alpha: float
    fan_in_fan_out: bool
    separate: tuple[str, ...]
    pairs: tuple[Pair, ...]
    saved: Mapping[str, Tensor]
    weights: tuple[Path, ...]

    @property
    def size_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.weights)


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no model."""
    return (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file()


def read_adapter(folder: Path) -> Adapter:
    """The adapter in `folder`; no value is read.

    Raises SourceError when it is not whole, and UnsupportedError for other kinds of adapters.
    """
    config = _read_config(folder)
    files = find_weights(folder, "adapter_model", "adapter_model")
    if files is None:
        raise SourceError(
            f"{folder} has no adapter_model.safetensors; download the adapter's weights as well.",
            f"{folder} 폴더에 adapter_model.safetensors가 없습니다. 어댑터 가중치도 내려받으세요.",
        )
    halves, saved = _sort(folder, files.files[0], read_weights(files))
    pairs = tuple(_pairs(files.files[0], halves, config))
    if not pairs and not saved:
        raise _damaged(files.files[0], "it is empty", "비어 있습니다")
    return Adapter(
        folder=folder,
        base=config.base,
        alpha=config.alpha,
        fan_in_fan_out=config.fan_in_fan_out,
        separate=config.separate,
        pairs=pairs,
        saved=saved,
        weights=files.files,
    )


# --- adapter_config.json -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Config:
    base: str
    alpha: float
    alphas: Mapping[str, float]
    by_root: bool
    fan_in_fan_out: bool
    separate: tuple[str, ...]

    def factor(self, module: str, rank: int) -> float:
        """alpha / r, or alpha / sqrt(r) with `use_rslora`; alpha may be one of the module's own."""
        matching = (a for key, a in self.alphas.items() if re.match(rf"(.*\.)?({key})$", module))
        return next(matching, self.alpha) / (math.sqrt(rank) if self.by_root else rank)


def _read_config(folder: Path) -> _Config:
    config = read_json(folder / "adapter_config.json")
    _refuse_other_kinds(folder, config)
    alphas, separate = config.get("alpha_pattern") or {}, config.get("modules_to_save") or []
    if not isinstance(alphas, dict) or not isinstance(separate, list):
        raise _no_sense(folder, "alpha_pattern or modules_to_save")
    for key in alphas:
        if len(alphas) > MAX_PATTERNS or not _is_simple(key):
            raise _unsupported(folder, f"alpha_pattern {key!r}", f"alpha_pattern {key!r}")
    for alpha in (config.get("lora_alpha"), *alphas.values()):
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not _sane(alpha):
            raise _no_sense(folder, "lora_alpha")
    return _Config(
        base=str(config.get("base_model_name_or_path") or ""),
        alpha=float(config["lora_alpha"]),
        alphas=alphas,
        by_root=bool(config.get("use_rslora")),
        fan_in_fan_out=bool(config.get("fan_in_fan_out")),
        separate=tuple(map(str, separate)),
    )


def _refuse_other_kinds(folder: Path, config: Mapping[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        kind = config.get("peft_type", "no adapter_config.json")
        raise _unsupported(folder, f"not LoRA ({kind})", f"LoRA가 아님({kind})")
    for key in UNSUPPORTED:
        if config.get(key):
            raise _unsupported(folder, key, key)
    start = config.get("init_lora_weights")
    if not any(start is plain or start == plain for plain in PLAIN_STARTS):
        raise _unsupported(folder, f"init_lora_weights {start!r}", f"init_lora_weights {start!r}")


def _sane(number: float) -> bool:
    """Whether products with it are float32."""
    return -1e9 < number < 1e9


def _is_simple(pattern: str) -> bool:
    fixed = LOOSE.sub("", pattern)
    loose = len(LOOSE.findall(pattern))
    if len(pattern) > MAX_PATTERN or loose > MAX_LOOSE or not PATTERN.fullmatch(fixed):
        return False
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


# --- adapter_model.safetensors -------------------------------------------------------------------

Halves = dict[str, dict[str, Tensor]]


def _sort(
    folder: Path, path: Path, tensors: Mapping[str, Tensor]
) -> tuple[Halves, dict[str, Tensor]]:
    """The halves of pairs by module and letter, and the tensors that replace the model's own."""
    halves: Halves = {}
    saved: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        require_float(path, name, tensor.dtype)
        if match := HALF.fullmatch(name):
            halves.setdefault(match[1], {})[match[2]] = tensor
        elif (match := SAVED.fullmatch(name)) and ".lora_" not in name:
            own = f"{match[1]}.{match[2]}"
            saved[own] = replace(tensor, name=own)
        else:
            raise _unsupported(folder, repr(name), repr(name))
    return halves, saved


def _pairs(path: Path, halves: Halves, config: _Config) -> Iterator[Pair]:
    for module, half in halves.items():
        if len(half) < 2:
            raise _damaged(path, f"{module!r} lacks its other half", f"{module!r} 짝이 없습니다")
        a, b = half["A"], half["B"]
        if len(a.shape) != 2 or len(b.shape) != 2 or not 0 < a.shape[0] == b.shape[1]:
            raise _damaged(
                path,
                f"the halves of {module!r}, {list(b.shape)} and {list(a.shape)}, are no pair",
                f"{module!r}의 {list(b.shape)}와 {list(a.shape)}는 짝이 아닙니다",
            )
        factor = config.factor(module, a.shape[0])
        yield Pair(module, a, b, factor, transposed="lora_embedding_" in a.name)


# --- errors --------------------------------------------------------------------------------------


def _unsupported(folder: Path, en: str, ko: str) -> UnsupportedError:
    return UnsupportedError(
        f"The adapter {folder} asks for {en}, which is not merged here; merge it with PEFT "
        "(merge_and_unload) and convert the result.",
        f"{folder} 어댑터의 설정({ko})은 여기서 합칠 수 없습니다. PEFT의 merge_and_unload로 "
        "합친 뒤 변환하세요.",
    )


def _no_sense(folder: Path, key: str) -> SourceError:
    path = folder / "adapter_config.json"
    return SourceError(
        f"The value of {key} in {path} makes no sense; download it again.",
        f"{path}의 {key} 값이 올바르지 않습니다. 다시 내려받으세요.",
    )


def _damaged(path: Path, en: str, ko: str) -> SourceError:
    return SourceError(
        f"{path} is not whole: {en}; download it again.",
        f"{path} 파일이 온전하지 않습니다: {ko}. 다시 내려받으세요.",
    )
