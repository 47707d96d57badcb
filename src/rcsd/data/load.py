"""Data sources: a data section becomes examples by the function that its type names.

The rubric world also reads the checks of a criterion from its words: written rubrics, and criteria
that moved to another example, are read before they are graded.
"""

import pkgutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rcsd import config
from rcsd.config.data import FileData
from rcsd.data.fields import MAX_LISTED
from rcsd.data.files import read_bytes
from rcsd.data.rows import read_rows
from rcsd.data.views import view_fields
from rcsd.errors import DataError
from rcsd.io import digest
from rcsd.types import Example, Rubric

SOURCES: Mapping[str, str] = {
    "jsonl": "rcsd.data.rows:load",
    "rar": "rcsd.data.importers:load_rar",
    "world": "rcsd.data.world:load",
    "task": "rcsd.data.benchmarks.load:load",
}
"""Loader of each type of data section, as ``package.module:name``."""

WORLD_TAGS = {"template", "draws"}
"""Tags of examples whose criteria code can read."""


def load_examples(section: config.Data) -> tuple[list[Example], dict[str, object]]:
    """Examples of a data section, and the record of what its import left out.

    Raises:
        DataError: Naming file, line and field of what is malformed, or another file than pinned.
        ConfigError: If a benchmark has no such split, or a library is missing.
    """
    if isinstance(section, FileData) and section.sha256 is not None:
        sha256 = digest(read_bytes(section.path))
        if sha256 != section.sha256:
            message = f"the file was changed: its sha256 is {sha256}, expected {section.sha256}"
            remedy = "bring back the former one, or start anew with this one"
            raise DataError(f"{message}; {remedy}", section.path)
    return pkgutil.resolve_name(SOURCES[section.type])(section)


def needed_fields(stage: config.Stage) -> dict[str, str]:
    """Fields that every example of a run must have, with what needs each."""
    taught = stage.views.teacher if stage.has_teacher_view else stage.learned_view
    needed = view_fields(stage.views.student) | view_fields(taught)
    if stage.method.type == "sft":
        field = "rubric" if stage.views.writes == "rubric" else "solution"
        needed.setdefault(field, "sft learns it")
    return needed


def require_fields(
    section: config.Data, examples: Sequence[Example], needed: Mapping[str, str]
) -> None:
    """Refuse examples that lack a field, by file and line; nothing costly is done before.

    Raises DataError of the first, with the number and lines of the others.
    """
    for field, why in needed.items():
        lacking = [example.id for example in examples if getattr(example, field) is None]
        if not lacking:
            continue
        path, lines = None, {}
        if isinstance(section, config.JsonlData):
            path, lines = section.path, {row.id: row.line for row in read_rows(section.path)}
        message = f"example {lacking[0]!r} has none, but {why}"
        if others := lacking[1:]:
            places = [f"line {lines[id]}" if id in lines else repr(id) for id in others]
            listed = ", ".join(places[:MAX_LISTED]) + ", ..." * (len(places) > MAX_LISTED)
            message += f"; {len(lacking)} of {len(examples)} rows have none, also {listed}"
        raise DataError(message, path, lines.get(lacking[0]), field)


def load_answers(section: config.WorldData) -> list[tuple[Example, str, str]]:
    """Example, text and quality of answers to a source's examples, right and wrong."""
    return pkgutil.resolve_name("rcsd.data.world:answers")(section)


def has_rubric_reader(example: Example) -> bool:
    """True if the example's source can read the checks of a criterion from its words."""
    return set(example.tags) >= WORLD_TAGS


def read_rubrics(examples: Sequence[Example], rubrics: Mapping[str, Rubric]) -> dict[str, Rubric]:
    """Rubrics by the id of their example, with the checks that their words stand for, if any.

    Raises DataError if the tags of an example contradict its question.
    """
    read = {example.id: rubrics[example.id] for example in examples if example.id in rubrics}
    for example in filter(has_rubric_reader, examples):
        if example.id in read:
            reader = pkgutil.resolve_name("rcsd.data.world.reading:read_rubric")
            read[example.id] = reader(example, read[example.id])
    return read


Part = TypeVar("Part")


def pinned(part: Part) -> Part:
    """A section, or several, with the checksums of their data files.

    Raises DataError if a file cannot be read.
    """
    result: Any = part
    if isinstance(part, FileData):
        sha256 = part.sha256 or digest(read_bytes(Path(part.path)))
        result = part.model_copy(update={"sha256": sha256})
    elif isinstance(part, config.Section):
        result = part.model_copy(update={name: pinned(inner) for name, inner in part})
    elif isinstance(part, dict):
        result = {name: pinned(inner) for name, inner in part.items()}
    return result
