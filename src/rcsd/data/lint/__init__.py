"""What can be wrong with rubrics, found without a model: row by row, and counted."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rcsd.data.lint.rules import RULES, SEVERITIES, Limits, Severity, context_of
from rcsd.errors import DataError
from rcsd.types import Example


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a file, whether or not it can be read.

    Args:
        line: Counted from 1.
        id: As the row gives it, or its line number.
        example: What it holds; None where it is malformed.
        error: What is wrong with it; None where it is whole.
        rubric: Whether it has a rubric, and then whether that can be read.
    """

    line: int
    id: str
    example: Example | None
    error: DataError | None
    rubric: Literal["none", "readable", "malformed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to look at.

    Args:
        severity: Error: cannot be used. Warning: likely a mistake. Info: worth knowing.
        rule: Its name in `rcsd.data.lint.rules.RULES`.
        id: Of the row; None: the file as a whole.
        line: In the file, from 1; None: the file as a whole.
        criterion: Index in the rubric, from 0; None: the rubric, row or file as a whole.
        message: What was found.
    """

    severity: Severity
    rule: str
    id: str | None
    line: int | None
    criterion: int | None
    message: str


@dataclass(frozen=True, slots=True)
class RuleCount:
    """What one rule found.

    Args:
        rule: Its name in `rcsd.data.lint.rules.RULES`.
        severity: Of its findings.
        num_findings: How many.
        num_rows: In how many rows; none if it was the file as a whole.
        example: The first, or None.
    """

    rule: str
    severity: Severity
    num_findings: int
    num_rows: int
    example: Finding | None


@dataclass(frozen=True)
class Report:
    """What lint found in a file.

    Args:
        num_rows: Lines that are not blank.
        num_without_rubric: Rows with no rubric.
        num_readable: Rows whose rubric can be read.
        num_malformed: Rows whose rubric cannot be read.
        num_criteria: In the rubrics that can be read, of rows that can be.
        findings: Of the file as a whole, then by line; within a row in the order of
            `rcsd.data.lint.rules.RULES`.
    """

    num_rows: int
    num_without_rubric: int
    num_readable: int
    num_malformed: int
    num_criteria: int
    findings: tuple[Finding, ...]

    @property
    def parse_rate(self) -> float | None:
        """Rubrics that can be read over rubrics; None if there is none."""
        num_rubrics = self.num_readable + self.num_malformed
        return self.num_readable / num_rubrics if num_rubrics else None

    @property
    def worst(self) -> Severity | None:
        """The worst severity found, or None."""
        found = {finding.severity for finding in self.findings}
        return next((severity for severity in SEVERITIES if severity in found), None)

    def fails(self, severity: Literal["error", "warning", "never"]) -> bool:
        """Whether something as bad as that was found."""
        failing = {"error": ("error",), "warning": ("error", "warning"), "never": ()}[severity]
        return self.worst in failing

    def counts(self) -> list[RuleCount]:
        """One entry a rule, in the order of `rcsd.data.lint.rules.RULES`."""
        by_rule: dict[str, list[Finding]] = {rule: [] for rule in RULES}
        for finding in self.findings:
            by_rule[finding.rule].append(finding)
        return [
            RuleCount(
                name,
                RULES[name].severity,
                len(found),
                len({finding.line for finding in found} - {None}),
                found[0] if found else None,
            )
            for name, found in by_rule.items()
        ]

    def json(self) -> dict[str, Any]:
        """Everything, for a JSON file."""
        severities = Counter(finding.severity for finding in self.findings)
        return {
            "num_rows": self.num_rows,
            "num_without_rubric": self.num_without_rubric,
            "num_readable": self.num_readable,
            "num_malformed": self.num_malformed,
            "num_criteria": self.num_criteria,
            "parse_rate": self.parse_rate,
            "severities": {severity: severities[severity] for severity in SEVERITIES},
            "rules": {
                count.rule: {
                    "severity": count.severity,
                    "description": RULES[count.rule].description,
                    "num_findings": count.num_findings,
                    "num_rows": count.num_rows,
                }
                for count in self.counts()
            },
            "findings": [asdict(finding) for finding in self.findings],
        }


def lint(rows: Sequence[Row], limits: Limits | None = None) -> Report:
    """Apply every rule to the rows of a file.

    Args:
        rows: See `rcsd.data.reading.read_rows`.
        limits: The default bounds where left out.
    """
    pairs = [
        (row, row.example, row.example.rubric)
        for row in rows
        if row.example is not None and row.example.rubric is not None
    ]
    context = context_of([(example, rubric) for _, example, rubric in pairs], limits or Limits())
    findings: list[Finding] = []
    if all(row.rubric == "none" for row in rows):
        message = f"no rubric in the file: none of its rows ({len(rows)}) has one"
        findings.append(Finding("error", "no rubric", None, None, None, message))
    findings += [
        Finding("error", "malformed", row.id, row.line, None, _without_place(row.error))
        for row in rows
        if row.error is not None
    ]
    for row, example, rubric in pairs:
        for name, rule in RULES.items():
            if rule.find is not None:
                findings += [
                    Finding(rule.severity, name, row.id, row.line, criterion, message)
                    for criterion, message in rule.find(example, rubric, context)
                ]
    kinds = Counter(row.rubric for row in rows)
    return Report(
        num_rows=len(rows),
        num_without_rubric=kinds["none"],
        num_readable=kinds["readable"],
        num_malformed=kinds["malformed"],
        num_criteria=sum(len(rubric.criteria) for _, _, rubric in pairs),
        findings=tuple(sorted(findings, key=lambda finding: finding.line or 0)),
    )


def _without_place(error: DataError) -> str:
    """What is wrong and in which field; the finding itself names the line."""
    return str(error).removeprefix(f"{error.path}:{error.line}: ")
