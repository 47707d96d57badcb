r"""SciBench (arXiv 2307.10635): numbers with units, from ten textbooks."""

import math
import re

from rcsd.data.benchmarks.base import Problem, Row, Task, UnusableError, text_of
from rcsd.data.sources import Hub

_BOOKS = (
    "atkins", "calculus", "chemmc", "class", "diff", "fund", "matter", "quan", "stat", "thermo",
)  # fmt: skip
_FACTOR = re.compile(r"\s*\$?\s*10\^(?:\{\s*-?\d+\s*\}|-?\d+)")


def _read(row: Row, id: str) -> Problem:
    r"""A problem. Typographic minus signs and commas between thousands become a number's in code.

    A factor in the unit, as in ``$10^{-8} \mathrm{C}$``, is part of the answer and graded with it
    (1.6 then means 1.6e-8), but not shown, as in the benchmark's own code.
    """
    del id
    number = text_of(row, "answer_number").strip().replace("\u2212", "-").replace(",", "")
    try:
        is_number = math.isfinite(float(number))
    except ValueError:
        is_number = False
    if not is_number:
        raise UnusableError("the reference is not a number")
    question = text_of(row, "problem_text").strip()
    if not question:
        raise UnusableError("empty question")
    solution, source = row.get("solution"), text_of(row, "source").strip()
    return Problem(
        f"{source}:{text_of(row, 'problemid').strip()}",
        question,
        reference=number,
        solution=solution if isinstance(solution, str) and solution.strip() else None,
        unit=text_of(row, "unit").strip(),
        tags={"book": source},
    )


def shown_unit(unit: str) -> str:
    """A unit without the factor that it begins with; empty: nothing is left."""
    found = _FACTOR.match(unit)
    if found is None:
        return unit
    rest = unit[found.end() :].strip()
    if rest.startswith("$"):
        return rest[1:].strip()
    return f"${rest}" if rest.endswith("$") else rest


TASK = Task(
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
    tolerance=0.05,
    files={"train": tuple(f"{book}{part}.json" for book in _BOOKS for part in ("", "_sol"))},
)
