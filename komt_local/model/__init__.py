"""The Python interface: load a model, have it answer, keep a conversation with it.

    with Model.load("model.gguf") as model:
        answer = model.chat("인삼은 어떤 효과가 있나요?")

`api` is `Model`, on top of the `reader` of what its file says; `options` and `loading` decide how
it is opened, before anything large is taken; `answers` turns token ids into events, `conversation`
keeps a dialogue. Everything that answers is one stream of events; what returns a whole answer is a
fold over it.
"""

from __future__ import annotations

from .answers import fold
from .api import Model
from .asynchronous import AsyncModel
from .conversation import Conversation
from .loading import Note

__all__ = ["AsyncModel", "Conversation", "Model", "Note", "fold"]
