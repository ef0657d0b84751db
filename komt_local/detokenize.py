"""From the bytes of tokens to text that may be shown, one piece at a time.

A token is bytes, not characters: a Hangul syllable is three bytes, often in three tokens. Text is
let out as soon as it is whole and can no longer become a stop string. This module knows neither
models nor token ids.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """Turns pieces of bytes into text, up to the first of the `stops`.

    The texts that `feed` and `finish` return, put together, are the whole answer decoded at once
    and cut at the stop that is complete first (of two that end together, the longer one), however
    the bytes were split. Bytes that are no UTF-8 become U+FFFD, as `bytes.decode` does it. With
    `drops_first_space` one space in front of everything is left out, as SentencePiece does when
    it decodes.
    """

    def __init__(self, stops: Sequence[str] = (), *, drops_first_space: bool = False) -> None:
        self.stopped = False
        self._drops_space = drops_first_space
        self._stops = tuple(stop for stop in stops if stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def feed(self, piece: bytes) -> str:
        """The text that these bytes make certain; empty once a stop was seen."""
        if self._drops_space and piece:
            self._drops_space = False
            piece = piece.removeprefix(b" ")
        return self._release(self._decoder.decode(piece))

    def finish(self) -> str:
        """What was held back, at the end of the answer: nothing is dropped but a stop."""
        text = self._release(self._decoder.decode(b"", final=True))
        held, self._held = self._held, ""
        return text + held

    def _release(self, new: str) -> str:
        if self.stopped or not self._stops:
            return "" if self.stopped else new
        text = self._held + new
        cut = first_stop(text, self._stops)
        if cut is not None:
            self.stopped, self._held = True, ""
            return text[:cut]
        safe = len(text) - _possible_start(text, self._stops)
        self._held = text[safe:]
        return text[:safe]


def first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where the stop begins that is complete first; None without one."""
    found = [(start + len(stop), start) for stop in stops if (start := text.find(stop)) >= 0]
    return min(found)[1] if found else None


def _possible_start(text: str, stops: Sequence[str]) -> int:
    """The length of the longest end of `text` with which a stop begins."""
    longest = min(len(text), max(map(len, stops)) - 1)
    for length in range(longest, 0, -1):
        if any(stop.startswith(text[-length:]) for stop in stops):
            return length
    return 0
