"""Written rubrics and completions that belong to the rows of a gold file, matched by id."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rcsd.data.fields import shortened
from rcsd.data.json_files import json_rows
from rcsd.data.rows import read_jsonl
from rcsd.errors import DataError
from rcsd.types import Example, Rubric


def read_completions(paths: Sequence[str | Path], gold: Sequence[Example]) -> dict[str, list[str]]:
    """Completions by id, from rows with ``id`` and ``text``; other ids and fields are skipped.

    Raises DataError if a file cannot be read, a row lacks its id or text, a file holds nothing of
    gold's rows, or no criterion of gold has a check: then only a judge could order answers.
    """
    texts: dict[str, list[str]] = {example.id: [] for example in gold}
    for path in paths:
        num_read = 0
        for line, row in json_rows(path):
            id, text = row.get("id"), row.get("text")
            if isinstance(id, bool) or not isinstance(id, str | int):
                raise DataError(
                    f"expected a text or a whole number, got {shortened(id)}", path, line, "id"
                )
            if not isinstance(text, str):
                raise DataError(f"expected a text, got {shortened(text)}", path, line, "text")
            if str(id) in texts:
                texts[str(id)].append(text)
                num_read += 1
        if num_read == 0:
            raise DataError(f"no completion is of a gold row; gold's ids: {_first(texts)}", path)
    if paths and not any(c.check for e in gold if e.rubric for c in e.rubric.criteria):
        raise DataError(
            "no criterion of gold has a check, so code cannot say which completions meet it; "
            "leave --completions out",
            field="rubric[0].check",
        )
    return {id: completions for id, completions in texts.items() if completions}


class WrittenFile(NamedTuple):
    """Written rubrics by the id of their gold row, and the number of other rows."""

    rubrics: Mapping[str, Rubric]
    num_others: int


def written_rubrics(gold: Sequence[Example], path: str | Path) -> WrittenFile:
    """Rubrics of a JSONL file that were written for gold's rows, matched by id.

    Raises DataError if a row is malformed, has another question than gold's row of that id, or no
    row belongs to gold.
    """
    questions = {example.id: example.prompt_text for example in gold}
    rows = read_jsonl(path)
    written = [row for row in rows if row.id in questions]
    for row in written:
        if row.prompt_text != questions[row.id]:
            message = f"row {row.id!r} asks another question than gold's row of that id"
            raise DataError(message, path, field="question")
    rubrics = {row.id: row.rubric for row in written if row.rubric is not None}
    if not rubrics:
        raise DataError(f"no rubric is of a gold row; gold's ids: {_first(questions)}", path)
    return WrittenFile(rubrics, len(rows) - len(written))


def _first(ids: Iterable[str]) -> str:
    return ", ".join(map(repr, list(ids)[:3])) + ", ..."
