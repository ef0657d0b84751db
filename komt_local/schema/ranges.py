"""`minimum` and `maximum` as GBNF: the decimal numerals of a range, digit by digit.

A numeral has no exponent, and at most 16 digits before and after the point. What is written here
lies in the range; where both ends have digits after one and the same whole part, and at an excluded
end that has some, a few numerals outside it are left to the check of the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from .reading import Schema, bad_schema

_DIGITS = 16
_MOST_DIGITS = 30
"""Bounds with more digits are left to the check of the answer."""
_FRACTION = f'("." [0-9]{{1,{_DIGITS}}})?'


def in_range(schema: Schema, *, whole: bool) -> str | None:
    """What stands for the numbers that the schema allows; None where it sets no bound.

    `whole` is for the type `integer`. Raises UsageError where no number lies between the bounds.
    """
    least, above = _bound(schema, "minimum", "exclusiveMinimum", max)
    most, below = _bound(schema, "maximum", "exclusiveMaximum", min)
    if any(_digits(bound) > _MOST_DIGITS for bound in (least, most)) or least is most is None:
        return None
    _refuse_empty(least, most, is_open=above or below)
    if whole:
        first = None if least is None else _up(least, strictly=above)
        last = None if most is None else -_up(-most, strictly=below)
        found = _integers(first, last)
    else:
        found = _numbers(least, above, most, below)
    options = list(found)
    if not options:
        raise _nothing_between(least, most)
    return f"({' | '.join(options)})"


def _bound(
    schema: Schema, name: str, exclusive: str, stricter: Callable[[list[Decimal]], Decimal]
) -> tuple[Decimal | None, bool]:
    """The bound that counts, and whether it is itself outside."""
    found = [Decimal(str(schema[key])) for key in (name, exclusive) if key in schema]
    if not found:
        return None, False
    bound = stricter(found)
    return bound, exclusive in schema and Decimal(str(schema[exclusive])) == bound


def _digits(bound: Decimal | None) -> int:
    if bound is None:
        return 0
    return max(bound.adjusted() + 1, 0) + max(-int(bound.as_tuple().exponent), 0)


def _up(bound: Decimal, *, strictly: bool) -> int:
    """The first whole number from the bound on, or beyond it."""
    if strictly:
        return int(bound.to_integral_value(ROUND_FLOOR)) + 1
    return int(bound.to_integral_value(ROUND_CEILING))


def _refuse_empty(least: Decimal | None, most: Decimal | None, *, is_open: bool) -> None:
    if least is not None and most is not None and (least > most or (least == most and is_open)):
        raise _nothing_between(least, most)


def _nothing_between(least: Decimal | None, most: Decimal | None) -> Exception:
    return bad_schema(
        f"no number lies between its bounds {least} and {most}",
        f"한계 {least}와 {most} 사이에 수가 없음",
    )


def _integers(least: int | None, most: int | None) -> Iterator[str]:
    limit = 10 ** max(_DIGITS, len(str(least)), len(str(most))) - 1
    least, most = -limit if least is None else least, limit if most is None else most
    if least < 0:
        yield from (f'"-" {each}' for each in _whole(max(1, -most), -least))
    if most >= 0:
        yield from _whole(max(0, least), most)


def _numbers(
    least: Decimal | None, above: bool, most: Decimal | None, below: bool
) -> Iterator[str]:
    zero = Decimal(0)
    if most is None or most > 0 or (most == 0 and not below):
        if least is None or least < 0:
            yield from _magnitudes(zero, False, most, below)
        else:
            yield from _magnitudes(least, above, most, below)
    if least is None or least < 0:
        nearest = (-most, below) if most is not None and most <= 0 else (zero, False)
        farthest = (None, False) if least is None else (-least, above)
        yield from (f'"-" {each}' for each in _magnitudes(*nearest, *farthest))


def _magnitudes(least: Decimal, above: bool, most: Decimal | None, below: bool) -> Iterator[str]:
    """Numerals without a sign from `least`, which is not negative, to `most`."""
    first, after_first = _parts(least)
    if most is None:
        last, after_last = 10 ** max(_DIGITS, len(str(first)) + 1), ""
    else:
        last, after_last = _parts(most)
    yield from (f"{each} {_FRACTION}" for each in _whole(first + 1, last - 1))
    if first == last:
        yield f'"{first}" {_FRACTION if after_first else _at_most(after_last)}'
        return
    yield f'"{first}" {_at_least(after_first, above)}'
    if most is not None and (after_last or not below):
        yield f'"{last}" {_at_most(after_last)}'


def _parts(number: Decimal) -> tuple[int, str]:
    """The whole part, and the digits after the point without zeros at their end."""
    whole, _, after = f"{number:f}".partition(".")
    return int(whole), after.rstrip("0")


def _at_least(digits: str, above: bool) -> str:
    """What follows the whole part where the digits after the point must not be fewer."""
    if not digits:
        return f'"." [0-9]{{0,{_DIGITS - 1}}} [1-9]' if above else _FRACTION
    n = len(digits)
    options = [f"{_between(digits, '9' * n)} [0-9]{{0,{_DIGITS}}}"]
    for length in range(1, n):
        if (first := int(digits[:length]) + 1) < 10**length:
            options.append(_between(f"{first:0{length}}", "9" * length))
    return f'"." ({" | ".join(options)})'


def _at_most(digits: str) -> str:
    """What follows the whole part where the digits after the point must not be more."""
    if not digits:
        return f'("." "0"{{1,{_DIGITS}}})?'
    n = len(digits)
    options = [_between("0" * length, digits[:length]) for length in range(1, n)]
    if less := int(digits):
        options.append(f"{_between('0' * n, f'{less - 1:0{n}}')} [0-9]{{0,{_DIGITS}}}")
    options.append(f'"{digits}" "0"{{0,{_DIGITS}}}')
    return f'("." ({" | ".join(options)}))?'


def _whole(least: int, most: int) -> Iterator[str]:
    """The numerals of whole numbers from one that is not negative to another, by their lengths."""
    for length in range(len(str(least)), len(str(most)) + 1):
        first = max(least, 10 ** (length - 1) if length > 1 else 0)
        last = min(most, 10**length - 1)
        if first <= last:
            yield _between(str(first), str(last))


def _between(first: str, last: str) -> str:
    """The digit strings of one length from the first to the last."""
    if not first:
        return '""'
    rest, more = len(first) - 1, ""
    if rest:
        more = f" [0-9]{{{rest}}}"
    if first[1:] == "0" * rest and last[1:] == "9" * rest:
        return f"[{first[0]}-{last[0]}]{more}"
    if first[0] == last[0]:
        return f'"{first[0]}" {_between(first[1:], last[1:])}'
    options = [f'"{first[0]}" {_between(first[1:], "9" * rest)}']
    if int(last[0]) - int(first[0]) > 1:
        options.append(f"[{int(first[0]) + 1}-{int(last[0]) - 1}]{more}")
    options.append(f'"{last[0]}" {_between("0" * rest, last[1:])}')
    return f"({' | '.join(options)})"
