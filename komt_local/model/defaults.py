"""What holds for a request where its caller says nothing: the file's word, then the template's.

llama.cpp's own tools read the same keys of a file:
https://github.com/ggml-org/llama.cpp/blob/master/src/llama-arch.cpp (LLM_KV_GENERAL_SAMPLING_*)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from ..errors import UsageError
from ..prompts import Template
from ..types import Sampling
from .asked import read_max_tokens, read_sampling, read_stops, split_options

_FILE_KEYS: Mapping[str, tuple[str, Callable[[str], float]]] = {
    "temperature": ("general.sampling.temp", float),
    "top_k": ("general.sampling.top_k", int),
    "top_p": ("general.sampling.top_p", float),
    "min_p": ("general.sampling.min_p", float),
    "repeat_penalty": ("general.sampling.penalty_repeat", float),
    "repeat_last_n": ("general.sampling.penalty_last_n", int),
}


def default_sampling(metadata: Mapping[str, str], template: Template | None) -> dict[str, float]:
    """Fields of `Sampling`: those of the file, and for a prompt by template, its authors'.

    A file's value that makes no sense is passed over, because a model is no worse for it.
    """
    found = dict(template.sampling) if template else {}
    for field, (key, read) in _FILE_KEYS.items():
        if key in metadata:
            try:
                value = read(metadata[key])
                read_sampling({field: value})
            except (ValueError, UsageError):
                continue
            found[field] = value
    return found


def own_options(metadata: Mapping[str, str], template: Template) -> dict[str, Any]:
    """What holds for an answer of `Model.stream` where its caller says nothing."""
    named = {"stop_loops": True, "template": template.name}
    return asdict(Sampling()) | named | default_sampling(metadata, template)


def check_options(options: Mapping[str, Any]) -> None:
    """Raises UsageError for options of `Model.stream` that make no sense, but for templates."""
    rest = {name: options[name] for name in options.keys() - {"max_tokens", "stop", "template"}}
    read_sampling(split_options(rest)[0])
    read_max_tokens(options.get("max_tokens"))
    read_stops(options.get("stop", ()))
