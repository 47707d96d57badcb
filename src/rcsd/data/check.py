"""Findings in a file of rows and in its rubrics, without a model.

`check_file`: malformed rows, repeated questions, overlap with test files, leaked answers, empty
fields. `check_rubrics`: the rules of `rcsd.data.lint_rules`.
"""

import re
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from datasketch import MinHash, MinHashLSH

from rcsd.data.lint_rules import RULES, SEVERITIES, Severity
from rcsd.data.rows import FileRow, read_rows
from rcsd.types import Example

NEAR = 0.8
"""Jaccard similarity of word shingles above which two questions are near-duplicates."""

_SHINGLE_WORDS = 3
_NUM_PERMUTATIONS = 128


@dataclass(frozen=True, slots=True)
class Finding:
    """A defect of a file, or a fact worth a look, by the name of its rule.

    An error: the row, or its test, cannot be used. A warning: likely a mistake. The line counts
    from 1; without one, the finding is about the whole file. A field is such as ``rubric[2]``.
    """

    severity: Severity
    rule: str
    message: str
    line: int | None = None
    id: str | None = None
    field: str | None = None


@dataclass(frozen=True)
class Report:
    """Findings in a file, and counts.

    Of all rows, of well-formed ones (examples), of those with a rubric, a reference answer, a
    solution, and of their criteria.
    """

    path: str
    num_rows: int
    num_examples: int
    num_with: dict[str, int]
    num_criteria: int
    findings: tuple[Finding, ...]

    def count(self, severity: Severity) -> int:
        """Number of findings of that severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def fails(self, severity: Literal["error", "warning", "never"]) -> bool:
        """True if a finding is as severe as that."""
        return severity != "never" and any(
            finding.severity in ("error", severity) for finding in self.findings
        )

    def by_rule(self) -> dict[str, list[Finding]]:
        """Findings by the name of their rule."""
        rules: defaultdict[str, list[Finding]] = defaultdict(list)
        for finding in self.findings:
            rules[finding.rule].append(finding)
        return dict(rules)

    def json(self) -> dict[str, Any]:
        """Everything, for a JSON file."""
        rules = {
            name: {
                "severity": findings[0].severity,
                "num_findings": len(findings),
                "num_rows": len({finding.line for finding in findings} - {None}),
            }
            for name, findings in self.by_rule().items()
        }
        return asdict(self) | {"severities": {s: self.count(s) for s in SEVERITIES}, "rules": rules}


Numbered = Sequence[tuple[int, Example]]
"""Examples with their line numbers."""


def check_file(path: str | Path, against: Sequence[str | Path] = ()) -> Report:
    """Schema, duplicates, near-duplicates, overlap with test files, and empty fields of a file.

    Args:
        path: A JSONL file of our rows.
        against: Test files: none of their questions should stand in this one.

    Raises:
        DataError: If a file cannot be read or holds no row. Malformed rows are findings.
    """
    rows = list(read_rows(path))
    examples = _numbered(rows)
    findings = [*_malformed(rows), *_duplicates(examples), *_near_duplicates(examples)]
    for test in against:
        findings += _overlap(examples, list(read_rows(test)), str(test))
    findings += _answers_in_questions(examples)
    report = _report(path, rows, findings)
    empty = [
        Finding("info", f"no {name}", f"{len(examples) - num} of {len(examples)} rows", field=name)
        for name, num in report.num_with.items()
        if num < len(examples)
    ]
    return replace(report, findings=(*findings, *empty))


def check_rubrics(path: str | Path) -> Report:
    """Every rule of `rcsd.data.lint_rules` over the rubrics of a JSONL file of our rows.

    Raises:
        DataError: If the file cannot be read or holds no row. Malformed rows are findings.
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
            if example.rubric is None or find is None:
                continue
            for index, message in find(example, example.rubric):
                field = None if index is None else f"rubric[{index}]"
                yield Finding(severity, name, message, line, example.id, field)


def _numbered(rows: Iterable[FileRow]) -> Numbered:
    return [(row.line, row.example) for row in rows if row.example is not None]


def _report(path: str | Path, rows: Sequence[FileRow], findings: Sequence[Finding]) -> Report:
    examples = [example for _, example in _numbered(rows)]
    num_with = {
        name: sum(getattr(example, name) is not None for example in examples)
        for name in ("rubric", "reference_answer", "solution")
    }
    num_criteria = sum(len(e.rubric.criteria) for e in examples if e.rubric is not None)
    return Report(str(path), len(rows), len(examples), num_with, num_criteria, tuple(findings))


# Checks


def _malformed(rows: Iterable[FileRow]) -> Iterator[Finding]:
    for row in rows:
        if row.error is not None:
            message, field = row.error.message, row.error.field
            yield Finding("error", "malformed row", message, row.line, row.id, field)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+(?:\.\d+)?", text.casefold())


def shingles(text: str) -> frozenset[str]:
    """Runs of three words, in small letters."""
    words = _words(text)
    last = max(1, len(words) - _SHINGLE_WORDS + 1)
    return frozenset(" ".join(words[at : at + _SHINGLE_WORDS]) for at in range(last))


def _normalize(text: str) -> str:
    """Text without differences in case and spaces."""
    return " ".join(text.casefold().split())


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Similarity of two questions in [0, 1]: shared shingles over all of them."""
    return len(a & b) / len(a | b)


class _Questions:
    """Questions by line, and the most similar one to another question.

    Candidates come from a MinHash index well below the threshold, each confirmed exactly.
    """

    def __init__(self) -> None:
        self._index = MinHashLSH(NEAR - 0.2, num_perm=_NUM_PERMUTATIONS, weights=(0.1, 0.9))
        self._texts: dict[int, tuple[str, frozenset[str]]] = {}
        self.lines: dict[str, int] = {}

    def add(self, line: int, question: str) -> None:
        self._texts[line] = _normalize(question), shingles(question)
        self.lines.setdefault(_normalize(question), line)
        self._index.insert(line, _minhash(self._texts[line][1]))

    def nearest(self, question: str) -> tuple[int, float] | None:
        """Line and similarity; a question that is the same is not near."""
        ours, text = shingles(question), _normalize(question)
        candidates: Any = self._index.query(_minhash(ours))
        near = [
            (similarity, -line)
            for line in candidates
            if self._texts[line][0] != text
            and (similarity := jaccard(ours, self._texts[line][1])) >= NEAR
        ]
        return (-max(near)[1], max(near)[0]) if near else None


def _minhash(parts: frozenset[str]) -> MinHash:
    sketch = MinHash(num_perm=_NUM_PERMUTATIONS, seed=1)
    sketch.update_batch([part.encode() for part in parts])
    return sketch


def _duplicates(examples: Numbered) -> Iterator[Finding]:
    first: dict[str, tuple[int, Example]] = {}
    for line, example in examples:
        earlier_line, earlier = first.setdefault(_normalize(example.question), (line, example))
        if earlier_line != line:
            same = earlier.rubric == example.rubric
            rule = "duplicate question" if same else "one question, different rubrics"
            message = f"the question of line {earlier_line} too; drop one"
            yield Finding("warning", rule, message, line, example.id, "question")


def _near_duplicates(examples: Numbered) -> Iterator[Finding]:
    questions = _Questions()
    for line, example in examples:
        if nearest := questions.nearest(example.question):
            message = f"like the question of line {nearest[0]}: {nearest[1]:.2f} of the wording"
            rule = "near-duplicate question"
            yield Finding("warning", rule, message, line, example.id, "question")
        questions.add(line, example.question)


def _overlap(examples: Numbered, rows: Sequence[FileRow], name: str) -> Iterator[Finding]:
    num_malformed = sum(row.error is not None for row in rows)
    if num_malformed:
        message = f"{num_malformed} malformed rows of {name} were not compared"
        yield Finding("error", "malformed row in a test file", message)
    questions = _Questions()
    for line, example in _numbered(rows):
        questions.add(line, example.question)
    for line, example in examples:
        if same := questions.lines.get(_normalize(example.question)):
            message = f"stands in {name}, line {same}: drop it here"
            yield Finding("error", "test question", message, line, example.id, "question")
        elif nearest := questions.nearest(example.question):
            message = f"like {name}, line {nearest[0]}: {nearest[1]:.2f} of the wording"
            yield Finding("warning", "near a test question", message, line, example.id, "question")


def _answers_in_questions(examples: Numbered) -> Iterator[Finding]:
    for line, example in examples:
        answer = " ".join(_words(example.reference_answer or ""))
        # Shorter ones, such as an option's letter or a digit, stand in questions by chance.
        if len(answer) > 3 and f" {answer} " in f" {' '.join(_words(example.question))} ":
            excerpt = textwrap.shorten(example.reference_answer or "", 80, placeholder=" …")
            message, rule = f"{excerpt!r} stands in the question", "answer in the question"
            yield Finding("warning", rule, message, line, example.id, "reference_answer")
