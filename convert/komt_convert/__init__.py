"""From a Hugging Face checkpoint to a verified GGUF file, in one pass.

    from komt_convert import convert
    report = convert("folder", "model.gguf", quant="Q4_K_M")

The names below are loaded when they are first used; importing the package loads nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from komt_convert.errors import ConvertError
    from komt_convert.gguf_file import Header, read_header
    from komt_convert.lora_gguf import convert_adapter
    from komt_convert.pipeline import convert
    from komt_convert.proof import FileProof, verify_file
    from komt_convert.report import Progress, Report
    from komt_convert.requantize import quantize
    from komt_convert.sizes import Survey, survey

__all__ = [
    "ConvertError",
    "FileProof",
    "Header",
    "Progress",
    "Report",
    "Survey",
    "convert",
    "convert_adapter",
    "quantize",
    "read_header",
    "survey",
    "verify_file",
]

_HOMES = {
    "ConvertError": "errors",
    "FileProof": "proof",
    "Header": "gguf_file",
    "Progress": "report",
    "Report": "report",
    "Survey": "sizes",
    "convert": "pipeline",
    "convert_adapter": "lora_gguf",
    "quantize": "requantize",
    "read_header": "gguf_file",
    "survey": "sizes",
    "verify_file": "proof",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
