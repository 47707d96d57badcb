"""What a pipeline's arms show: estimates, differences, sentences, summary and page."""

import itertools
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rcsd.data.load import read_rubrics
from rcsd.data.placebos import EMPTY, PARTIAL
from rcsd.data.reading import written_rubrics
from rcsd.data.rows import read_jsonl
from rcsd.evaluation.compare import ArmsCompared, compare_arms
from rcsd.evaluation.report import (
    Arm,
    Difference,
    Estimate,
    HeadroomRow,
    Outcome,
    ReportPage,
    figure_svg,
    terminal_table,
    write_report,
)
from rcsd.evaluation.rubric_agreement import Agreement, agreement
from rcsd.evaluation.rubric_agreement.matchers import chosen_matcher
from rcsd.evaluation.run_report import criterion_shares, curves, facts, side_by_side
from rcsd.evaluation.statistics import Interval, holm
from rcsd.graders.code import CodeJudge
from rcsd.io import read_rows, write_json, write_text
from rcsd.recipes.pipeline import Found, run
from rcsd.recipes.pipeline_config import Pipeline
from rcsd.recipes.pipeline_steps import Writer
from rcsd.recipes.sentences import GIVEN, Estimates, findings_of
from rcsd.recipes.write_rubrics import read_report
from rcsd.types import Progress

ARMS = (
    Arm("base", "before distillation, no rubric shown"),
    Arm("teacher", "the same weights, each problem's own rubric shown"),
    Arm("gold", "distilled with gold rubrics; no rubric shown", highlight=True),
    Arm("learned", "distilled with rubrics of the trained writer; no rubric shown", highlight=True),
    Arm("direct", "distilled with rubrics of the untrained writer; no rubric shown"),
    Arm("generic", "placebo: distilled with one rubric for all problems; no rubric shown"),
    Arm("shuffled", "placebo: distilled with other problems' rubrics; no rubric shown"),
    Arm("random", "placebo: distilled with other problems' criteria, mixed; no rubric shown"),
    Arm("reduced", "distilled with a part of each rubric's criteria; no rubric shown"),
    Arm("noisy", "distilled with a part of the criteria replaced at random; no rubric shown"),
)
_HEADROOM = {
    f"base{GIVEN}": "before the warm start, no rubric shown",
    f"teacher{GIVEN}": "before the warm start, own rubric shown",
    "base": "no rubric shown",
    "teacher": "gold rubric shown",
    "teacher, learned rubric": "trained writer's rubric shown",
    "teacher, direct rubric": "untrained writer's rubric shown",
    "teacher, shuffled rubric": "another problem's rubric shown",
}
# Which arms are compared, where both are there.
_PLACEBOS: tuple[str, ...] = (*EMPTY, *PARTIAL)
_PAIRS = (
    ("gold", "base"),
    *(("gold", placebo) for placebo in _PLACEBOS),
    ("teacher", "gold"),
    ("learned", "base"),
    ("direct", "base"),
    ("learned", "direct"),
    *(("learned", placebo) for placebo in _PLACEBOS),
    *(("direct", placebo) for placebo in _PLACEBOS),
    ("gold", "learned"),
    *((placebo, "base") for placebo in _PLACEBOS),
)
METRICS = ("score", "accuracy")
Compared = dict[tuple[str, str], ArmsCompared]
"""The arms, by set and metric."""


def run_and_report(
    settings: Pipeline,
    title: str,
    model: str,
    further: Mapping[str, object],
    progress: Progress,
) -> Outcome:
    """Run a pipeline and report what it found.

    Args:
        settings: The pipeline.
        title: Of the page.
        model: Name of the model.
        further: More for the summary.
        progress: Told of every step.

    Raises:
        UserError: As `rcsd.recipes.pipeline.run`.
    """
    began = time.perf_counter()
    found = run(settings, progress)
    seconds = round(time.perf_counter() - began, 1)
    about = {"seconds": seconds, "model": model, "seed": settings.seed, **further}
    return reported(settings.out, title, found, about)


def reported(out: Path, title: str, found: Found, about: Mapping[str, Any]) -> Outcome:
    """Statistics, summary, page.

    Args:
        out: Folder of the pipeline.
        title: Of the page.
        found: What the pipeline made.
        about: ``model``, ``seed``, ``seconds`` and whatever else the summary is to hold.
    """
    seed = about["seed"]
    shown = [arm for arm in ARMS if arm.name in found.rows]
    trained = [arm.name for arm in shown if arm.name in found.folders]
    compared = _compared(found, seed)
    estimates = {(row.arm, *key): row.interval for key, of in compared.items() for row in of.means}
    differences = _differences(compared)
    written = agreements(found, seed)
    first = next(iter(found.held_out))
    problems = found.held_out[first]
    answers = {arm.name: found.rows[arm.name][first] for arm in shown}
    criteria = criterion_shares(answers, problems)
    arms = _by_set(estimates, {arm.name: arm.name for arm in shown})
    summary = {
        # The quickstart's first name of the arm that is distilled with gold rubrics.
        "arms": arms | ({"rcsd": arms["gold"]} if "gold" in arms else {}),
        "criteria": {c.kind: dict(c.shares) for c in criteria},
        "headroom": _by_set(estimates, {arm: arm for arm in _HEADROOM if arm in found.rows}),
        "rubrics": {
            writer: {
                name: {metric: asdict(i) for metric, i in _rubric_intervals(part).items()}
                for name, part in sets.items()
            }
            for writer, sets in written.items()
        },
        "writing": {writer: _counts(found, writer) for writer in found.written},
        "num_left_out": {
            name: {metric: compared[name, metric].num_left_out for metric in METRICS}
            for name in found.held_out
        },
        **about,
    }
    write_json(out / "summary.json", summary)
    findings = findings_of(first, estimates, differences, written)
    left_out = {n: of for n, of in summary["num_left_out"].items() if any(of.values())}
    if left_out:
        findings.append(
            f"Left out of every arm, since one arm's answer could not be graded: {left_out}."
        )
    page = ReportPage(
        title=title,
        subtitle=f"{about['model']}, seed {seed}, {about['seconds']:.0f} seconds",
        lead=tuple(findings),
        arms=tuple(shown),
        estimates=tuple(
            Estimate(*key, interval)
            for key, interval in estimates.items()
            if key[0] in [arm.name for arm in shown]
        ),
        differences=tuple(differences),
        rubrics=tuple(
            Estimate(writer, name, metric, interval)
            for writer, sets in written.items()
            for name, part in sets.items()
            for metric, interval in _rubric_intervals(part).items()
        ),
        headroom=tuple(
            HeadroomRow(label, estimates[arm, first, "score"])
            for arm, label in _HEADROOM.items()
            if (arm, first, "score") in estimates
        ),
        interval_note=_interval_note(found),
        curves=tuple(c for arm, f in found.folders.items() for c in curves(arm, f.metrics())),
        criteria=tuple(criteria),
        samples=tuple(side_by_side(answers, problems)),
        facts=facts(found.folders[trained[0]].read_record()),
    )
    write_report(page, out / "report.html")
    if page.estimates:
        write_text(out / "scores.svg", figure_svg(page, "scores"))
    return Outcome(summary, findings, terminal_table(page), out / "report.html")


def agreements(found: Found, seed: int) -> dict[str, dict[str, Agreement]]:
    """How the written rubrics agree with gold, by writer and set; sets without gold are left out.

    The answers whose order is compared are sampled from the model that distillation starts from.
    """
    measured: dict[str, dict[str, Agreement]] = {}
    for (writer, files), (name, examples) in itertools.product(
        found.written.items(), found.held_out.items()
    ):
        if any(example.rubric is None for example in examples):
            continue
        matcher = chosen_matcher(examples, None, None)
        rubrics = read_rubrics(examples, written_rubrics(examples, files[name]).rubrics)
        texts: dict[str, list[str]] = {}
        for row in read_rows(found.samples[name]):
            texts.setdefault(row["id"], []).append(row["text"])
        clusters = None
        if name in found.new_kinds:
            clusters = {example.id: example.tags["template"] for example in examples}
        part = agreement(
            examples, rubrics, matcher, texts, CodeJudge(), seed=seed, clusters=clusters
        )
        measured.setdefault(writer, {})[name] = part
    return measured


def _compared(found: Found, seed: int) -> Compared:
    """Every set by every metric, over the rows that all arms have it for.

    Where the claim is about new families of problems, families are resampled as a whole.
    """
    pairs = [pair for pair in _PAIRS if set(pair) <= set(found.rows)]
    return {
        (name, metric): compare_arms(
            {arm: [sets[name]] for arm, sets in found.rows.items()},
            metric,
            pairs,
            "template" if name in found.new_kinds else None,
            seed,
        )
        for name, metric in itertools.product(found.held_out, METRICS)
    }


def _differences(compared: Compared) -> list[Difference]:
    """All pairs that are there, on every set and by every metric; p-values of all as one family."""
    by_pair = {
        (row.left, row.right, *key): row for key, of in compared.items() for row in of.differences
    }
    found = [
        (f"{left} - {right}", key, row)
        for (left, right), key in itertools.product(_PAIRS, compared)
        if (row := by_pair.get((left, right, *key))) is not None
    ]
    corrected = holm([row.p_value for _, _, row in found]) if found else ()
    return [
        Difference(label, *key, row.interval, float(p_value))
        for (label, key, row), p_value in zip(found, corrected, strict=True)
    ]


def _interval_note(found: Found) -> str:
    note = "95% bootstrap intervals, resampled by question"
    if found.new_kinds:
        names = ", ".join(sorted(found.new_kinds)).replace("_", " ")
        note += f", on {names} by family of problems"
    return note


def _by_set(estimates: Estimates, names: Mapping[str, str]) -> dict[str, Any]:
    """Estimates as ``summary.json`` nests them, under the arms' names there."""
    nested: dict[str, Any] = {name: {} for name in names.values()}
    for (arm, held_out, metric), interval in estimates.items():
        if arm in names:
            nested[names[arm]].setdefault(held_out, {})[metric] = asdict(interval)
    return nested


def _rubric_intervals(part: Agreement) -> dict[str, Interval]:
    found = {
        "precision": part.precision,
        "recall": part.recall,
        "f1": part.f1,
        "verdict_agreement": part.verdict_agreement,
        "weight_correlation": part.weight_correlation,
    }
    return {name: interval for name, interval in found.items() if interval is not None}


def _counts(found: Found, writer: Writer) -> dict[str, int]:
    """Of all rubrics of a writer: how many, and what was done that each might be valid."""
    files = [found.questions[writer], *found.written[writer].values()]
    reports = [read_report(path) for path in files]
    names = ("num_rows", "num_written", "num_cut", "num_redrawn", "num_held_short")
    counts = {name: sum(report[name] for report in reports) for name in names}
    # Counted anew from the files: a rubric that does not parse would be an error here.
    num_valid = sum(row.rubric is not None for path in files for row in read_jsonl(path))
    return counts | {
        "num_dropped": sum(len(report["dropped"]) for report in reports),
        "num_valid": num_valid,
    }
