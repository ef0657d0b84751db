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
    "Exaone4ForCausalLM": "komt_convert.arch.exaone4",
    "ExaoneForCausalLM": "komt_convert.arch.exaone",
    "GPTNeoXForCausalLM": "komt_convert.arch.gpt_neox",
    "Gemma2ForCausalLM": "komt_convert.arch.gemma2",
    "Gemma3ForCausalLM": "komt_convert.arch.gemma3",
    "Gemma3ForConditionalGeneration": "komt_convert.arch.gemma3",
    "LLaMAForCausalLM": "komt_convert.arch.llama",  # as the first conversions in 2023 wrote it
    "LlamaForCausalLM": "komt_convert.arch.llama",
    "MistralForCausalLM": "komt_convert.arch.llama",
    "Qwen2ForCausalLM": "komt_convert.arch.qwen",
    "Qwen3ForCausalLM": "komt_convert.arch.qwen",
}

NOT_IN_LLAMA_CPP = ("HyperCLOVAXForCausalLM",)
"""Classes that people will try: HyperCLOVA X SEED Think, as of llama.cpp 0c1e5709."""


def lookup(config: Mapping[str, Any]) -> Architecture:
    """The architecture that a config.json names under `architectures`.

    Raises UnsupportedError, naming those that are supported, and SourceError when the config
    names none or lacks what its architecture needs.
    """
    names = config.get("architectures")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise SourceError(
            "config.json does not say which class of transformers the model is "
            '("architectures"); download it again, or add the entry.',
            'config.json에 모델의 transformers 클래스("architectures")가 없습니다. '
            "다시 내려받거나 항목을 추가하세요.",
        )
    if names[0] in NOT_IN_LLAMA_CPP:
        raise UnsupportedError(
            f"llama.cpp cannot run the architecture {names[0]}, so no GGUF file of it would be of "
            "use; choose another model (of HyperCLOVA X SEED, the Text models work).",
            f"{names[0]} 구조는 llama.cpp가 실행하지 못해 GGUF로 바꾸어도 쓸 수 없습니다. 다른 "
            "모델을 고르세요(HyperCLOVA X SEED 중 Text 모델은 됩니다).",
        )
    if names[0] not in MODULES:
        supported = ", ".join(sorted(MODULES))
        raise UnsupportedError(
            f"The architecture {names[0]} is not supported; supported are {supported}.",
            f"{names[0]} 구조는 지원하지 않습니다. 지원하는 구조: {supported}.",
        )
    return cast("Architecture", import_module(MODULES[names[0]]).architecture(config))
