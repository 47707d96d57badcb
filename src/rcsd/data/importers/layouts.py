"""Layouts of rows as tables of paths (``formats.yaml``), and the reader that follows the paths.

A row of another layout is a DataError that names the field; a criterion that says nothing is left
out and noted.
"""

import datetime
import fnmatch
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml

from rcsd.config.base import Section
from rcsd.config.data import Format
from rcsd.data.importers.chats import numbered_turns, read_prompt
from rcsd.data.importers.columns import (
    NOTHING,
    Columns,
    alternative,
    guess_columns,
    look_up,
    matches_signature,
    numbered,
    parse_cell,
)
from rcsd.data.importers.criteria import read_criteria, rubric_items
from rcsd.data.importers.notes import Notes
from rcsd.data.importers.weights import is_missing
from rcsd.errors import DataError


class Layout(Section):
    """Rows of a published format."""

    source: str = ""
    """Data set, its paper, and what its scores say of the points."""
    columns: Columns = Columns()
    """Paths of a row's parts."""
    signature: tuple[tuple[str, ...], ...] = ()
    """Paths by which its rows are recognised: all of one line."""
    refused: Mapping[str, str] = {}
    """Columns that refuse a row which fills them, and why."""
    counted: Mapping[str, str] = {}
    """Paths in an item that are counted where they are filled, and by which name."""


LAYOUTS: Mapping[str, Layout] = {
    name: Layout.model_validate(entry)
    for name, entry in yaml.safe_load(
        Path(__file__).with_name("formats.yaml").read_text(encoding="utf-8")
    ).items()
}
"""Layouts by the name of their format; ``jsonl`` has none: its columns are guessed."""

_REFUSED = {
    "image*": "images are not supported; import the rows without them",
    "video*": "videos are not supported; import the rows without them",
    "audio*": "audio is not supported; import the rows without it",
    "binary_labels": "a row of HealthBench's meta_eval, which grades answers; import another file, "
    "such as --files '*oss_eval.jsonl'",
    "sub_tasks": "a tree of PaperBench, which grades a repository and has no question",
}
"""Columns that refuse a row of any layout which fills them, and why."""


def _refuse_columns(source: Mapping[str, Any], refused: Mapping[str, str]) -> None:
    for name, value in source.items():
        reason = _reason(name, tuple(refused.items()))
        if reason and not is_missing(value) and not isinstance(value, bool | int):
            raise DataError(reason, field=name)


@functools.lru_cache(maxsize=10_000)
def _reason(name: str, refused: tuple[tuple[str, str], ...]) -> str | None:
    return next((why for pattern, why in refused if fnmatch.fnmatchcase(name, pattern)), None)


def read_row(
    source: Mapping[str, Any], notes: Notes, columns: Columns, layout: Layout, origin: str = ""
) -> dict[str, Any]:
    """Row of ours from the paths of its parts.

    Raises DataError naming the column that is wrong.
    """
    _refuse_columns(source, {**layout.refused, **_REFUSED})
    path = alternative(source, columns.question or "question")
    prompt = look_up(source, path)
    if "*" in path and isinstance(prompt, list) and prompt:
        prompt = numbered_turns(prompt, numbered(source, columns.reply) if columns.reply else [])
    if prompt is None:
        expected = (columns.question or "question").replace("|", " or ")
        raise DataError(f"the question is missing; expected {expected}", field=path)
    system = look_up(source, columns.system)
    turns, question = read_prompt(parse_chat(prompt), path, system)
    earlier = parse_cell(source.get("turns"))  # of a row of ours
    turns = [*earlier, *turns] if isinstance(earlier, list) and path == "question" else turns
    row: dict[str, Any] = {"question": question}
    if turns:
        row["turns"] = turns
        notes.rules.append("prompt: a chat, its last turn the question")
    elif not isinstance(prompt, str):
        notes.rules.append("prompt: a single user turn")
    if (rubric := _rubric(source, columns, layout, notes)) is not None:
        row["rubric"] = rubric
    for part, name in (("reference_answer", columns.answer), ("solution", columns.solution)):
        if (text := _text(look_up(source, name), name or part)) is not None:
            row[part] = text
            if name != part:
                notes.rules.append(f"{part}: {name}")
    tags = ({"rubric_source": origin} if origin else {}) | _tags(source, columns.tags)
    parts = {"grading": parse_cell(source.get("grading")), "id": look_up(source, columns.id)}
    parts["id"] = _whole(parts["id"])
    return (
        row
        | {name: value for name, value in parts.items() if not is_missing(value)}
        | ({"tags": tags} if tags else {})
    )


def _whole(value: Any) -> Any:
    """A whole number as an integer: tables hold it as 1.0 beside empty cells."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def parse_chat(prompt: Any) -> Any:
    """Prompt of a cell: a chat in a JSON text is read, any other text is kept as it is."""
    chat = parse_cell(prompt)
    is_chat = isinstance(chat, list) and chat and all(isinstance(turn, dict) for turn in chat)
    return chat if is_chat or not isinstance(prompt, str) else prompt


def _rubric(
    source: Mapping[str, Any], columns: Columns, layout: Layout, notes: Notes
) -> list[dict[str, Any]] | None:
    path = alternative(source, columns.rubric) if columns.rubric else None
    value, weights = look_up(source, path), None
    if value is None:
        if layout.columns.rubric:
            expected = layout.columns.rubric.replace("|", " or ")
            raise DataError(f"the rubric is missing; expected {expected}", field=path)
        notes.rules += ["row without a rubric"] if path else []
        return None
    if columns.weight:
        weights = look_up(source, columns.weight)
        if path and "*" in path:
            weights = numbered(source, columns.weight)
    for item in rubric_items(value, path or "rubric") if layout.counted else ():
        notes.rules += [rule for name, rule in layout.counted.items() if look_up(item, name)]
    return read_criteria(value, columns, notes, path or "rubric", weights)


def _text(value: Any, field: str) -> str | None:
    """Text of an answer: a number as it is written; an object is none."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None or isinstance(value, Mapping) or isinstance(parse_cell(value), Mapping):
        return None
    if isinstance(value, list):
        message = f"expected one text, got {len(value)}; keep one, or give --answer none"
        raise DataError(message, field=field)
    return str(value).lower() if isinstance(value, bool) else str(_whole(value))


def _tags(source: Mapping[str, Any], paths: Sequence[str]) -> dict[str, str]:
    """Tags: texts, numbers and dates, and the entries ``name:value`` of a list by their names."""
    tags: dict[str, str] = {}
    for path in paths:
        name, value = path.rpartition(".")[2], parse_cell(look_up(source, path))
        if isinstance(value, Mapping):
            tags |= {str(key): str(inner) for key, inner in value.items() if not is_missing(inner)}
        elif isinstance(value, list):
            for entry in map(str, value):
                key, colon, rest = entry.partition(":")
                key, rest = (key, rest) if colon and " " not in key else (name, entry)
                tags[key] = f"{tags[key]}, {rest}" if key in tags else rest
        elif isinstance(value, datetime.date):  # a datetime is one too
            tags[name] = value.isoformat()
        elif value is not None:
            tags[name] = str(value)
    return tags


def recognise(rows: Sequence[Mapping[str, Any]]) -> Format:
    """Format of rows by the signature with the most paths, or ``jsonl``."""
    names: list[tuple[int, Format]] = [
        (max(len(line) for line in LAYOUTS[name].signature if matches_signature(row, line)), name)
        for row in rows
        for name in get_args(Format)
        if name in LAYOUTS and any(matches_signature(row, line) for line in LAYOUTS[name].signature)
    ]
    return max(names, key=lambda pair: pair[0])[1] if names else "jsonl"


def select_columns(rows: Sequence[Mapping[str, Any]], format: Format, chosen: Columns) -> Columns:
    """Columns of rows: those that are given, then the format's, or else guessed ones.

    Raises DataError if a given column is in no row, or no column can be the question.
    """
    layout = LAYOUTS.get(format)
    columns = guess_columns(rows, _items, chosen) if layout is None else chosen.over(layout.columns)
    names = ", ".join(dict.fromkeys(str(name) for row in rows for name in row))
    items = [item for row in rows for item in [row, *_items(look_up(row, columns.rubric))]]
    for part in ("question", "system", "rubric", "criterion", "weight", "answer", "solution", "id"):
        path = getattr(chosen, part)
        if path not in (None, NOTHING) and all(look_up(item, path) is None for item in items):
            raise DataError(f"no row has a column {path!r} for the {part}; there are {names}")
    if rows and columns.question is None:
        for row in rows:
            _refuse_columns(row, _REFUSED)
        message = f"no column looks like the question; name it: --question. There are {names}"
        raise DataError(message)
    return columns


def _items(value: Any) -> list[Any]:
    try:
        return [] if value is None else rubric_items(value)
    except DataError:
        return []
