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
    from komt_convert.pipeline import convert
    from komt_convert.report import Progress, Report

__all__ = ["ConvertError", "Header", "Progress", "Report", "convert", "read_header"]

_HOMES = {
    "ConvertError": "errors",
    "Header": "gguf_file",
    "Progress": "report",
    "Report": "report",
    "convert": "pipeline",
    "read_header": "gguf_file",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
