"""Tables of ``rcsd data check``, ``rcsd rubrics check`` and ``rcsd rubrics score``."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rcsd.cli.table import Table
from rcsd.cli.terminal import styled
from rcsd.evaluation.text import interval_text

if TYPE_CHECKING:
    from rcsd.data.check import Finding, Report
    from rcsd.evaluation.rubric_agreement import Agreement
    from rcsd.evaluation.statistics import Interval

_COLOURS = {"error": "red", "warning": "yellow", "info": "cyan"}


def findings_by_rule(report: "Report") -> Table:
    """Number of findings of each rule for rubrics, with the first finding as an example."""
    from rcsd.data.lint_rules import RULES  # noqa: PLC0415

    rows = []
    for name, rule in RULES.items():
        findings = report.by_rule().get(name, [])
        severity = styled(rule.severity, _COLOURS[rule.severity] if findings else "dim")
        num_rows = len({finding.line for finding in findings} - {None})
        example = f"{_place(findings[0])}: {findings[0].message}" if findings else ""
        rows.append((name, severity, str(len(findings)), str(num_rows), example))
    return Table(("rule", "severity", "findings", "rows", "for example"), rows, num_names=5)


def every_finding(findings: "Sequence[Finding]") -> Table:
    """One line a finding."""
    rows = [
        (
            "" if finding.line is None else str(finding.line),
            _place(finding),
            styled(finding.severity, _COLOURS[finding.severity]),
            finding.rule,
            finding.message,
        )
        for finding in findings
    ]
    return Table(("line", "where", "severity", "rule", "message"), rows, num_names=5)


def _place(finding: "Finding") -> str:
    """Id and field, such as ``'train-0' rubric[2]``, or the file."""
    id = "the file" if finding.id is None else repr(finding.id)
    return f"{id} {finding.field or ''}".strip()


_MEASURES = {
    "precision": "criteria: precision, by points",
    "recall": "criteria: recall, by points",
    "f1": "criteria: F1",
    "weight_correlation": "points: rank correlation",
    "verdict_agreement": "answers: order as gold's",
}


def agreement_table(
    after: "Agreement",
    before: "Agreement | None",
    difference: "Mapping[str, Interval | None] | None",
) -> Table:
    """Each measure with its interval; with the one before and the paired difference."""
    columns: tuple[str, ...] = ("measure", "against gold", "rows")
    if before is not None:
        columns = ("measure", "before", "after", "difference, paired", "rows")
    rows = []
    for name, words in _MEASURES.items():
        found: Interval | None = getattr(after, name)
        cells = [interval_text(found)]
        if before is not None:
            change = interval_text((difference or {}).get(name), "+.3f")
            cells = [interval_text(getattr(before, name)), *cells, change]
        rows.append((words, *cells, "" if found is None else str(found.n)))
    return Table(columns, rows)


def agreement_facts(found: "Agreement") -> str:
    """What the table leaves out: counts of what was matched, missed, and not scored."""
    facts = [
        f"{found.num_rows - len(found.missing)} of {found.num_rows} gold rows have a rubric",
        f"{found.num_pairs} of {found.num_written} written criteria match one of gold's",
    ]
    if found.verdict_agreement is not None:
        facts.append(f"{found.num_unscored} written criteria have no verdict, and order nothing")
        facts.append(f"{found.num_unordered} rows with answers could not be ordered")
    return "; ".join(facts) + "."
