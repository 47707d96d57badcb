"""PIQA (arXiv 1911.11641)."""

from pathlib import Path

from rcsd.data.benchmarks.base import (
    CHOICE,
    Problem,
    Row,
    Rows,
    Task,
    choice,
    text_of,
)
from rcsd.data.rows import read_bytes
from rcsd.data.sources import Hub
from rcsd.errors import DataError


def _read(row: Row, id: str) -> Problem:
    label = row.get("label")
    if not isinstance(label, int) or isinstance(label, bool) or label not in (-1, 0, 1):
        raise DataError(f"expected 0, 1, or -1 for none, got {label!r}", field="label")
    options = [row.get("sol1"), row.get("sol2")]
    return choice(Problem(id, text_of(row, "goal")), options, None if label < 0 else label)


def _with_labels(rows: Rows, path: Path | None) -> Rows:
    """Labels of published files stand in a file of their own, one a line."""
    if path is None or not rows or "label" in rows[0][1]:
        return rows
    file = path.with_name(f"{path.stem}-labels.lst")
    if not file.is_file():
        raise DataError(f"its labels are missing; expected them in {file.name} beside it", path)
    labels = read_bytes(file).decode("utf-8-sig", "replace").split()
    if len(labels) != len(rows) or not set(labels) <= {"0", "1"}:
        raise DataError(f"expected 0 or 1 for each of the {len(rows)} rows of {path.name}", file)
    return [(n, {**row, "label": int(label)}) for (n, row), label in zip(rows, labels, strict=True)]


TASK = Task(
    name="piqa",
    description="physical common sense: which of two ways reaches a goal",
    hub_id="baber/piqa",
    hub=Hub(split="validation"),
    num_rows={"train": 16113, "validation": 1838},
    licence="unknown (its card says so)",
    differences=(
        "Which split the paper takes, and how it asks, is unknown; the labels of the test split "
        "are not published."
    ),
    grading="choice",
    columns=(("goal",), ("sol1",), ("sol2",), ("label",)),
    read=_read,
    instruction=CHOICE,
    files={"train": ("train.jsonl",), "validation": ("valid.jsonl",)},
    arrange=_with_labels,
)
