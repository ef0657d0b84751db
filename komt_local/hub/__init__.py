"""How models come here: from the Hugging Face Hub into its own cache, proven by their digests.

    pull("komt-mistral-7b-v1:Q4_K_M")     a GGUF file, downloaded or converted on the way
    source("org/repo")                    the folder of a checkpoint or adapter, for a conversion

The names below are loaded when they are first used. What is here already is the business of
`komt_local.library`; this package is the only one that opens a connection to another machine.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import Hub
    from .checkpoints import source
    from .download import OnProgress, Progress
    from .plan import Plan, make_plan
    from .pulling import Pulled, carry_out, find_offline, pull

_HOMES = {
    "Hub": "api",
    "OnProgress": "download",
    "Plan": "plan",
    "Progress": "download",
    "Pulled": "pulling",
    "carry_out": "pulling",
    "find_offline": "pulling",
    "make_plan": "plan",
    "pull": "pulling",
    "source": "checkpoints",
}

__all__ = [
    "Hub",
    "OnProgress",
    "Plan",
    "Progress",
    "Pulled",
    "carry_out",
    "find_offline",
    "make_plan",
    "pull",
    "source",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
