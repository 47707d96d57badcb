"""Columns of a source: the paths at which the parts of a row stand, given, named or guessed.

A path is dotted (``reward_model.rubric``) and passes through JSON texts and lists of one.
``a|b`` is the first that is there, ``a+b`` both joined by an empty line, ``a_*`` the columns
a_0, a_1, ....
"""

import ast
import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from rcsd.config.base import Section
from rcsd.data.fields import explain
from rcsd.data.files import read_bytes
from rcsd.data.importers.weights import is_missing
from rcsd.data.json_files import parse_json
from rcsd.errors import DataError

NOTHING = "none"
"""Path of a part that is not read, whatever columns there are."""

LINES = "lines of one question"
"""Field that the criteria of a file with one criterion a line are gathered in."""


class Columns(Section):
    """Paths of a row's parts, in a row or (criterion, weight, title) in an item of its rubric."""

    question: str | None = None
    """Question: a text, or a chat that ends with a user's turn."""
    reply: str | None = None
    """Assistant's turns between the questions of numbered columns."""
    system: str | None = None
    """System prompt."""
    rubric: str | None = None
    """Criteria, in any shape of docs/data.md."""
    criterion: str | None = None
    """Text of a criterion; without a rubric, the column of files with one criterion a line."""
    weight: str | None = None
    """Points of a criterion, or a list of them beside a list of texts."""
    title: str | None = None
    """Title of a criterion."""
    answer: str | None = None
    """Reference answer."""
    solution: str | None = None
    """Worked solution."""
    id: str | None = None
    """Name of the row."""
    tags: tuple[str, ...] = ()
    """Columns that become tags."""
    weights: Mapping[str, float] = {}
    """Points of words, in place of `rcsd.data.importers.weights.WEIGHT_WORDS`."""

    def over(self, other: "Columns") -> "Columns":
        """These columns, and the other's where these name none."""
        return other.model_copy(update=self.model_dump(exclude_defaults=True))

    def reads(self, row: Mapping[str, Any]) -> set[str]:
        """Columns of a row that are read; criterion and title stand in the items of a rubric."""
        inner = set() if self.rubric == LINES else {"criterion", "title"}
        paths = [v for part, v in dict(self).items() if isinstance(v, str) and part not in inner]
        names = {name for path in [*paths, *self.tags] for name in re.split(r"[|+]", path)}
        heads = {_names(name)[0].replace("*", r"\d+") for name in names if name not in row}
        shape = re.compile("|".join(map(re.escape, names & row.keys())) + "|" + "|".join(heads))
        return {name for name in row if shape.fullmatch(name)}


def read_mapping(path: Path) -> Columns:
    """Columns of a YAML file with a key a part.

    Raises DataError naming the key that is wrong.
    """
    try:
        content = yaml.safe_load(read_bytes(path))
        return Columns.model_validate({} if content is None else content)
    except ValidationError as error:
        field, message = explain(error)
        allowed = ", ".join(Columns.model_fields)
        raise DataError(f"{message}; allowed are {allowed}", path, field=field) from error
    except (yaml.YAMLError, UnicodeError) as error:
        raise DataError(f"is no YAML file of columns: {error}".partition("\n")[0], path) from error


# Values


def parse_cell(value: Any) -> Any:
    """Value of a text that holds a JSON list or object, or one as Python prints it; else itself."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        return parse_json(value.encode("utf-8", "surrogatepass"))
    except DataError:
        pass
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value


def alternative(row: Any, path: str) -> str:
    """The alternative of a path that is there, or else the first; the place that an error names."""
    names = path.split("|")
    return next((name for name in names if look_up(row, name) is not None), names[0])


def look_up(row: Any, path: str | None) -> Any:
    """Value at a path, or None where there is none; missing values are None."""
    if path is None or path == NOTHING:
        return None
    if isinstance(row, dict):  # a plain name, the common case
        value = row.get(path)
        if value is not None and not is_missing(value):
            return value
        if path.isidentifier():
            return None
    for alternative in path.split("|"):
        parts = [_at(row, name) for name in alternative.split("+")]
        there = [part for part in parts if not is_missing(part)]
        if there:
            return there[0] if len(parts) == 1 else "\n\n".join(map(str, there))
    return None


def _at(row: Any, path: str, first_of_list: bool = False) -> Any:
    root = row
    if isinstance(row, Mapping) and (path in row or "*" in path):
        return row[path] if path in row else numbered(row, path)
    for name in _names(path):
        row = parse_cell(row)
        if isinstance(row, list) and (len(row) == 1 or (row and first_of_list)):
            row = parse_cell(row[0])
        if not isinstance(row, Mapping):
            return None
        if "{" in name:  # another value gives it, such as {annotations.weight_class}_weight
            name = re.sub(r"\{(.*)\}", lambda found: str(_at(root, found[1])), name)
            name = name.replace(" ", "_")
        row = row.get(name)
    return row


@functools.cache
def _names(path: str) -> tuple[str, ...]:
    return tuple(re.split(r"\.(?![^{]*\})", path))


def numbered(row: Mapping[str, Any], pattern: str) -> list[Any]:
    """Values of the columns that a pattern such as ``criterion_*`` names, by their numbers."""
    before, _, after = pattern.partition("*")
    shape = re.compile(rf"{re.escape(before)}(\d+){re.escape(after)}")
    by_number = {int(match[1]): row[name] for name in row if (match := shape.fullmatch(name))}
    values = [by_number[number] for number in sorted(by_number)]
    while values and is_missing(values[-1]):
        values.pop()
    return values


# Guesses

_NAMES: Mapping[str, Sequence[str]] = yaml.safe_load(
    Path(__file__).with_name("guesses.yaml").read_text(encoding="utf-8")
)
_STEMS = re.compile(r"((?:criterion|criteria|rubric|requirement|item)[_ ]?)\d+", re.IGNORECASE)
_WEIGHT_STEMS = re.compile(r"((?:weight|points|score)[_ ]?)\d+", re.IGNORECASE)


def guess_columns(
    rows: Sequence[Mapping[str, Any]], items: Callable[[Any], list[Any]], chosen: Columns
) -> Columns:
    """Columns by their names, where none are chosen; a column is read for one part.

    ``items`` takes a rubric of any shape apart.
    """
    question = chosen.question or _first_names(rows, _NAMES["question"])
    rubric = chosen.rubric or _first_names(rows, _NAMES["rubric"]) or _numbered_path(rows, _STEMS)
    rubric = rubric or (None if chosen.criterion else _named_like_a_rubric(rows))
    if rubric and not chosen.rubric and _is_one_a_line(rows, rubric):
        criterion, rubric = rubric, None
        chosen = chosen.model_copy(update={"criterion": chosen.criterion or criterion})
    parts: dict[str, Any] = {
        part: _first_names(rows, _NAMES[part]) for part in ("system", "answer", "solution", "id")
    }
    if rubric is None:  # one criterion a line, in the columns of the row
        inner: Sequence[Mapping[str, Any]] = rows
        criterion = _first_names(rows, _NAMES["line"])
    else:
        values = [look_up(row, rubric) for row in rows]
        inner = [item for value in values for item in items(value) if isinstance(item, Mapping)]
        criterion = _first_names(inner, _NAMES["criterion"])
    weight = title = None
    if criterion or chosen.criterion:
        weight = _first_names(inner, _NAMES["weight"])
        title = _first_names(
            inner, [n for n in _NAMES["title"] if n not in (criterion or "").split("|")]
        )
    if rubric is not None and "*" in rubric:
        weight = _numbered_path(rows, _WEIGHT_STEMS)
    tags = ("tags",) if any("tags" in row for row in rows) else ()
    guess = Columns(
        question=question, rubric=rubric, criterion=criterion, weight=weight, title=title,
        tags=tags, **parts,
    )  # fmt: skip
    return chosen.over(guess)


def _first_names(rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> str | None:
    """Names that hold the part in some row, as alternatives in the order of the names."""
    used = set[str]()
    spelt = dict[str, str]()
    for row in rows:
        plain = {re.sub(r"[\s-]+", "_", str(name)).lower(): str(name) for name in row}
        there = (
            name
            for name in names
            if not is_missing(_at(row, name) if "." in name else row.get(plain.get(name, name)))
        )
        if name := next(there, None):
            used.add(name)
            spelt.setdefault(name, plain.get(name, name))
    return "|".join(spelt[name] for name in names if name in used) or None


def _is_one_a_line(rows: Iterable[Mapping[str, Any]], rubric: str) -> bool:
    """True if a rubric is one criterion with its points in a column beside it."""
    texts = [text for row in rows if (text := look_up(row, rubric)) is not None]
    return _first_names(rows, _NAMES["weight"]) is not None and all(
        isinstance(text, str) and "\n" not in text and text.lstrip()[:1] not in ("[", "{", "-", "1")
        for text in texts
    )


def _numbered_path(rows: Iterable[Mapping[str, Any]], stems: re.Pattern[str]) -> str | None:
    matches = (stems.fullmatch(str(name)) for row in rows for name in row)
    return next((f"{match[1]}*" for match in matches if match), None)


def _named_like_a_rubric(rows: Iterable[Mapping[str, Any]]) -> str | None:
    return next(
        (
            str(name)
            for row in rows
            for name, value in row.items()
            if re.search(r"rubric|criteri|checklist", str(name), re.IGNORECASE)
            and isinstance(parse_cell(value), list | dict)
        ),
        None,
    )


def matches_signature(row: Mapping[str, Any], signature: Sequence[str]) -> bool:
    """True if a row has every path, and where ``path~pattern`` is given a text that matches."""
    for entry in signature:
        path, _, pattern = entry.partition("~")
        value = _at(row, path, first_of_list=True)
        value = value[0] if isinstance(value, list) and value else value
        if value is None or (pattern and not re.match(pattern, str(value))):
            return False
    return True
