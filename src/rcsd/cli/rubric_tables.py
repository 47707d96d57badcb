"""Tables of ``rcsd rubrics check`` and ``rcsd rubrics score``."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rcsd.cli.table import Table, interval_text
from rcsd.cli.terminal import styled

if TYPE_CHECKING:
    from rcsd.data.lint import Finding, Report
    from rcsd.evaluation.rubric_agreement import Agreement, Comparison
    from rcsd.evaluation.statistics import Interval

_COLOURS = {"error": "red", "warning": "yellow", "info": "cyan"}


def findings_by_rule(report: "Report") -> Table:
    """Number of findings of each rule, with the first finding as an example."""
    rows = []
    for count in report.counts():
        first = "" if count.example is None else f"{place(count.example)}: {count.example.message}"
        colour = _COLOURS[count.severity] if count.num_findings else "dim"
        counts = (str(count.num_findings), str(count.num_rows))
        rows.append((count.rule, styled(count.severity, colour), *counts, first))
    return Table(("rule", "severity", "findings", "rows", "for example"), rows, num_names=5)


def every_finding(findings: "Sequence[Finding]") -> Table:
    """One line a finding."""
    rows = [
        (
            "" if found.line is None else str(found.line),
            place(found),
            styled(found.severity, _COLOURS[found.severity]),
            found.rule,
            found.message,
        )
        for found in findings
    ]
    return Table(("line", "where", "severity", "rule", "message"), rows, num_names=5)


def place(found: "Finding") -> str:
    """Row and criterion, as ``'train-0' rubric[2]``, or the file."""
    if found.id is None:
        return "the file"
    criterion = "" if found.criterion is None else f" rubric[{found.criterion}]"
    return f"{found.id!r}{criterion}"


_MEASURES = {
    "precision": "criteria: precision, by points",
    "recall": "criteria: recall, by points",
    "f1": "criteria: F1",
    "weight_correlation": "points: rank correlation",
    "verdict_agreement": "answers: order as gold's",
}


def agreement_table(
    after: "Agreement", before: "Agreement | None", difference: "Comparison | None"
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
            change = interval_text(getattr(difference, name, None), "+.3f")
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
