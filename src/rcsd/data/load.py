"""The data section of a configuration becomes examples."""

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from rcsd import config
from rcsd.data.benchmarks.load import example_of, problems
from rcsd.data.importers.rar import import_rar
from rcsd.data.lines import bytes_of
from rcsd.data.rows import read_jsonl
from rcsd.data.world.following import DrawnRubrics
from rcsd.data.world.problems import examples
from rcsd.errors import DataError
from rcsd.types import Example


def load_examples(section: config.Data) -> tuple[list[Example], dict[str, object]]:
    """Examples of a data section, and what a run's record says of their import.

    Raises:
        DataError: Naming file, line and field of what is malformed, or a file whose checksum is
            another.
        ConfigError: If a benchmark has no such split, or a library is missing.
    """
    if isinstance(section, config.JsonlData | config.RarData) and section.sha256 is not None:
        found = _sha256(section.path)
        if found != section.sha256:
            raise DataError(
                f"the file was changed: its sha256 is {found}, expected {section.sha256}; bring "
                "back the former one, or start anew with this one",
                section.path,
            )
    match section:
        case config.JsonlData(path=path):
            return read_jsonl(path), {}
        case config.RarData(path=path):
            rows, report = import_rar(path)
            return rows, asdict(report)
        case config.TaskData():
            found, record = problems(section)
            return [example_of(problem) for problem in found], record
        case config.WorldData(split="train", rubrics="drawn"):
            drawn = DrawnRubrics(section.seed)
            return [drawn.example(f"drawn-{n}") for n in range(section.num_examples)], {}
        case _:
            return examples(section.split, section.num_examples, section.seed), {}


Part = TypeVar("Part")


def pinned(part: Part) -> Part:
    """A section, or several, whose data files must stay as they are now.

    Raises:
        DataError: If a file cannot be read.
    """
    found: Any = part
    if isinstance(part, config.JsonlData | config.RarData):
        found = part.model_copy(update={"sha256": part.sha256 or _sha256(part.path)})
    elif isinstance(part, config.Section):
        found = part.model_copy(update={name: pinned(inner) for name, inner in part})
    elif isinstance(part, dict):
        found = {name: pinned(inner) for name, inner in part.items()}
    return found


def _sha256(path: Path) -> str:
    return hashlib.sha256(bytes_of(path)).hexdigest()
