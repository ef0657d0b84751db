"""Which architectures can be converted: the class name in config.json → the module that knows it.

A new architecture is one module here with a function `architecture(config)`, and one line in the
table. Nothing is looked up by a model's name, and nothing unknown passes for something known.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from komt_convert.errors import SourceError, UnsupportedError

if TYPE_CHECKING:
    from komt_convert.arch.base import Architecture

MODULES = {
    "LLaMAForCausalLM": "komt_convert.arch.llama",  # as the first conversions in 2023 wrote it
    "LlamaForCausalLM": "komt_convert.arch.llama",
    "MistralForCausalLM": "komt_convert.arch.llama",
}


def lookup(config: Mapping[str, Any]) -> Architecture:
    """The architecture that a config.json names under `architectures`.

    Raises UnsupportedError, naming those that are supported, and SourceError when the config
    names none or lacks what its architecture needs.
    """
    names = config.get("architectures")
    if not isinstance(names, list) or not names:
        raise SourceError(
            "config.json does not say which class of transformers the model is "
            '("architectures"); download it again, or add the entry.',
            'config.json에 모델의 transformers 클래스("architectures")가 없습니다. '
            "다시 내려받거나 항목을 추가하세요.",
        )
    if names[0] not in MODULES:
        supported = ", ".join(sorted(MODULES))
        raise UnsupportedError(
            f"The architecture {names[0]} is not supported; supported are {supported}.",
            f"{names[0]} 구조는 지원하지 않습니다. 지원하는 구조: {supported}.",
        )
    return cast("Architecture", import_module(MODULES[names[0]]).architecture(config))
