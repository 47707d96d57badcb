"""Report of a pipeline: ``summary.json``, findings, figures and a page."""

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rcsd.data.placebos import EMPTY, PARTIAL
from rcsd.data.reading import written_rubrics
from rcsd.data.rows import read_jsonl
from rcsd.data.world.reading import read_rubrics
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
from rcsd.evaluation.rubric_agreement import Agreement, agreement, compared
from rcsd.evaluation.rubric_agreement.matchers import chosen_matcher
from rcsd.evaluation.run_report import criterion_shares, curves, facts, side_by_side
from rcsd.evaluation.statistics import Interval
from rcsd.graders.code import CodeJudge
from rcsd.io import write_json, write_text
from rcsd.recipes.arms import (
    compare_on_sets,
    differences,
    estimates,
    metric_values,
    place,
)
from rcsd.recipes.pipeline import UNTRAINED, PipelineResult, run
from rcsd.recipes.pipeline_config import Pipeline
from rcsd.recipes.pipeline_steps import Writer
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
    f"base{UNTRAINED}": "before the warm start, no rubric shown",
    f"teacher{UNTRAINED}": "before the warm start, own rubric shown",
    "base": "no rubric shown",
    "teacher": "gold rubric shown",
    "teacher, learned rubric": "trained writer's rubric shown",
    "teacher, direct rubric": "untrained writer's rubric shown",
    "teacher, shuffled rubric": "another problem's rubric shown",
}
_PLACEBOS: tuple[str, ...] = (*EMPTY, *PARTIAL)
# Arms that are compared where both exist.
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
_DISTILLED_WITH = {
    "gold": "with gold rubrics",
    "learned": "with the trained writer's rubrics",
    "direct": "with the untrained writer's rubrics",
    "generic": "with one generic rubric for all, a placebo,",
    "shuffled": "with shuffled rubrics, a placebo,",
    "random": "with rubrics of random criteria, a placebo,",
    "reduced": "with a part of each rubric",
    "noisy": "with rubrics of which a part is replaced at random",
}
_AGREEMENT = ("precision", "recall", "f1", "verdict_agreement", "weight_correlation")
_COUNTS = ("num_rows", "num_written", "num_cut", "num_redrawn", "num_held_short")


def run_and_report(
    settings: Pipeline,
    title: str,
    model: str,
    further: Mapping[str, object],
    progress: Progress,
) -> Outcome:
    """Run a pipeline and write its report.

    Args:
        settings: The pipeline.
        title: Title of the page.
        model: Name of the model.
        further: Further entries of the summary.
        progress: Callback of every step.

    Raises:
        UserError: As `rcsd.recipes.pipeline.run`.
    """
    began = time.perf_counter()
    result = run(settings, progress)
    seconds = round(time.perf_counter() - began, 1)
    about = {"seconds": seconds, "model": model, "seed": settings.seed, **further}
    return report(settings.out, title, result, about)


def report(out: Path, title: str, result: PipelineResult, about: Mapping[str, Any]) -> Outcome:
    """Statistics, summary and page of a finished pipeline.

    Args:
        out: Folder of the pipeline.
        title: Title of the page.
        result: Artifacts of the pipeline.
        about: ``model``, ``seed``, ``seconds`` and further entries of the summary.
    """
    pairs = [pair for pair in _PAIRS if set(pair) <= set(result.rows)]
    comparisons = compare_on_sets(
        result.held_out,
        result.new_kinds,
        lambda name, metric: {
            arm: metric_values(rows[name], metric)[None] for arm, rows in result.rows.items()
        },
        pairs,
        about["seed"],
    )
    means = estimates(comparisons)
    written = agreements(result, about["seed"])
    rubrics = [
        Estimate(writer, name, metric, interval)
        for writer, sets in written.items()
        for name, of in sets.items()
        for metric in _AGREEMENT
        if (interval := getattr(of, metric)) is not None
    ]
    arms = [arm for arm in ARMS if arm.name in result.rows]
    first = next(iter(result.held_out))
    problems = result.held_out[first]
    answers = {arm.name: result.rows[arm.name][first] for arm in arms}
    criteria = criterion_shares(answers, problems)
    by_arm = _nested(means, [arm.name for arm in arms])
    summary = {
        # The quickstart's first name of the arm that is distilled with gold rubrics.
        "arms": by_arm | ({"rcsd": by_arm["gold"]} if "gold" in by_arm else {}),
        "criteria": {c.kind: dict(c.shares) for c in criteria},
        "headroom": _nested(means, [arm for arm in _HEADROOM if arm in result.rows]),
        "rubrics": _nested(rubrics, list(written)),
        "writing": {writer: _counts(result, writer) for writer in result.written},
        "num_left_out": {
            name: {of.metric: of.compared.num_left_out for of in comparisons if of.held_out == name}
            for name in result.held_out
        },
        **about,
    }
    write_json(out / "summary.json", summary)
    scores = {of.arm: of.interval for of in means if (of.split, of.metric) == (first, "score")}
    findings = describe(first, scores, differences(comparisons), written)
    if left_out := {n: of for n, of in summary["num_left_out"].items() if any(of.values())}:
        findings.append(
            f"Left out of every arm, since one arm's answer could not be graded: {left_out}."
        )
    trained = next(arm.name for arm in arms if arm.name in result.folders)
    page = ReportPage(
        title=title,
        subtitle=f"{about['model']}, seed {about['seed']}, {about['seconds']:.0f} seconds",
        lead=tuple(findings),
        arms=tuple(arms),
        estimates=tuple(of for of in means if of.arm in answers),
        differences=tuple(differences(comparisons)),
        rubrics=tuple(rubrics),
        headroom=tuple(
            HeadroomRow(label, scores[arm]) for arm, label in _HEADROOM.items() if arm in scores
        ),
        interval_note=_interval_note(result),
        curves=tuple(c for arm, f in result.folders.items() for c in curves(arm, f.metrics())),
        criteria=tuple(criteria),
        samples=tuple(side_by_side(answers, problems)),
        facts=facts(result.folders[trained].read_record()),
    )
    write_report(page, out / "report.html")
    if page.estimates:
        write_text(out / "scores.svg", figure_svg(page, "scores"))
    return Outcome(summary, findings, terminal_table(page), out / "report.html")


def agreements(result: PipelineResult, seed: int) -> dict[str, dict[str, Agreement]]:
    """Agreement of written rubrics with gold, by writer and set; sets without gold are left out."""
    measured: dict[str, dict[str, Agreement]] = {}
    for (writer, files), (name, examples) in itertools.product(
        result.written.items(), result.held_out.items()
    ):
        if any(example.rubric is None for example in examples):
            continue
        rubrics = read_rubrics(examples, written_rubrics(examples, files[name]).rubrics)
        texts: dict[str, list[str]] = {}
        for row in result.samples[name]:
            texts.setdefault(row.id, []).append(row.text)
        clusters = None
        if name in result.new_kinds:
            clusters = {example.id: example.tags["template"] for example in examples}
        matcher = chosen_matcher(examples, None, None)
        measured.setdefault(writer, {})[name] = agreement(
            examples, rubrics, matcher, texts, CodeJudge(), seed=seed, clusters=clusters
        )
    return measured


def _nested(rows: Sequence[Estimate], names: Sequence[str]) -> dict[str, Any]:
    """Estimates as ``summary.json`` nests them: arm, set, metric."""
    nested: dict[str, Any] = {name: {} for name in names}
    for row in rows:
        if row.arm in nested:
            nested[row.arm].setdefault(row.split, {})[row.metric] = asdict(row.interval)
    return nested


def _counts(result: PipelineResult, writer: Writer) -> dict[str, int]:
    """Counts over all rubrics of a writer."""
    files = [result.questions[writer], *result.written[writer].values()]
    reports = [read_report(path) for path in files]
    # Counted anew from the files: a rubric that does not parse would be an error here.
    num_valid = sum(row.rubric is not None for path in files for row in read_jsonl(path))
    return {name: sum(of[name] for of in reports) for name in _COUNTS} | {
        "num_dropped": sum(len(of["dropped"]) for of in reports),
        "num_valid": num_valid,
    }


def _interval_note(result: PipelineResult) -> str:
    note = "95% bootstrap intervals, resampled by question"
    if result.new_kinds:
        note += f", on {', '.join(map(place, sorted(result.new_kinds)))} by family of problems"
    return note


# Findings


def describe(
    name: str,
    scores: Mapping[str, Interval],
    differences: Sequence[Difference],
    written: Mapping[str, Mapping[str, Agreement]],
) -> list[str]:
    """Sentences on the scores of one set, favourable or not.

    Args:
        name: The set.
        scores: Score of each arm on it.
        differences: Differences of arms; those of other sets and metrics are ignored.
        written: Agreement of the written rubrics with gold, by writer and set.
    """
    sentences = []
    if (before := f"base{UNTRAINED}") in scores:
        sentences.append(
            f"Before the warm start the model scores {scores[before]:.2f} without a rubric and "
            f"{scores[f'teacher{UNTRAINED}']:.2f} when it is shown its own."
        )
    if "teacher" in scores:
        sentences.append(
            f"Headroom: shown its rubric, the model that distillation starts from scores "
            f"{scores['teacher']:.2f} on {place(name)}; without, {scores['base']:.2f}; with "
            f"another problem's rubric, {scores['teacher, shuffled rubric']:.2f}."
        )
    if "learned" in written and "direct" in written:
        sentences.append(_describe_writer(written["learned"][name], written["direct"][name]))
    gains = {d.label: d.interval for d in differences if (d.split, d.metric) == (name, "score")}
    return sentences + [
        _describe_arm(arm, scores[arm], gains) for arm in _DISTILLED_WITH if arm in scores
    ]


def _describe_writer(learned: Agreement, direct: Agreement) -> str:
    order = ""
    if learned.verdict_agreement is not None and direct.verdict_agreement is not None:
        order = (
            f"; they order answers as gold does in {learned.verdict_agreement:.2f} of the pairs, "
            f"before it in {direct.verdict_agreement:.2f}"
        )
    return (
        f"Stage 1: the trained writer's rubrics match gold with an F1 of {learned.f1:.2f}, the "
        f"untrained one's with {direct.f1:.2f}, a change of {compared(learned, direct).f1:.2f}"
        f"{order}."
    )


def _describe_arm(arm: str, score: Interval, gains: Mapping[str, Interval]) -> str:
    """Score of an arm, its gain, and the part of the gain that the rubrics' content explains."""
    sentence = f"Distilled {_DISTILLED_WITH[arm]} the student, shown no rubric, scores {score:.2f}"
    gain = gains.get(f"{arm} - base")
    if gain is not None:
        sentence += f", a gain of {gain:.2f}"
    empty, partial = (
        {p: gains[f"{arm} - {p}"] for p in placebos if f"{arm} - {p}" in gains}
        for placebos in (EMPTY, PARTIAL)
    )
    if gain is not None and empty:
        over = " and of ".join(f"{p} rubrics {interval:.2f}" for p, interval in empty.items())
        # Over each of them: the strongest placebo decides.
        holds = gain.low > 0 and all(interval.low > 0 for interval in empty.values())
        sentence += f"; over the placebo of {over}, so " + (
            "what the rubrics say helps" if holds else "no help of the rubrics' content is shown"
        )
    if partial:
        over = " and over ".join(f"{p} ones {interval:.2f}" for p, interval in partial.items())
        sentence += f"; with whole rubrics over {over}"
    return sentence + "."
