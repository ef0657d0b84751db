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
from komt_convert.tensors import Tensor, from_array

STRETCHED = ("default", "linear", "yarn", "dynamic")
"""`dynamic` changes nothing up to the trained context, which is the context that is written."""

STRETCHED_BY_FACTORS = (*STRETCHED, "llama3")
"""For architectures that read `rope_freqs.weight`."""

YARN = {
    "extrapolation_factor": "yarn_ext_factor",
    "attention_factor": "yarn_attn_factor",
    "beta_fast": "yarn_beta_fast",
    "beta_slow": "yarn_beta_slow",
}
"""Entry of the config → key below `rope.scaling.`"""


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
        both = {**config, **{key: v for key, v in parameters.items() if v is not None}}
        return cls(
            kind=kind,
            theta=number(both, "rope_theta", 10000.0),
            part=number(both, "partial_rotary_factor", 1.0),
            parameters=parameters,
            n_trained=integer(both, "original_max_position_embeddings", n_context),
        )

    def metadata(self, name: str) -> Metadata:
        """The keys below the architecture's `name`."""
        keys = {"freq_base": f32(self.theta)}
        if self.kind in ("linear", "yarn"):
            keys["scaling.type"] = text(self.kind)
            keys["scaling.factor"] = f32(number(self.parameters, "factor"))
        if self.kind == "yarn":
            keys["scaling.original_context_length"] = u32(self.n_trained)
            for entry, key in YARN.items():
                if self.parameters.get(entry) is not None:
                    keys[f"scaling.{key}"] = f32(number(self.parameters, entry))
        return {f"{name}.rope.{key}": value for key, value in keys.items()}

    def factors(self, head_dim: int) -> list[Tensor]:
        """`rope_freqs.weight`: what each frequency is divided by, for Llama 3.1's stretching.

        The float32 steps are those of upstream's converter to the last bit: torch divides a number
        by a tensor as number * (1 / tensor).
        """
        if self.kind != "llama3":
            return []
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
        factors = one / ((one - smooth) / factor + smooth)
        factors[wavelengths < old / high] = one
        factors[wavelengths > old / low] = factor
        return [from_array("rope_freqs.weight", factors)]
