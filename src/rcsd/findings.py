"""What the quickstart's arms show: estimates, differences, sentences, summary and page."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from rcsd.evaluate import Graded
from rcsd.files import write_json
from rcsd.insight import (
    criterion_shares,
    curves,
    difference,
    facts,
    metric_values,
    side_by_side,
)
from rcsd.report import (
    Arm,
    Difference,
    Estimate,
    HeadroomRow,
    ReportPage,
    figure_svg,
    terminal_table,
    write_report,
)
from rcsd.runs import RunFolder
from rcsd.stats import Interval, bootstrap_interval
from rcsd.types import Example
from rcsd.world.problems import SPLITS

HELD_OUT = SPLITS[1:]
ARMS = (
    Arm("base", "before distillation, no rubric shown"),
    Arm("teacher", "the same weights, each problem's own rubric shown"),
    Arm("rcsd", "distilled from the teacher; no rubric shown", highlight=True),
    Arm("shuffled", "placebo: distilled with other problems' rubrics; no rubric shown"),
)
# The placebo shown to the untrained model, for the headroom alone.
MISLED = "teacher, shuffled rubric"
# What is added to an arm's name before the warm start.
GIVEN = ", before the warm start"
_HEADROOM = {
    f"base{GIVEN}": "before the warm start, no rubric shown",
    f"teacher{GIVEN}": "before the warm start, own rubric shown",
    "base": "no rubric shown",
    "teacher": "own rubric shown",
    MISLED: "another problem's rubric shown",
}


Rows = dict[str, dict[str, list[Graded]]]
"""Graded completions of each arm and split."""


@dataclass(frozen=True)
class Outcome:
    """What the pipeline found.

    Args:
        summary: As ``summary.json`` holds it.
        findings: Sentences for a reader.
        table: Arms and splits, for the terminal.
        report: The page.
    """

    summary: Mapping[str, Any]
    findings: Sequence[str]
    table: Table
    report: Path


def reported(  # noqa: PLR0913 (everything that was found)
    out: Path,
    seed: int,
    model: str,
    settings: Mapping[str, object],
    held_out: Mapping[str, Sequence[Example]],
    rows: Rows,
    folders: Mapping[str, RunFolder],
    seconds: float,
) -> Outcome:
    """Statistics, summary, page."""
    estimates = {
        (arm, split, metric): bootstrap_interval(metric_values(rows[arm][split], metric), seed=seed)
        for arm in rows
        for split in HELD_OUT
        for metric in ("score", "accuracy")
    }
    differences = [
        difference(f"{left} - {right}", rows[left][split], rows[right][split], split, metric, seed)
        for left, right in (("rcsd", "base"), ("rcsd", "shuffled"), ("teacher", "rcsd"))
        for split in HELD_OUT
        for metric in ("score", "accuracy")
    ]
    shown = [arm.name for arm in ARMS]
    criteria = criterion_shares(
        {arm: rows[arm]["new_numbers"] for arm in shown}, held_out["new_numbers"]
    )
    summary = {
        "arms": _by_split(estimates, {arm.name: arm.name for arm in ARMS}),
        "criteria": {c.kind: dict(c.shares) for c in criteria},
        "before_warm_start": _by_split(
            estimates, {arm: arm.removesuffix(GIVEN) for arm in rows if arm.endswith(GIVEN)}
        ),
        "seconds": seconds,
        "model": model,
        "seed": seed,
        "settings": dict(settings),
    }
    write_json(out / "summary.json", summary)
    findings = _findings(estimates, differences)
    page = ReportPage(
        title="Rubric-conditioned self-distillation on the rubric world",
        subtitle=f"{model}, seed {seed}, {seconds:.0f} seconds",
        lead=tuple(findings),
        arms=ARMS,
        estimates=tuple(
            Estimate(*key, interval) for key, interval in estimates.items() if key[0] in shown
        ),
        differences=tuple(differences),
        headroom=tuple(
            HeadroomRow(label, estimates[arm, "new_numbers", "score"])
            for arm, label in _HEADROOM.items()
            if arm in rows
        ),
        curves=tuple(c for arm, f in folders.items() for c in curves(arm, f.metrics())),
        criteria=tuple(criteria),
        samples=tuple(
            side_by_side({arm: rows[arm]["new_numbers"] for arm in shown}, held_out["new_numbers"])
        ),
        facts=facts(folders["rcsd"].read_record()),
    )
    write_report(page, out / "report.html")
    (out / "scores.svg").write_text(figure_svg(page, "scores"), encoding="utf-8")
    return Outcome(summary, findings, terminal_table(page), out / "report.html")


Estimates = dict[tuple[str, str, str], Interval]
"""Interval of each arm, split and metric."""


def _by_split(estimates: Estimates, names: Mapping[str, str]) -> dict[str, Any]:
    """Estimates as ``summary.json`` nests them, under the arms' names there."""
    return {
        name: {
            split: {
                metric: asdict(estimates[arm, split, metric]) for metric in ("score", "accuracy")
            }
            for split in HELD_OUT
        }
        for arm, name in names.items()
    }


def _findings(
    estimates: Mapping[tuple[str, str, str], Interval], differences: Sequence[Difference]
) -> list[str]:
    """What the numbers say on new numbers, for better or worse."""

    def score(arm: str) -> str:
        return _written(estimates[arm, "new_numbers", "score"])

    gap = next(
        d.interval
        for d in differences
        if (d.label, d.split, d.metric) == ("rcsd - shuffled", "new_numbers", "score")
    )
    gain = next(
        d.interval
        for d in differences
        if (d.label, d.split, d.metric) == ("rcsd - base", "new_numbers", "score")
    )
    content = (
        "so the gain comes from what the rubrics say, not from their presence"
        if gap.low > 0 and gain.low > 0
        else "so this run does not show that the rubrics' content helps"
    )
    before = []
    if (f"base{GIVEN}", "new_numbers", "score") in estimates:
        before = [
            f"Before the warm start the model scores {score('base' + GIVEN)} without a rubric and "
            f"{score('teacher' + GIVEN)} when it is shown its own."
        ]
    return [
        *before,
        f"Headroom: shown its rubric, the model that distillation starts from scores "
        f"{score('teacher')} on new numbers; without, {score('base')}; with another problem's "
        f"rubric, {score(MISLED)}.",
        f"After distillation the student, which sees no rubric, scores {score('rcsd')}; "
        f"the gain over the base is {_written(gain)}.",
        f"The placebo, distilled with shuffled rubrics, scores {score('shuffled')}; the difference "
        f"is {_written(gap)}, {content}.",
        f"On families of problems that no training ever saw: shown "
        f"its rubric the model scores {_written(estimates['teacher', 'new_templates', 'score'])}, "
        f"after distillation {_written(estimates['rcsd', 'new_templates', 'score'])} (accuracy "
        f"{_written(estimates['rcsd', 'new_templates', 'accuracy'])}).",
    ]


def _written(interval: Interval) -> str:
    return f"{interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
