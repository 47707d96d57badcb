"""Names, numbers and intervals as text. Imports neither torch nor scipy."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rcsd.types import UnitRule

if TYPE_CHECKING:
    from rcsd.evaluation.statistics import Interval

UNIT_WORDS: Mapping[UnitRule, str] = {
    "accept_absent": "a number without its unit passes, a wrong unit fails",
    "ignore": "the number alone decides",
    "require": "the number must have its unit",
}
MINUS, NOTHING = "\N{MINUS SIGN}", "\N{EN DASH}"


def spaced(name: str) -> str:
    """A key as words: ``new_numbers`` -> ``new numbers``."""
    return name.replace("_", " ")


def number(value: float, signed: bool = False) -> str:
    """About three significant digits, two decimals at least below 10, with a true minus sign."""
    size = abs(value)
    if 0 < size < 0.0005:
        mantissa, exponent = f"{size:.2e}".split("e")
        digits = f"{float(mantissa):g}e{int(exponent)}".replace("-", MINUS)
    else:
        decimals = 0 if size >= 100 else 1 if size >= 10 else 2 if size == 0 or size >= 0.005 else 3
        digits = f"{size:,.{decimals}f}"
    return (MINUS if value < 0 else "+" if signed and value > 0 else "") + digits


def count_text(counts: Sequence[int]) -> str:
    """``n = 200``, or ``n = 180 to 200``."""
    low, high = min(counts), max(counts)
    return f"n = {low:,}" if low == high else f"n = {low:,} to {high:,}"


def interval_text(interval: "Interval | None", spec: str = ".3f") -> str:
    """``0.610 [0.552, 0.668]``; a dash where there is no estimate."""
    return NOTHING if interval is None else format(interval, spec)


def stacked(interval: "Interval | None", spec: str = ".3f") -> str:
    """The same in two lines, for tables with many columns."""
    return interval_text(interval, spec).replace(" [", "\n[")


def p_value_text(p_value: float | None) -> str:
    """``0.034``, ``< 0.001``, or a dash where there is none."""
    if p_value is None:
        return NOTHING
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"
