"""Loading of a benchmark: its files become examples, and every row is accounted for."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

from rcsd.config import TaskData
from rcsd.data.benchmarks import TASKS, Task
from rcsd.data.benchmarks.readers import Row, UnusableError, strip_factor
from rcsd.data.fields import reason_name
from rcsd.data.importers.notes import Notes
from rcsd.data.sources import read_table
from rcsd.errors import ConfigError, DataError
from rcsd.io import digest
from rcsd.types import LETTERS, Example


def load(section: TaskData) -> tuple[list[Example], dict[str, object]]:
    """Examples of a benchmark, and the record of its import (`rcsd.data.load`).

    A well-formed row that cannot be asked or graded is left out, counted and listed. A row that
    repeats an id is kept, as ``ID#2``.

    Raises:
        DataError: Naming file, line and field, if a row has another layout, or the number of rows.
        ConfigError: If the benchmark has no such split or options, or datasets is missing.
    """
    task = TASKS[section.name]
    split, name = section.split or task.split, str(section.path or task.hub_id)
    if split not in task.num_rows:
        raise ConfigError(f"{task.name} has no split {split!r}; it has {', '.join(task.num_rows)}")
    if section.options_seed is None and task.has_fixed_place:
        raise ConfigError(
            f"{task.name}'s file puts the right option always in the same place: give options_seed "
            "a number"
        )
    rows = list(_read_source(task, split, section))
    published = task.num_rows[split]
    if len(rows) != published and not section.partial and section.limit is None:
        raise DataError(
            f"{len(rows)} rows, and {task.name}'s split {split} was published with {published}; "
            "partial: true takes them as they are, which is no result on the benchmark",
            name,
        )
    seed = section.options_seed if task.shuffles else None
    examples: list[Example] = []
    excluded: list[tuple[str, int | str, str]] = []
    left_out: list[tuple[str, str]] = []
    counts: Counter[str] = Counter()
    for place, (source, number, row) in enumerate(rows[: section.limit], start=1):
        notes = Notes()
        try:
            example = _read_row(task, row, place, notes)
        except UnusableError as error:
            excluded.append((str(source), number, str(error)))
            continue
        except DataError as error:
            raise error.at(source, number) from error
        counts[example.id] += 1
        if counts[example.id] > 1:
            example = replace(example, id=f"{example.id}#{counts[example.id]}")
        left_out += [(example.id, reason) for reason in notes.dropped]
        examples.append(_with_instruction(_shuffle_options(example, seed), task))
    if not examples:
        first = f"; the first: {excluded[0][2]}" if excluded else ""
        raise DataError(f"no row can be used{first}", name)
    return examples, {
        "task": task.name,
        "source": name,
        "split": split,
        "num_rows": len(rows),
        "num_published": published,
        "num_problems": len(examples),
        "excluded": excluded,
        "exclusions": dict(Counter(reason_name(reason) for *_, reason in excluded)),
        "criteria_left_out": left_out,
        "options_seed": seed,
        "words_sha256": digest(task.instruction),
        "differences": task.differences,
    }


def _read_source(
    task: Task, split: str, section: TaskData
) -> Iterator[tuple[Path | str, int | str, Row]]:
    """File or hub id, number, and row of each row."""
    hub, path = task.hub._replace(split=split, revision=section.revision), section.path
    sources: list[Path | str] = [task.hub_id if path is None else path]
    if path is not None and path.is_dir() and not (path / "state.json").is_file():
        sources = [
            *sorted(path.glob(f"{split}-*.parquet")),
            *sorted(path.glob(f"*/{split}-*.parquet")),
        ]
        if not sources:
            raise DataError(
                f"holds nothing of {task.name}'s split {split}: expected {split}-*.parquet, or a "
                "folder of datasets' save_to_disk",
                path,
            )
    for source in sources:
        try:
            for number, row in read_table(str(source), hub):
                if isinstance(row, DataError):
                    raise row.at(source, number)
                yield source, number, row
        except DataError as error:
            if path is not None:
                raise
            access = task.access or "where the hub cannot be reached, name a local copy by path"
            raise DataError(f"{error}; {access}") from error


def _read_row(task: Task, row: Row, place: int, notes: Notes) -> Example:
    """Example of a row; its place, from 1, is the id of rows that have none."""
    for names in task.columns:
        if not any(name in row for name in names):
            there = ", ".join(map(str, row)) or "none"
            raise DataError(
                f"no such column ({task.name} on the hub has {' or '.join(names)}); "
                f"there are {there}: another layout, or another data set",
                field=names[0],
            )
    example = task.read(row, str(place), notes)
    return replace(example, tags={"task": task.name, **example.tags})


def _shuffle_options(example: Example, seed: int | None) -> Example:
    """Example with its options in an order that seed and id alone decide; None keeps the file's."""
    grading, letter = example.grading, example.reference_answer
    if seed is None or grading is None or letter is None or not grading.options:
        return example
    order = list(range(len(grading.options)))
    Random(hashlib.sha256(f"{seed}:{example.id}".encode()).digest()).shuffle(order)
    return replace(
        example,
        reference_answer=LETTERS[order.index(LETTERS.index(letter))],
        grading=replace(grading, options=tuple(grading.options[index] for index in order)),
    )


def _with_instruction(example: Example, task: Task) -> Example:
    """Example whose question is followed by its options and the form of the answer."""
    options, instruction = "", task.instruction
    if example.grading is not None:
        pairs = zip(LETTERS, example.grading.options, strict=False)
        options = "\n".join(f"{letter}. {option.strip()}" for letter, option in pairs)
    if example.grading is not None and task.grading == "number":
        unit = strip_factor(example.grading.unit)
        instruction = instruction.format(unit=f", in {unit}" if unit else "")
    parts = [example.question.strip(), options, instruction]
    return replace(example, question="\n\n".join(part for part in parts if part))
