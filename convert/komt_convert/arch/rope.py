"""The rotary embedding of a config.json, under all its names, and how it is stretched.

The settings were renamed more than once: `rope_parameters` holds them all since transformers 5;
before, `rope_theta` stood beside `rope_scaling`. What one architecture calls otherwise still, it
renames before it asks here. The kinds: transformers' modeling_rope_utils.py.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from komt_convert.arch.base import integer, number, refuse
from komt_convert.metadata import Metadata, f32, text, u32
from komt_convert.tensors import FloatArray, Tensor, from_array

STRETCHED = ("default", "linear", "yarn", "dynamic")
"""`dynamic` changes nothing up to the trained context, which is the context that is written."""

STRETCHED_BY_FACTORS = (*STRETCHED, "llama3")
"""For architectures that read `rope_freqs.weight`."""

BETAS = (32.0, 1.0)
"""What YaRN's `beta_fast` and `beta_slow` are in llama.cpp, which reads others for two models."""


@dataclass(frozen=True, slots=True)
class Rope:
    """`theta`, the part of each head that is rotated, and the stretching by its `parameters`."""

    kind: str
    theta: float
    part: float
    parameters: Mapping[str, Any]
    n_trained: int

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], n_context: int, kinds: Collection[str] = STRETCHED
    ) -> Rope:
        """Raises UnsupportedError for a kind that is not among `kinds`."""
        parameters = config.get("rope_parameters") or config.get("rope_scaling") or {}
        if not isinstance(parameters, dict):
            raise refuse("rope_scaling", parameters)
        kind = parameters.get("rope_type", parameters.get("type", "default"))
        if not isinstance(kind, str) or kind not in kinds:
            raise refuse("rope_scaling", parameters)
        if kind == "yarn" and _is_unusual(parameters) and "llama3" not in kinds:
            raise refuse("rope_scaling", parameters)
        both = {**config, **{key: v for key, v in parameters.items() if v is not None}}
        theta = number(both, "rope_theta", 10000.0)
        if theta <= 1:
            raise refuse("rope_theta", theta)
        return cls(
            kind=kind,
            theta=theta,
            part=number(both, "partial_rotary_factor", 1.0),
            parameters=parameters,
            n_trained=integer(both, "original_max_position_embeddings", n_context),
        )

    def metadata(self, name: str) -> Metadata:
        """The keys below the architecture's `name`."""
        keys = {"freq_base": f32(self.theta)}
        if self.kind in ("linear", "yarn") and not self.by_factors:
            keys["scaling.type"] = text(self.kind)
            keys["scaling.factor"] = f32(number(self.parameters, "factor"))
        if self.kind == "yarn":
            keys |= self.yarn_metadata()
        return {f"{name}.rope.{key}": value for key, value in keys.items()}

    def yarn_metadata(self) -> Metadata:
        """llama.cpp makes queries and keys longer as YaRN does; what is said is how much more."""
        keys: Metadata = {}
        usual = _longer(number(self.parameters, "factor"), 1.0)
        if self.by_factors:
            usual = 1.0
        else:
            keys["scaling.original_context_length"] = u32(self.n_trained)
        if not math.isclose(self.lengthening, usual):
            keys["scaling.attn_factor"] = f32(self.lengthening / usual)
        return keys

    @property
    def lengthening(self) -> float:
        """By how much YaRN makes queries and keys longer (`attention_factor`)."""
        said, factor = self.parameters, number(self.parameters, "factor")
        if said.get("attention_factor") is not None:
            return number(said, "attention_factor")
        if said.get("mscale") and said.get("mscale_all_dim"):
            both = (_longer(factor, number(said, key)) for key in ("mscale", "mscale_all_dim"))
            return next(both) / next(both)
        return _longer(factor, 1.0)

    @property
    def by_factors(self) -> bool:
        """Whether it is YaRN of a kind for which llama.cpp has no keys."""
        return self.kind == "yarn" and _is_unusual(self.parameters)

    def factors(self, head_dim: int) -> list[Tensor]:
        """`rope_freqs.weight`: what each frequency is divided by; nothing where keys say it."""
        if self.by_factors:
            return [from_array("rope_freqs.weight", self._factors_of_yarn(head_dim))]
        if self.kind == "llama3":
            return [from_array("rope_freqs.weight", self._factors_of_llama3(head_dim))]
        return []

    def _factors_of_yarn(self, head_dim: int) -> FloatArray:
        beta_fast, beta_slow = _betas(self.parameters)
        low, high = (
            head_dim * math.log(self.n_trained / (beta * 2 * math.pi)) / (2 * math.log(self.theta))
            for beta in (beta_fast, beta_slow)
        )
        if self.parameters.get("truncate", True):
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, head_dim - 1)
        ramp = (np.arange(head_dim // 2) - low) / (high - low if high != low else 0.001)
        stretched = np.clip(ramp, 0, 1)
        factor = number(self.parameters, "factor")
        factors: FloatArray = (1 / (stretched / factor + 1 - stretched)).astype(np.float32)
        return factors

    def _factors_of_llama3(self, head_dim: int) -> FloatArray:
        """The float32 steps are those of upstream's converter to the last bit.

        torch divides a number by a tensor as number * (1 / tensor).
        """
        one, old = np.float32(1), np.float32(self.n_trained)
        factor = np.float32(number(self.parameters, "factor", 8.0))
        low = np.float32(number(self.parameters, "low_freq_factor", 1.0))
        high = np.float32(number(self.parameters, "high_freq_factor", 4.0))
        if high <= low:
            raise refuse("rope_scaling", self.parameters)
        exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
        frequencies = one / np.power(self.theta, exponents, dtype=np.float64).astype(np.float32)
        wavelengths = np.float32(2 * math.pi) * (one / frequencies)
        smooth = (old * (one / wavelengths) - low) / (high - low)
        factors: FloatArray = one / ((one - smooth) / factor + smooth)
        factors[wavelengths < old / high] = one
        factors[wavelengths > old / low] = factor
        return factors


def _betas(parameters: Mapping[str, Any]) -> tuple[float, float]:
    fast, slow = BETAS
    return number(parameters, "beta_fast", fast), number(parameters, "beta_slow", slow)


def _is_unusual(parameters: Mapping[str, Any]) -> bool:
    return _betas(parameters) != BETAS or not parameters.get("truncate", True)


def _longer(factor: float, mscale: float) -> float:
    return 0.1 * mscale * math.log(factor) + 1 if factor > 1 else 1.0
