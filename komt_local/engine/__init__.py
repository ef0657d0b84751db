"""Requests in, token ids out, several at once on one context.

    engine.submit(tokens, ...) -> Request      iterate it for ids; then `outcome` says why it ended

It speaks token ids, never text. `worker` is the thread that owns the context, `request` what it
and a caller hold in common. They meet in two places only: an inbox of commands under one
condition, and a queue of tokens per request.
"""

from __future__ import annotations

from .request import Outcome, Request
from .steps import Backend
from .worker import Engine

__all__ = ["Backend", "Engine", "Outcome", "Request"]
