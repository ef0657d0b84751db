"""Korean language models on your own machine: the Python interface of komt-local.

    from komt_local import Model

    with Model.load("model.gguf") as model:
        print(model.chat("인삼은 어떤 효과가 있나요?").text)

Importing this package loads nothing heavy; each public name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import (
        AnswerError,
        BadReference,
        Closed,
        ContextOverflow,
        DownloadError,
        EngineError,
        GatedError,
        InvalidModel,
        KomtError,
        LibraryError,
        ModelError,
        ModelNotFound,
        OfflineError,
        OutOfMemory,
        SessionError,
        TemplateError,
        UsageError,
    )
    from .model import AsyncModel, Conversation, Model
    from .types import (
        Answer,
        Event,
        Message,
        Sampling,
        Score,
        Timings,
        TokenLogprob,
        TokenScore,
        Usage,
    )

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "AnswerError",
    "AsyncModel",
    "BadReference",
    "Closed",
    "ContextOverflow",
    "Conversation",
    "DownloadError",
    "EngineError",
    "Event",
    "GatedError",
    "InvalidModel",
    "KomtError",
    "LibraryError",
    "Message",
    "Model",
    "ModelError",
    "ModelNotFound",
    "OfflineError",
    "OutOfMemory",
    "Sampling",
    "Score",
    "SessionError",
    "TemplateError",
    "Timings",
    "TokenLogprob",
    "TokenScore",
    "Usage",
    "UsageError",
]

_TYPES = {
    "Answer",
    "Event",
    "Message",
    "Sampling",
    "Score",
    "Timings",
    "TokenLogprob",
    "TokenScore",
    "Usage",
}


def _home(name: str) -> str:
    if name in _TYPES:
        return ".types"
    return ".model" if name in {"AsyncModel", "Conversation", "Model"} else ".errors"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_home(name), __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
