"""What a benchmark is, and one of its questions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, Literal

from rcsd.config import TaskName
from rcsd.data.importers.notes import Notes, Options, Reader
from rcsd.data.rows import example_from_row
from rcsd.data.sources import Hub
from rcsd.errors import DataError
from rcsd.types import DEFAULT_TOLERANCE, LETTERS, Rubric

Row = Mapping[str, Any]
Rows = Sequence[tuple[int, Row]]
"""Numbers, of lines where there are such, and rows."""

CHOICE = r"Reason step by step, then put the letter of the right option within \boxed{}."
"""What is asked of a question with options, below them."""


class UnusableError(Exception):
    """Why a row, whole as it is, cannot be asked or graded."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A question of a benchmark.

    Args:
        id: Unique in its set.
        question: As the benchmark words it.
        options: In the order in which they are shown.
        reference: Letter of the right option, or the answer; None: criteria alone.
        support: A text to be read before the question; empty: there is none.
        solution: A worked solution or an explanation.
        unit: Of a number, as the benchmark writes it.
        rubric: The criteria of an answer.
        tags: Such as its subject.
        left_out: Criteria that could not be read, and why.
    """

    id: str
    question: str
    options: tuple[str, ...] = ()
    reference: str | None = None
    support: str = ""
    solution: str | None = None
    unit: str = ""
    rubric: Rubric | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """A benchmark.

    Args:
        name: Its name here.
        description: What is asked.
        hub_id: Its name on the hub.
        hub: Which part of it; the split is the one that results are reported on.
        num_rows: Rows as published, by split.
        licence: Of the data, as its card says.
        differences: How its use here may differ from the paper's (arXiv 2606.19327).
        grading: How an answer is graded.
        columns: What a row must have: one of each group of names.
        read: A row, and the id that it has if it says none, become a problem.
        instruction: What is asked below the question, with ``{unit}`` for a number's unit.
        fixed_place: Whether the file puts the right option always in the same place.
        shuffles: Whether options have no order of their own.
        tolerance: Of a number: the relative error that the benchmark allows.
        files: Names of published files by split, as patterns.
        arrange: What a row's meaning takes from other rows or files: rows, and the file or None.
        access: How a copy is got, where not everyone may load it.
    """

    name: TaskName
    description: str
    hub_id: str
    hub: Hub
    num_rows: Mapping[str, int]
    licence: str
    differences: str
    grading: Literal["choice", "number", "rubric"]
    columns: tuple[tuple[str, ...], ...]
    read: Callable[[Row, str], Problem]
    instruction: str = ""
    fixed_place: bool = False
    shuffles: bool = True
    tolerance: float = DEFAULT_TOLERANCE
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    arrange: Callable[[Rows, Path | None], Rows] | None = None
    access: str = ""


def text_of(row: Row, name: str) -> str:
    """A text of a row.

    Raises:
        DataError: If it is none.
    """
    value = row.get(name)
    if not isinstance(value, str):
        raise DataError(f"expected a text, got {value!r}", field=name)
    return value


def choice(problem: Problem, options: Sequence[object], right: int | None) -> Problem:
    """A problem with options.

    Args:
        problem: Without them.
        options: In the file's order.
        right: The place of the right one; None: the row has no label.

    Raises:
        UnusableError: If there is no label, or options are empty or the same.
        DataError: If an option is no text, or the label beyond them.
    """
    if right is None:
        raise UnusableError("no label")
    texts = tuple(option for option in options if isinstance(option, str))
    if len(texts) < len(options) or not 2 <= len(texts) <= len(LETTERS):
        raise DataError(f"expected 2 to {len(LETTERS)} texts as options, got {options!r}")
    if not 0 <= right < len(texts):
        raise DataError(f"the label is option {right + 1} of {len(texts)}")
    if not problem.question.strip():
        raise UnusableError("empty question")
    if any(not text.strip() for text in texts):
        raise UnusableError("empty option")
    if len({text.strip() for text in texts}) < len(texts):
        raise UnusableError("options that are the same")
    return replace(problem, options=texts, reference=LETTERS[right])


def shuffled(problem: Problem, seed: int | None) -> Problem:
    """The problem with its options in an order that seed and id decide, and nothing else.

    Args:
        problem: With options or without.
        seed: None keeps the order.
    """
    if seed is None or problem.reference is None or not problem.options:
        return problem
    order = list(range(len(problem.options)))
    Random(sha256(f"{seed}:{problem.id}".encode()).digest()).shuffle(order)
    place = order.index(LETTERS.index(problem.reference))
    options = tuple(problem.options[index] for index in order)
    return replace(problem, options=options, reference=LETTERS[place])


def rubric_reader(reader: Reader) -> Callable[[Row, str], Problem]:
    """Problems of a data set that `rcsd.data.importers` reads, with their criteria."""

    def read(row: Row, id: str) -> Problem:
        notes = Notes()
        try:
            example = example_from_row({"id": id, **reader(row, Options(), notes)})
        except DataError as error:
            raise UnusableError(str(error)) from error
        return Problem(
            example.id,
            example.question,
            reference=example.reference_answer,
            rubric=example.rubric,
            tags=example.tags,
            left_out=tuple(notes.dropped),
        )

    return read
