"""Which of the two languages to speak: every message of the program stands in both, side by side.

There is no catalogue to fall out of step: `say` takes the English and the Korean sentence where
they are used, so that neither can exist without the other.
"""

from __future__ import annotations

import os

from .errors import KomtError

_chosen: str | None = None


def use(language: str | None) -> None:
    """Speak `ko` or `en` from now on in this process; None goes back to the surroundings."""
    global _chosen
    _chosen = language


def speaks_korean() -> bool:
    """Whether to speak Korean: as `use` says, else `KOMT_LOCAL_LANG`, else the locale's language.

    The locale is read as POSIX orders it: LC_ALL, then LC_MESSAGES, then LANG.
    """
    if _chosen is not None:
        return _chosen == "ko"
    for variable in ("KOMT_LOCAL_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(variable):
            return value.lower().startswith("ko")
    return False


def say(en: str, ko: str) -> str:
    """The sentence in the user's language."""
    return ko if speaks_korean() else en


def say_error(error: Exception) -> str:
    """The error's sentence in the user's language; also for the conversion package's errors."""
    korean = error.ko if isinstance(error, KomtError) else getattr(error, "ko", "")
    return korean if korean and speaks_korean() else str(error)
