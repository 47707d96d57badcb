r"""Numbers in text, with the units that follow them.

`read_numerals` reads digits and powers of ten. `read_quantities` also reads fractions, roots and
multiples of π, and the unit behind each: ``2\sqrt{2} m``, ``3\pi/4``, ``1 1/2``, ``12 million``.
Number words, such as "five", are not read.
"""

import math
import re
from typing import NamedTuple

from rcsd.graders.answers.units import CURRENCIES, Unit, read_unit


class Quantity(NamedTuple):
    """A number as written in a normalised text, ``9.73`` of ``9.73%``, and the unit that follows.

    It begins at its sign, if it has one, and ends behind its unit.
    """

    number: float
    start: int
    end: int
    unit: Unit = Unit()


# Not part of a name (V1, H2O), a decimal or an exponent (m^2, s^-1).
_NUMERAL = re.compile(
    r"(?<![\w.^])(?<!\^-)"
    r"(?:10\^(?P<power>[+-]?\d{1,3})"
    r"|(?P<digits>\d+(?:\.\d+)?|\.\d+)"
    r"(?:[eE](?P<exponent>[+-]?\d{1,3})(?!\w)| ?\* ?10\^(?P<factor>[+-]?\d{1,3}))?)"
)
# A minus is a sign where no operand stands before it; "12 - 4" and "12-4" hold 12 and 4.
_SIGN = re.compile(r"(?:[=(\[{:,;] ?- ?|(?:^|[^\w)\]}])-)$")


def read_numerals(text: str) -> list[Quantity]:
    """Every standalone number of a text that `normalize_math` made, in order, without its unit."""
    numerals = []
    for match in _NUMERAL.finditer(text):
        exponent = match["power"] or match["exponent"] or match["factor"] or "0"
        value = float(f"{match['digits'] or '1'}e{exponent}")
        start = max(0, match.start() - 8)
        if _SIGN.search(text[start : match.start()]):
            value, start = -value, text.rindex("-", start, match.start())
        else:
            start = match.start()
        numerals.append(Quantity(value, start, match.end()))
    return numerals


_N = r"(?:\d+(?:\.\d+)?|\.\d+)"
_SYMBOLIC = re.compile(
    r"(?P<sign>(?:^|(?<=[=≈(:,;\s]))-\s?)?(?:"
    r"(?P<whole>\d+)\s+(?P<part>\d+\s?/\s?\d+)(?![\d.])"
    rf"|(?P<factor>{_N})?\s*\*?\s*(?:(?P<pi>\\pi(?![a-zA-Z])|π)|\\sqrt\s*(?P<root>{_N}))"
    rf"(?:\s?/\s?(?P<under>{_N}))?"
    rf"|(?P<fraction>{_N}\s?/\s?{_N})(?!\s?/)"
    r")(?!\s*[\^\d])(?!\s*\*\s*10)"
)


def _symbolic_value(match: re.Match[str]) -> float | None:
    """Value of a fraction, a root or a multiple of π; None: it has none."""

    def divide(fraction: str) -> float:
        over, under = fraction.split("/")
        return float(over) / float(under)

    try:
        if fraction := match["part"] or match["fraction"]:
            value = float(match["whole"] or 0) + divide(fraction)
        else:
            value = math.pi if match["pi"] else math.sqrt(float(match["root"]))
            value *= float(match["factor"] or 1) / float(match["under"] or 1)
    except (ZeroDivisionError, OverflowError):
        return None
    return -value if match["sign"] else value


_MULTIPLES = {
    value: re.compile(rf"\s*(?i:{words})(?![^\W\d_\u3040-\ud7af])\.?")
    for value, words in (  # in English and nine other languages
        (1e2, "hundreds?"),
        (1e3, "thousands?|mille|mil(?! mill)|tausend|千|천"),
        (1e4, "万|萬|만"),
        (1e5, "lakhs?"),
        (1e6, "millions?|mio|millionen|mill[oó]n(?:es)?|milion[ei]|milh(?:ão|ões)|백만"),
        (1e7, "crores?"),
        (1e8, "亿|億|억"),
        (1e9, "billions?|bn|milliards?|mrd|milliarden?|mil mill?ones|miliard[oi]|bilh(?:ão|ões)"),
        (1e12, "trillions?|兆|조"),
    )
}


def read_multiple(text: str) -> tuple[float, int]:
    """Factor that a text begins with, such as "million", and where it ends; 1 and 0: with none."""
    matches = ((value, pattern.match(text)) for value, pattern in _MULTIPLES.items())
    return next(((value, match.end()) for value, match in matches if match), (1.0, 0))


def read_quantities(text: str) -> list[Quantity]:
    """Every number of an answer that `normalize_quantity` made, in order, with its unit."""
    symbolic = [
        Quantity(value, match.start(), match.end())
        for match in _SYMBOLIC.finditer(text)
        if not re.match(r"[\w^.]", text[match.start() - 1 : match.start()])
        and (value := _symbolic_value(match)) is not None
    ]
    numerals = [
        numeral
        for numeral in read_numerals(text)
        if not any(other.start < numeral.end and numeral.start < other.end for other in symbolic)
    ]
    bare = sorted(symbolic + numerals, key=lambda quantity: quantity.start)
    return [_with_unit(text, quantity) for quantity in bare]


def _with_unit(text: str, bare: Quantity) -> Quantity:
    number, start, end = bare.number, bare.start, bare.end
    for _ in range(2):  # "3 lakh crore"
        factor, length = read_multiple(text[end:])
        number, end = number * factor, end + length
    opening = re.match(r"[\s*\\]*[\[(]?\s*", text[end:])
    unit, after = read_unit(text[end + (opening.end() if opening else 0) :])
    if unit is not None:
        return Quantity(number, start, len(text) - len(after), unit)
    if currency := re.search(rf"({'|'.join(CURRENCIES)})\s*-?$", text[:start]):
        return Quantity(number, currency.start(), end, Unit(currency[1], 1.0, (currency[1],)))
    return Quantity(number, start, end)
