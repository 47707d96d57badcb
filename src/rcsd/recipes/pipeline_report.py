"""Report of a pipeline: ``summary.json``, findings, figures and a page."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import product
from typing import Any

from rcsd.data.load import read_rubrics
from rcsd.data.placebos import EMPTY, PARTIAL
from rcsd.data.rows import read_jsonl
from rcsd.data.written import written_rubrics
from rcsd.evaluation.report import Arm, Estimate, ReportPage
from rcsd.evaluation.rubric_agreement import Agreement, measure_agreement
from rcsd.evaluation.run_report import criterion_shares, curves, facts, side_by_side
from rcsd.evaluation.statistics import Interval, paired_difference
from rcsd.evaluation.text import spaced
from rcsd.recipes.arms import (
    Outcome,
    compare_on_sets,
    describe_rules,
    differences,
    estimates,
    write_outcome,
)
from rcsd.recipes.pipeline import SAMPLES, UNTRAINED, Artifacts, run
from rcsd.recipes.pipeline_config import Pipeline
from rcsd.recipes.pipeline_steps import Writer
from rcsd.recipes.write_rubrics import read_report
from rcsd.types import Progress

_RUBRICS = {
    "gold": "gold rubrics",
    "learned": "rubrics of the trained writer",
    "direct": "rubrics of the untrained writer",
    "generic": "one rubric for all problems, a placebo",
    "shuffled": "other problems' rubrics, a placebo",
    "random": "other problems' criteria, mixed, a placebo",
    "reduced": "a part of each rubric's criteria",
    "noisy": "rubrics of which a part is replaced at random",
}
_ARMS = (
    Arm("base", "before distillation, no rubric shown"),
    Arm("teacher", "the same weights, each problem's own rubric shown"),
    *(
        Arm(name, f"distilled with {rubrics}; no rubric shown", name in ("gold", "learned"))
        for name, rubrics in _RUBRICS.items()
    ),
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
# Arms that are compared where both exist.
_PAIRS = (
    *((arm, "base") for arm in _RUBRICS),
    *product(("gold", "learned", "direct"), (*EMPTY, *PARTIAL)),
    ("learned", "direct"),
    ("gold", "learned"),
    ("teacher", "gold"),
)
_AGREEMENT = ("precision", "recall", "f1", "verdict_agreement")
_COUNTS = ("num_rows", "num_written", "num_cut", "num_redrawn", "num_held_short")


def run_and_report(
    settings: Pipeline, title: str, model: str, further: Mapping[str, object], progress: Progress
) -> Outcome:
    """Run a pipeline (`run`), write its report; ``further`` are more entries of the summary."""
    began = time.perf_counter()
    artifacts = run(settings, progress)
    seconds = round(time.perf_counter() - began, 1)
    rows = {arm: of for arm, of in artifacts.rows.items() if arm != SAMPLES}
    comparisons = compare_on_sets(
        artifacts.sets,
        artifacts.new_kinds,
        {arm: [of] for arm, of in rows.items()},
        [pair for pair in _PAIRS if set(pair) <= set(rows)],
        settings.seed,
    )
    means, gains = estimates(comparisons), differences(comparisons)
    written = agreements(artifacts, settings.seed)
    rubrics = [
        Estimate(writer, name, metric, interval)
        for writer, sets in written.items()
        for name, of in sets.items()
        for metric in _AGREEMENT
        if (interval := getattr(of, metric)) is not None
    ]
    arms = [arm for arm in _ARMS if arm.name in rows]
    first, problems = next(iter(artifacts.sets.items()))
    answers = {arm.name: rows[arm.name][first] for arm in arms}
    criteria = criterion_shares(answers, problems)
    by_arm = _nested(means, [arm.name for arm in arms])
    summary = {
        # The quickstart's first name of the arm that is distilled with gold rubrics.
        "arms": by_arm | ({"rcsd": by_arm["gold"]} if "gold" in by_arm else {}),
        "criteria": {c.kind: dict(c.shares) for c in criteria},
        "headroom": _nested(means, [arm for arm in _HEADROOM if arm in rows]),
        "rubrics": _nested(rubrics, list(written)),
        "writing": {writer: _counts(artifacts, writer) for writer in artifacts.written},
        "num_left_out": {
            name: {of.metric: of.compared.num_left_out for of in comparisons if of.set == name}
            for name in artifacts.sets
        },
        "by_rule": {
            of.set: {rule: asdict(compared) for rule, compared in of.by_rule.items()}
            for of in comparisons
            if of.by_rule
        },
        "seconds": seconds,
        "model": model,
        "seed": settings.seed,
        **further,
    }
    scores = {of.arm: of.interval for of in means if (of.split, of.metric) == (first, "score")}
    findings = describe(first, scores, gains, written) + [
        f"On {spaced(of.set)}, {num} of {len(artifacts.sets[of.set])} questions are left "
        f"out of the {of.metric} of every arm: an answer of one arm could not be graded."
        for of in comparisons
        if (num := of.compared.num_left_out)
    ]
    findings += describe_rules(comparisons)
    note = "95% bootstrap intervals, resampled by question"
    if artifacts.new_kinds:
        note += f", on {', '.join(map(spaced, sorted(artifacts.new_kinds)))} by family of problems"
    trained = next(arm.name for arm in arms if arm.name in artifacts.folders)
    page = ReportPage(
        title=title,
        subtitle=f"{model}, seed {settings.seed}, {seconds:.0f} seconds",
        lead=tuple(findings),
        arms=tuple(arms),
        estimates=tuple(of for of in means if of.arm in answers),
        differences=tuple(gains),
        rubrics=tuple(rubrics),
        headroom={label: scores[arm] for arm, label in _HEADROOM.items() if arm in scores},
        interval_note=note,
        curves=tuple(c for arm, f in artifacts.folders.items() for c in curves(arm, f.metrics())),
        criteria=tuple(criteria),
        samples=tuple(side_by_side(answers, problems)),
        facts=facts(artifacts.folders[trained].read_record()),
    )
    return write_outcome(page, settings.out, "summary.json", summary)


def agreements(artifacts: Artifacts, seed: int) -> dict[str, dict[str, Agreement]]:
    """Agreement of written rubrics with gold, by writer and set; sets without gold are left out."""
    measured: dict[str, dict[str, Agreement]] = {}
    for (writer, files), (name, examples) in product(
        artifacts.written.items(), artifacts.sets.items()
    ):
        if any(example.rubric is None for example in examples):
            continue
        rubrics = read_rubrics(examples, written_rubrics(examples, files[name]).rubrics)
        texts: dict[str, list[str]] = {}
        for row in artifacts.rows[SAMPLES][name]:
            texts.setdefault(row.id, []).append(row.text)
        clusters = None
        if name in artifacts.new_kinds:
            clusters = {example.id: example.tags["template"] for example in examples}
        measured.setdefault(writer, {})[name] = measure_agreement(
            examples, rubrics, texts, seed=seed, clusters=clusters
        )
    return measured


def _nested(rows: Sequence[Estimate], names: Sequence[str]) -> dict[str, Any]:
    """Estimates as ``summary.json`` nests them: arm, set, metric."""
    nested: dict[str, Any] = {name: {} for name in names}
    for row in rows:
        if row.arm in nested:
            nested[row.arm].setdefault(row.split, {})[row.metric] = asdict(row.interval)
    return nested


def _counts(artifacts: Artifacts, writer: Writer) -> dict[str, int]:
    """Counts over all rubrics of a writer."""
    files = [artifacts.questions[writer], *artifacts.written[writer].values()]
    reports = [read_report(path) for path in files]
    return {name: sum(of[name] for of in reports) for name in _COUNTS} | {
        "num_dropped": sum(len(of["dropped"]) for of in reports),
        # Counted anew from the files: a rubric that does not parse would be an error here.
        "num_valid": sum(row.rubric is not None for path in files for row in read_jsonl(path)),
    }


# Findings


def describe(
    name: str,
    scores: Mapping[str, Interval],
    differences: Sequence[Estimate],
    written: Mapping[str, Mapping[str, Agreement]],
) -> list[str]:
    """Sentences on the scores of one set, favourable or not.

    ``scores`` are by arm; ``written`` is the rubrics' agreement with gold, by writer and set.
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
            f"{scores['teacher']:.2f} on {spaced(name)}; without, {scores['base']:.2f}; with "
            f"another problem's rubric, {scores['teacher, shuffled rubric']:.2f}."
        )
    if "learned" in written and "direct" in written:
        learned, direct = written["learned"][name], written["direct"][name]
        change = paired_difference([r.f1 for r in learned.rows], [r.f1 for r in direct.rows])
        sentence = (
            f"Stage 1: the trained writer's rubrics match gold with an F1 of {learned.f1:.2f}, the "
            f"untrained one's with {direct.f1:.2f}, a change of {change:.2f}"
        )
        if learned.verdict_agreement is not None and direct.verdict_agreement is not None:
            sentence += (
                f"; they order answers as gold does in {learned.verdict_agreement:.2f} of the "
                f"pairs, before it in {direct.verdict_agreement:.2f}"
            )
        sentences.append(f"{sentence}.")
    gains = {d.arm: d.interval for d in differences if (d.split, d.metric) == (name, "score")}
    return sentences + [_describe_arm(arm, scores[arm], gains) for arm in _RUBRICS if arm in scores]


def _describe_arm(arm: str, score: Interval, gains: Mapping[str, Interval]) -> str:
    """Score of an arm, its gain, and the part of the gain that the rubrics' content explains."""
    sentence = f"Distilled with {_RUBRICS[arm]}, the student, shown no rubric, scores {score:.2f}"
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
