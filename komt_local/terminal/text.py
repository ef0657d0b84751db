"""Text on its way to a terminal, without what a terminal would obey."""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    """The text without control characters, but for newline and tab.

    A model's text comes from a file that somebody else made; an escape sequence in it could
    retitle the window, move the cursor or write to the clipboard.
    """
    return "".join(char for char in text if char in "\n\t" or unicodedata.category(char) != "Cc")
