"""MedMCQA (arXiv 2203.14371)."""

from pathlib import Path

from rcsd.data.benchmarks.base import CHOICE, Problem, Row, Rows, Task, choice, text_of
from rcsd.data.importers.formats import text_tags
from rcsd.data.sources import Hub
from rcsd.errors import DataError

_OPTIONS = ("opa", "opb", "opc", "opd")


def _read(row: Row, id: str) -> Problem:
    explanation = row.get("exp")
    problem = Problem(
        str(row.get("id") or id),
        text_of(row, "question"),
        solution=explanation if isinstance(explanation, str) and explanation.strip() else None,
        tags=text_tags(row, "subject_name", "choice_type"),
    )
    return choice(problem, [row.get(name) for name in _OPTIONS], row["cop"])


def _counted_from_0(rows: Rows, path: Path | None) -> Rows:
    """The published files count the right option from 1, the hub from 0, under one name."""
    found = {row.get("cop") for _, row in rows} - {None, -1}
    if not found <= {0, 1, 2, 3, 4} or {0, 4} <= found:
        shown = sorted(map(repr, found))
        raise DataError(f"expected 1 to 4, or 0 to 3, got {', '.join(shown)}", path, field="cop")
    if found and not found & {0, 4}:
        raise DataError(
            "neither 0 nor 4 is the right option of any row, so nobody can tell whether the file "
            "counts from 0 or from 1; take more rows",
            path,
            field="cop",
        )
    first = 1 if 4 in found else 0
    return [
        (n, {**row, "cop": None if row.get("cop") in (None, -1) else row["cop"] - first})
        for n, row in rows
    ]


TASK = Task(
    name="medmcqa",
    description="questions of Indian medical entrance exams",
    hub_id="openlifescienceai/medmcqa",
    hub=Hub(split="validation"),
    num_rows={"train": 182822, "validation": 4183},
    licence="Apache-2.0",
    differences="Not among the paper's benchmarks. The labels of the test split are not published.",
    grading="choice",
    columns=(("question",), ("cop",), *((name,) for name in _OPTIONS)),
    read=_read,
    instruction=CHOICE,
    files={"train": ("train.json",), "validation": ("dev.json",)},
    arrange=_counted_from_0,
)
