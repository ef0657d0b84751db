"""`pattern` as GBNF: regular expressions, as far as they are regular, over a JSON string's text.

Literals, classes, groups, alternatives, repetitions, and `^` and `$` at the ends. A pattern without
them may stand anywhere in the text. Classes by letter are those of ECMA 262, which JSON Schema
names: `\\d` and `\\w` are ASCII. Looking ahead, references and word boundaries have no grammar.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass

FORMATS = {
    "date": r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$",
    "time": r"^([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$",
    "uuid": r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
}
"""Values of `format` that are patterns."""
FORMATS["date-time"] = FORMATS["date"][:-1] + "T" + FORMATS["time"][1:]

_MOST_ELEMENTS = 2000
"""Of one pattern, with its repetitions written out; llama.cpp refuses more."""
_REPEAT = re.compile(r"\{(\d{1,4})(,(\d{0,4}))?\}")
_ESCAPED = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v"}
_SHORT = '"\\\b\f\n\r\t'
"""Characters that JSON writes as a backslash and one more."""

_Ranges = list[tuple[int, int]]
_DIGIT: _Ranges = [(0x30, 0x39)]
_WORD: _Ranges = [(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)]
_SPACE: _Ranges = [(0x09, 0x0D), (0x20, 0x20)]
_ANY_SPACE: _Ranges = [
    *_SPACE, (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A),
    (0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF),
]  # fmt: skip
_LINE_END: _Ranges = [(0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029)]


class _Irregular(Exception):
    """There is no grammar for it here."""


@dataclass(frozen=True, slots=True)
class _Part:
    """GBNF, whether it allows the empty text, and how much it is when written out."""

    text: str
    nullable: bool = False
    size: int = 1


def pattern_of_text(pattern: str) -> str | None:
    """GBNF for the texts, as JSON writes them, in which the pattern is found; None without one."""
    try:
        return _Reader(pattern).whole()
    except (_Irregular, RecursionError):
        return None


class _Reader:
    """A pattern from left to right."""

    def __init__(self, pattern: str) -> None:
        self._pattern, self._at = pattern, 0

    def whole(self) -> str:
        """All of it; each alternative at the top has ends of its own."""
        options = []
        while True:
            begins = self._take("^")
            part = self._sequence()
            ends = self._take("$")
            options.append(f"{'' if begins else 'char* '}{part.text}{'' if ends else ' char*'}")
            if not self._take("|"):
                break
        if self._at < len(self._pattern):
            raise _Irregular
        return f"({' | '.join(options)})"

    def _next(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _take(self, text: str) -> bool:
        found = self._pattern.startswith(text, self._at)
        self._at += len(text) if found else 0
        return found

    def _one(self) -> str:
        """The next character. The pattern has been compiled before, so that there is one."""
        self._at += 1
        return self._pattern[self._at - 1]

    def _alternatives(self) -> _Part:
        options = [self._sequence()]
        while self._take("|"):
            options.append(self._sequence())
        text = " | ".join(option.text for option in options)
        nullable = any(option.nullable for option in options)
        return _Part(f"({text})", nullable, _sum(options))

    def _sequence(self) -> _Part:
        parts = []
        while self._next() not in ("", "|", ")", "$"):
            parts.append(self._repeated(self._atom()))
        text = " ".join(part.text for part in parts) or '""'
        return _Part(text, all(part.nullable for part in parts), _sum(parts))

    def _repeated(self, part: _Part) -> _Part:
        least, most = self._times()
        if (least, most) == (1, 1):
            return part
        size = part.size * max(least, most or 0, 1)
        if size > _MOST_ELEMENTS or (part.nullable and most is None):
            raise _Irregular  # the second would be a rule that begins with itself
        times = f"{{{least},{'' if most is None else most}}}"
        return _Part(f"({part.text}){times}", part.nullable or least == 0, size)

    def _times(self) -> tuple[int, int | None]:
        simple = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        if self._next() in simple:
            times: tuple[int, int | None] = simple[self._one()]
        elif found := _REPEAT.match(self._pattern, self._at):
            self._at = found.end()
            least = int(found[1])
            most = least if not found[2] else int(found[3]) if found[3] else None
            times = (least, most)
        else:
            return 1, 1
        self._take("?")  # a lazy one finds the same texts
        if self._next() in ("+", "*", "{"):
            raise _Irregular
        return times

    def _atom(self) -> _Part:
        char = self._one()
        if char == "(":
            return self._group()
        if char == "[":
            return _one_of(self._class())
        if char == ".":
            return _one_of(_complement(_LINE_END))
        if char == "\\":
            return _one_of(self._escape())
        if char in "^*+?" or (char == "{" and self._next() == ","):
            raise _Irregular
        return _one_of([(ord(char), ord(char))])

    def _group(self) -> _Part:
        if self._take("?") and not self._take(":"):
            raise _Irregular
        part = self._alternatives()
        if not self._take(")"):
            raise _Irregular  # a `$` in the middle
        return part

    def _class(self) -> _Ranges:
        negated, ranges = self._take("^"), []
        while True:
            found = self._class_member()
            if self._next() == "-" and self._pattern[self._at + 1] != "]":
                self._at += 1
                last = self._class_member()
                if len(found) > 1 or len(last) > 1:
                    raise _Irregular
                found = [(found[0][0], last[0][1])]
            ranges += found
            if self._take("]"):
                return _complement(ranges) if negated else ranges

    def _class_member(self) -> _Ranges:
        char = self._one()
        return self._escape() if char == "\\" else [(ord(char), ord(char))]

    def _escape(self) -> _Ranges:
        char = self._one()
        named = {"d": _DIGIT, "w": _WORD, "s": _SPACE}
        if char in named:
            return named[char]
        if char in "DWS":
            return _complement({"D": _DIGIT, "W": _WORD, "S": _ANY_SPACE}[char])
        if char in "xu":
            digits = self._pattern[self._at : self._at + (2 if char == "x" else 4)]
            self._at += len(digits)
            return [(int(digits, 16), int(digits, 16))]
        char = _ESCAPED.get(char, char)
        if char.isalnum():
            raise _Irregular
        return [(ord(char), ord(char))]


def _sum(parts: Iterable[_Part]) -> int:
    size = sum(part.size for part in parts)
    if size > _MOST_ELEMENTS:
        raise _Irregular
    return size


def _complement(ranges: _Ranges) -> _Ranges:
    """All characters but these."""
    found, first = [], 0
    for low, high in sorted(ranges):
        if low > first:
            found.append((first, low - 1))
        first = max(first, high + 1)
    return [*found, (first, sys.maxunicode)] if first <= sys.maxunicode else found


def _one_of(ranges: _Ranges) -> _Part:
    """One character as JSON writes it in a string: as it is, or with a backslash."""
    escaped = [char for char in _SHORT if any(low <= ord(char) <= high for low, high in ranges)]
    bare = _complement([*_complement(ranges), (0, 0x1F), (0x22, 0x22), (0x5C, 0x5C)])
    options = [f'"\\\\{_in_literal(json.dumps(char)[2])}"' for char in escaped]
    if bare:
        options.insert(0, f"[{''.join(map(_in_class, bare))}]")
    if not options:
        raise _Irregular
    return _Part(options[0] if len(options) == 1 else f"({' | '.join(options)})")


def _in_literal(char: str) -> str:
    return {'"': '\\"', "\\": "\\\\"}.get(char, char)


def _in_class(range_: tuple[int, int]) -> str:
    low, high = map(_code, range_)
    return low if low == high else f"{low}-{high}"


def _code(number: int) -> str:
    char = chr(number)
    if char.isalnum():
        return char
    return f"\\x{number:02x}" if number < 0x80 else f"\\U{number:08x}"
