"""Findings in a file of rows (`check_file`) and in its rubrics (`check_rubrics`)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rcsd.data.fields import MAX_LISTED
from rcsd.data.lint_rules import RULES, Severity
from rcsd.data.near_duplicates import Match, near_duplicates
from rcsd.data.rows import FileRow, read_rows
from rcsd.data.views import find_control_token
from rcsd.types import Example


@dataclass(frozen=True, slots=True)
class Finding:
    """A defect of a row by the name of its rule; without a line, of the whole file.

    An error: the row, or its test, cannot be used. A warning: likely a mistake.
    """

    severity: Severity
    rule: str
    message: str
    line: int | None = None
    id: str | None = None
    field: str | None = None


@dataclass(frozen=True)
class Report:
    """Findings in a file, and numbers of rows, of well-formed ones, and of those with a field."""

    path: str
    num_rows: int
    num_examples: int
    num_with: dict[str, int]
    findings: tuple[Finding, ...]

    def count(self, severity: Severity) -> int:
        """Number of findings of that severity."""
        return sum(finding.severity == severity for finding in self.findings)


Numbered = Sequence[tuple[int, Example]]
"""Examples with their line numbers."""


def check_file(path: str | Path, against: Sequence[str | Path] = ()) -> Report:
    """Malformed rows, repeated and similar questions, and questions of test files (``against``).

    Raises DataError if a file cannot be read or holds no row. Malformed rows are findings.
    """
    rows = list(read_rows(path))
    examples = _numbered(rows)
    findings = [*_malformed(rows), *_missing_rubrics(examples), *_duplicates(examples)]
    for test in against:
        findings += _overlap(examples, list(read_rows(test)), str(test))
    return _report(path, rows, findings)


def check_rubrics(path: str | Path) -> Report:
    """Every rule of `rcsd.data.lint_rules` over the rubrics of a JSONL file of our rows.

    Raises DataError if the file cannot be read or holds no row. Malformed rows are findings.
    """
    rows = list(read_rows(path))
    findings = [*_malformed(rows), *rubric_findings(_numbered(rows))]
    if not any(row.example is None or row.example.rubric is not None for row in rows):
        message = f"no rubric in the file: none of its rows ({len(rows)}) has one"
        findings.append(Finding("error", "no rubric", message))
    return _report(path, rows, sorted(findings, key=lambda finding: finding.line or 0))


def rubric_findings(examples: Numbered) -> Iterator[Finding]:
    """Findings of every rule in the rubrics of examples; those without a rubric are skipped."""
    for line, example in examples:
        for name, (severity, find) in RULES.items():
            for index, message in find(example.rubric) if example.rubric else ():
                field = None if index is None else f"rubric[{index}]"
                yield Finding(severity, name, message, line, example.id, field)


def control_tokens(path: str | Path, tokenizer: Any) -> Iterator[Finding]:
    """Rows that a run leaves out, or sft refuses: a text holds a control token of the model."""
    for line, example in _numbered(read_rows(path)):
        criteria = example.rubric.criteria if example.rubric else ()
        texts = {f"rubric[{index}]": c.text for index, c in enumerate(criteria)}
        texts |= {"question": example.prompt_text, "solution": example.solution or ""}
        texts["reference_answer"] = example.reference_answer or ""
        for field, text in texts.items():
            if token := find_control_token(tokenizer, [{"role": "user", "content": text}]):
                message = f"holds {token}, a control token of the model: a run drops the row"
                yield Finding("warning", "control token", message, line, example.id, field)


def _missing_rubrics(examples: Numbered) -> Iterator[Finding]:
    """One finding where most rows have a rubric and others none, with the first lines."""
    lines = [line for line, example in examples if example.rubric is None]
    if lines and 2 * len(lines) < len(examples):
        places = ", ".join(map(str, lines[:MAX_LISTED])) + ", ..." * (len(lines) > MAX_LISTED)
        message = f"{len(lines)} of {len(examples)} rows have none: lines {places}"
        yield Finding("warning", "rows without rubric", message, lines[0], field="rubric")


def _numbered(rows: Iterable[FileRow]) -> Numbered:
    return [(row.line, row.example) for row in rows if row.example is not None]


def _report(path: str | Path, rows: Sequence[FileRow], findings: Sequence[Finding]) -> Report:
    examples = [example for _, example in _numbered(rows)]
    num_with = {
        name: sum(getattr(example, name) is not None for example in examples)
        for name in ("rubric", "reference_answer", "solution")
    }
    return Report(str(path), len(rows), len(examples), num_with, tuple(findings))


def _malformed(rows: Iterable[FileRow]) -> Iterator[Finding]:
    for row in rows:
        if row.error is not None:
            message, field = row.error.message, row.error.field
            yield Finding("error", "malformed row", message, row.line, row.id, field)


def _normalize(text: str) -> str:
    """Text without differences in case and spaces."""
    return " ".join(text.casefold().split())


def _first_of_each(examples: Numbered) -> dict[str, tuple[int, Example]]:
    """First line and example of each question by its normalized text."""
    first: dict[str, tuple[int, Example]] = {}
    for line, example in examples:
        first.setdefault(_normalize(example.prompt_text), (line, example))
    return first


def _duplicates(examples: Numbered) -> Iterator[Finding]:
    first = _first_of_each(examples)
    for line, example in examples:
        earlier_line, earlier = first[_normalize(example.prompt_text)]
        if earlier_line != line:
            same = earlier.rubric == example.rubric
            rule = "duplicate question" if same else "one question, different rubrics"
            message = f"the question of line {earlier_line} too; drop one"
            yield Finding("warning", rule, message, line, example.id, "question")
    rows = list(first.values())
    for (line, example), near in zip(rows, near_duplicates(list(first)), strict=True):
        if near is not None:
            message = f"like the question of line {rows[near.number][0]}: {_share_of_wording(near)}"
            rule = "near-duplicate question"
            yield Finding("warning", rule, message, line, example.id, "question")


def _share_of_wording(near: Match) -> str:
    return f"{near.similarity:.2f} of the wording"


def _overlap(examples: Numbered, rows: Sequence[FileRow], name: str) -> Iterator[Finding]:
    num_malformed = sum(row.error is not None for row in rows)
    if num_malformed:
        message = f"{num_malformed} malformed rows of {name} were not compared"
        yield Finding("error", "malformed row in a test file", message)
    tests = _first_of_each(_numbered(rows))
    lines = [line for line, _ in tests.values()]
    questions = [_normalize(example.prompt_text) for _, example in examples]
    nearest = near_duplicates(questions, list(tests))
    for (line, example), question, near in zip(examples, questions, nearest, strict=True):
        if same := tests.get(question):
            message = f"stands in {name}, line {same[0]}: drop it here"
            yield Finding("error", "test question", message, line, example.id, "question")
        elif near is not None:
            message = f"like {name}, line {lines[near.number]}: {_share_of_wording(near)}"
            yield Finding("warning", "near a test question", message, line, example.id, "question")
