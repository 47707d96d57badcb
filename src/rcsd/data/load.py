"""Data sources: a data section becomes examples, by the function that its type names.

A source is a function ``load(section) -> (examples, record)``; the record says what was left out.
Sources are named by text and imported when they are used: training on a file of rows imports no
benchmark.

A source whose criteria code can read brings a second function, ``read_rubric(example, rubric)``. It
returns the rubric with the checks and titles that the words of each criterion stand for. Written
rubrics and criteria that moved to another example are read with it before they are graded.
"""

import pkgutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rcsd import config
from rcsd.config.data import FileData
from rcsd.data.rows import read_bytes
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

RUBRIC_READERS: Mapping[tuple[str, ...], str] = {
    ("template", "draws"): "rcsd.data.world:read_rubric",
}
"""Tags that mark the examples of a source, and its ``read_rubric``."""

ANSWER_WRITERS: Mapping[str, str] = {"world": "rcsd.data.world.answers:answers"}
"""Writer of right and wrong answers to the examples of a source."""


def load_examples(section: config.Data) -> tuple[list[Example], dict[str, object]]:
    """Examples of a data section, and the record of their import.

    Raises:
        DataError: Naming file, line and field of what is malformed, or a file whose checksum
            differs from the section's.
        ConfigError: If a benchmark has no such split, or a library is missing.
    """
    if isinstance(section, FileData) and section.sha256 is not None:
        sha256 = digest(read_bytes(section.path))
        if sha256 != section.sha256:
            raise DataError(
                f"the file was changed: its sha256 is {sha256}, expected {section.sha256}; bring "
                "back the former one, or start anew with this one",
                section.path,
            )
    return pkgutil.resolve_name(SOURCES[section.type])(section)


def load_answers(section: config.WorldData) -> list[tuple[Example, str, str]]:
    """Example, text and quality of answers to a source's examples, right and wrong."""
    return pkgutil.resolve_name(ANSWER_WRITERS[section.type])(section)


def has_rubric_reader(example: Example) -> bool:
    """True if the example's source can read the checks of a criterion from its words."""
    return _rubric_reader(example) is not None


def read_rubrics(examples: Sequence[Example], rubrics: Mapping[str, Rubric]) -> dict[str, Rubric]:
    """Rubrics by id, with the checks that their words stand for where a source can read them.

    Args:
        examples: In any order.
        rubrics: By the id of their example; other ids are left out.

    Raises:
        DataError: If the tags of an example contradict its question.
    """
    read = {}
    for example in examples:
        if example.id in rubrics:
            name, rubric = _rubric_reader(example), rubrics[example.id]
            read[example.id] = pkgutil.resolve_name(name)(example, rubric) if name else rubric
    return read


def _rubric_reader(example: Example) -> str | None:
    names = (name for tags, name in RUBRIC_READERS.items() if set(tags) <= set(example.tags))
    return next(names, None)


Part = TypeVar("Part")


def pinned(part: Part) -> Part:
    """A section, or several, with the checksums of their data files.

    Raises:
        DataError: If a file cannot be read.
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
