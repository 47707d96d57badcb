"""Rows of a report from runs and graded answers: curves, facts, criteria, sample answers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rcsd import config
from rcsd.data.load import load_examples
from rcsd.evaluation.compare import criterion_verdicts
from rcsd.evaluation.record import flat
from rcsd.evaluation.report import (
    CriterionShares,
    Curve,
    ReportPage,
    Sample,
    SampleAnswer,
    write_report,
)
from rcsd.graders.grade import Graded, read_graded
from rcsd.runs import RunFolder
from rcsd.types import Example

# Metric, its name in the report, its unit.
_CURVES = (
    ("loss/total_mean", "loss", "weighted sum"),
    ("loss/divergence_nats_mean", "divergence", "nats per token"),
    ("loss/nll_nats_mean", "negative log-likelihood", "nats per token"),
    ("reward/score_mean", "reward", "weighted sum"),
    ("reward/no_spread_share", "groups without spread", "share"),
    ("loss/frozen_kl_nats_mean", "KL to the frozen weights", "nats per token"),
    ("student/entropy_nats_mean", "student entropy", "nats"),
    ("teacher/top_k_overlap_share", "top-k overlap of both views", "share"),
    ("student/end_probability_mean", "student's end probability", "mean probability"),
    ("teacher/end_probability_mean", "teacher's end probability", "mean probability"),
    ("completion/length_tokens_mean", "completion length", "tokens"),
    ("completion/truncated_share", "truncated completions", "share"),
    ("completion/leak_phrase_share", "mentions of rubric or reference", "share of completions"),
    ("completion/copied_reference_share", "copies of the reference", "share of completions"),
    ("completion/copied_rubric_share", "copies of the rubric", "share of completions"),
    ("completion/hedges_per_1000_words", "hedging", "phrases per 1000 words"),
    ("completion/checks_per_1000_words", "checking", "phrases per 1000 words"),
    ("completion/duplicate_share", "duplicate completions", "share"),
    ("optim/grad_norm", "gradient norm", "before clipping"),
    ("eval/score_mean", "held-out score", "0 to 1"),
    ("eval/accuracy_mean", "held-out accuracy", "0 to 1"),
    ("eval/accuracy_ungraded_as_wrong_mean", "held-out accuracy (ungraded as wrong)", "0 to 1"),
    ("eval/f1_mean", "held-out rubrics' F1", "0 to 1"),
    ("eval/valid_share", "held-out rubrics that parse", "share"),
)
_NUM_SAMPLES = 4


def curves(arm: str, rows: Sequence[Mapping[str, float]]) -> list[Curve]:
    """The curves of one run that a reader looks at first."""
    lines = []
    for metric, name, unit in _CURVES:
        points = [(int(row["step"]), row[metric]) for row in rows if metric in row]
        if points:
            steps, values = zip(*points, strict=True)
            lines.append(Curve(arm, name, unit, steps, values))
    return lines


def write_run_report(folder: RunFolder) -> Path:
    """Write ``report.html`` of one run; returns its path.

    Curves, held-out answers with the explanations of a judge, the last completions, facts.
    """
    record, path = folder.read_record(), folder.path / "report.html"
    samples = [
        Sample(row["question"], (SampleAnswer(f"step {row['step']}", row["text"]),))
        for row in folder.completions()[-_NUM_SAMPLES:]
    ]
    page = ReportPage(
        title=folder.path.name,
        subtitle=f"{record['config']['method']['type']} from {record['config']['model']['path']}",
        curves=tuple(curves(folder.path.name, folder.metrics())),
        samples=(*_judged_samples(folder), *samples),
        facts=facts(record),
    )
    write_report(page, path)
    return path


def _judged_samples(folder: RunFolder) -> list[Sample]:
    """Answers of the last evaluation to the first held-out set, where a model judges them."""
    section = config.config_of_run(folder).evaluation
    if section is None or section.judge.type == "code":
        return []
    name, data = next(iter(section.by_name.items()))
    files = sorted(folder.path.glob(f"evaluations/step-??????-{name}.jsonl"))
    if not files:
        return []
    examples, _ = load_examples(data)
    step = files[-1].name.split("-")[1]
    return side_by_side({f"held out, step {int(step)}": read_graded(files[-1])}, examples)


def facts(record: Mapping[str, Any]) -> dict[str, object]:
    """A run's record as flat names and values."""
    keys = ("versions", "num_examples", "dropped", "git_revision", "data_sha256")
    values = flat({**record["config"], **{key: record.get(key) for key in keys}})
    return {
        name: f"{len(value)} rows" if isinstance(value, list) and len(value) > 4 else value
        for name, value in values.items()
    }


def criterion_shares(
    rows: Mapping[str, Sequence[Graded]], problems: Sequence[Example]
) -> list[CriterionShares]:
    """For each kind of criterion (its title), the share of answers that meet it, by arm.

    Over the verdicts that every arm has; kinds of which there are none are left out.
    """
    kinds = criterion_verdicts({arm: [graded] for arm, graded in rows.items()}, problems)
    shares = []
    for (violation, title), kind in kinds.items():
        values = np.concatenate(list(kind.values.values()))
        judged = np.isfinite(values).all(axis=0)
        if judged.any():
            met = values[:, judged].mean(axis=1)
            by_arm = dict(zip(kind.values, met.tolist(), strict=True))
            shares.append(CriterionShares(title, by_arm, violation, int(judged.sum())))
    return shares


def side_by_side(rows: Mapping[str, Sequence[Graded]], problems: Sequence[Example]) -> list[Sample]:
    """The first problem of each of the first templates, so that nobody can have picked them.

    A problem without the tag ``template`` counts as a template of its own.
    """
    numbered = reversed(list(enumerate(problems)))
    first = {problem.tags.get("template", problem.id): n for n, problem in numbered}
    samples = []
    for index in sorted(first.values())[:_NUM_SAMPLES]:
        problem, graded = problems[index], {arm: of[index] for arm, of in rows.items()}
        answers = tuple(
            SampleAnswer(arm, row.text, row.verdicts, row.score, row.right, row.explanations)
            for arm, row in graded.items()
        )
        criteria = problem.rubric.criteria if problem.rubric is not None else ()
        samples.append(Sample(problem.question, answers, criteria, problem.reference_answer))
    return samples
