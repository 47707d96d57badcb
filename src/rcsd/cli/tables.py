"""Tables of the command that measures rubrics."""

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from rcsd.evaluation.rubric_agreement import Agreement, Comparison
    from rcsd.evaluation.statistics import Interval

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
    """Each measure with its interval; with what came before and the paired difference."""
    if before is None or difference is None:
        table = Table("", "against gold", "rows")
    else:
        table = Table("", "before", "after", "difference, paired", "rows")
    for name, words in _MEASURES.items():
        found: Interval | None = getattr(after, name)
        cells = [shown(found)]
        if before is not None and difference is not None:
            cells = [shown(getattr(before, name)), *cells]
            cells.append(shown(getattr(difference, name, None), sign="+"))
        table.add_row(words, *cells, "" if found is None else str(found.n))
    return table


def shown(interval: "Interval | None", sign: str = "") -> str:
    """Such as ``0.61 [0.55, 0.67]``; a dash where there is no estimate."""
    if interval is None:
        return "\u2013"
    mean, low, high = (f"{x:{sign}.3f}" for x in (interval.mean, interval.low, interval.high))
    return f"{mean} [{low}, {high}]"


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
