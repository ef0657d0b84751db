"""Dialogues that outlive the program: their text, and the memory of them beside it.

    NAME.jsonl       what was said, one JSON object per line, appended as it is said
    NAME.kv          what llama.cpp holds of it, so that nothing is read anew; NAME.kv.json binds it

The text is what counts: a memory that does not fit, or is not whole, is dropped with a note, and
the dialogue is read again. `journal` is the text, `memory` the files of llama.cpp, `keeper` keeps
both while a dialogue goes on. Nothing is ever unpickled.
"""

from __future__ import annotations

from .journal import Journal, latest, session_path
from .keeper import Keeper

__all__ = ["Journal", "Keeper", "latest", "session_path"]
