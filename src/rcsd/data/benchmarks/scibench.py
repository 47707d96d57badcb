r"""SciBench (arXiv 2307.10635): numbers with units, from ten textbooks."""

import math
import re

from rcsd.data.benchmarks.base import Row, UnusableError, read_text, text_or_none
from rcsd.data.importers.notes import Notes
from rcsd.types import Example, Grading

_FACTOR = re.compile(r"^\s*\$?\s*10\^(?:\{\s*-?\d+\s*\}|-?\d+)")


def read_scibench(row: Row, id: str, notes: Notes) -> Example:
    r"""Example of a row. Typographic minus signs and thousands commas are normalised.

    A factor in the unit, as in ``$10^{-8} \mathrm{C}$``, is part of the answer and graded with it
    (1.6 then means 1.6e-8), but not shown, as in the benchmark's own code.
    """
    number = read_text(row, "answer_number").strip().replace("\u2212", "-").replace(",", "")
    try:
        if not math.isfinite(float(number)):
            raise ValueError
    except ValueError as error:
        raise UnusableError("the reference is not a number") from error
    question, source = read_text(row, "problem_text").strip(), read_text(row, "source").strip()
    if not question:
        raise UnusableError("empty question")
    return Example(
        f"{source}:{read_text(row, 'problemid').strip()}",
        question,
        number,
        text_or_none(row, "solution"),
        tags={"book": source},
        grading=Grading("number", unit=read_text(row, "unit").strip(), tolerance=0.05),
    )


def strip_factor(unit: str) -> str:
    """Unit without the power of ten that it begins with; empty if nothing is left."""
    rest = _FACTOR.sub("", unit, count=1).strip()
    if rest == unit.strip():
        return unit
    if rest.startswith("$"):
        return rest[1:].strip()
    return f"${rest}" if rest.endswith("$") else rest
