r"""SciBench (arXiv 2307.10635): numbers with units, from ten textbooks."""

import math
import re

from rcsd.data.benchmarks.base import Row, Task, UnusableError, read_text, text_or_none
from rcsd.data.importers.notes import Notes
from rcsd.data.sources import Hub
from rcsd.types import Example, Grading

_BOOKS = (
    "atkins", "calculus", "chemmc", "class", "diff", "fund", "matter", "quan", "stat", "thermo",
)  # fmt: skip
_FACTOR = re.compile(r"\s*\$?\s*10\^(?:\{\s*-?\d+\s*\}|-?\d+)")


def _read(row: Row, id: str, notes: Notes) -> Example:
    r"""Example of a row. Typographic minus signs and thousands commas are normalised.

    A factor in the unit, as in ``$10^{-8} \mathrm{C}$``, is part of the answer and graded with it
    (1.6 then means 1.6e-8), but not shown, as in the benchmark's own code.
    """
    number = read_text(row, "answer_number").strip().replace("\u2212", "-").replace(",", "")
    try:
        is_number = math.isfinite(float(number))
    except ValueError:
        is_number = False
    if not is_number:
        raise UnusableError("the reference is not a number")
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
    match = _FACTOR.match(unit)
    if match is None:
        return unit
    rest = unit[match.end() :].strip()
    if rest.startswith("$"):
        return rest[1:].strip()
    return f"${rest}" if rest.endswith("$") else rest


SCIBENCH = Task(
    name="scibench",
    description="college problems in physics, chemistry and mathematics, answered by a number",
    hub_id="xw27/scibench",
    hub=Hub(split="train"),
    num_rows={"train": 692},
    licence="MIT",
    differences=(
        "All ten books, with the problems that have solutions (*_sol.json). The paper's released "
        "code evaluates in a framework that takes physics, chemistry and mathematics apart; which "
        "of them its number is over is unknown. A number is right within 5%, as in the benchmark."
    ),
    grading="number",
    columns=(("problem_text",), ("answer_number",), ("unit",), ("source",), ("problemid",)),
    read=_read,
    instruction=r"Reason step by step, then put the number within \boxed{{}}{unit}.",
    files={"train": tuple(f"{book}{part}.json" for book in _BOOKS for part in ("", "_sol"))},
)
