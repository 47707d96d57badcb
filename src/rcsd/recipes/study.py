"""A study: every method, kind of rubrics and seed once, on one budget, and its report.

All runs are steps (`rcsd.recipes.workers`) in folders that are named after everything that goes
into them (`rcsd.recipes.pipeline`), so a study that was cut off continues.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from rcsd.data.placebos import PLACEBOS
from rcsd.errors import RunError
from rcsd.evaluation.compare import MetricCompared
from rcsd.evaluation.report import Arm, ReportPage
from rcsd.evaluation.run_report import facts
from rcsd.evaluation.text import spaced
from rcsd.graders.code import CodeJudge
from rcsd.graders.grade import grade_text, judge_rows
from rcsd.io import one_owner
from rcsd.recipes.arms import (
    METRICS,
    Outcome,
    SetRows,
    compare_on_sets,
    describe_rules,
    differences,
    estimates,
    write_outcome,
)
from rcsd.recipes.pipeline import Artifacts, intact, read_answers
from rcsd.recipes.pipeline_config import Pipeline
from rcsd.recipes.pipeline_steps import answer
from rcsd.recipes.study_config import BASE, Study
from rcsd.recipes.workers import run_steps
from rcsd.runs import RunFolder
from rcsd.training.stopping import SECONDS, TOKENS
from rcsd.types import Example, Progress

SOLUTIONS = "worked solutions"
"""Arm of the examples' worked solutions, the score of copying them perfectly."""


@dataclass(frozen=True)
class StudyResult:
    """Everything that a study makes.

    ``answers`` are the initial model's: without a rubric (`BASE`), and as each teacher. By an arm's
    label, ``taught_by`` has its teacher, ``runs`` the answers of each seed at the end of its
    budget, ``folders`` these runs. ``new_kinds`` as in `rcsd.recipes.pipeline.Artifacts`.
    """

    answers: Mapping[str, SetRows]
    taught_by: Mapping[str, str]
    runs: Mapping[str, Sequence[SetRows]]
    folders: Mapping[str, Sequence[RunFolder]]
    held_out: Mapping[str, Sequence[Example]]
    new_kinds: frozenset[str]


def run(settings: Study, progress: Progress) -> StudyResult:
    """Run the steps that are not done yet.

    Raises UserError if something is wrong that the user can mend; finished steps stay.
    """
    seeds = [plan_seed(settings, seed) for seed in settings.seeds]
    first = seeds[0]
    taught_by = add_teachers(settings, first)
    settings.out.mkdir(parents=True, exist_ok=True)
    steps = [step for plan in seeds for step in plan.steps]
    # Answers first: an error in a set or a view appears before hours of training.
    steps.sort(key=lambda step: step.call is not answer)
    with one_owner(settings.out):
        for plan in seeds:
            plan.check()
        run_steps(steps, settings.jobs, progress)
    folders = {label: [plan.folders[label] for plan in seeds] for label in settings.labels}
    runs = {
        label: [_read_end(folder, first.sets, settings.budget.tokens) for folder in of]
        for label, of in folders.items()
    }
    return StudyResult(first.rows, taught_by, runs, folders, first.sets, first.new_kinds)


def plan_seed(settings: Study, seed: int) -> Artifacts:
    """Steps that train every arm with one seed."""
    pipeline = Pipeline(
        model=settings.model,
        writer=settings.writer,
        writing=settings.writing,
        reasoner=settings.stage(next(iter(settings.arms))),
        arms=["gold"],
        evaluation=settings.evaluation,
        out=settings.out,
        seed=seed,
    )
    plan = Artifacts(pipeline, label=f"seed {seed}: ")
    sources = {plan.source(rubrics) for _, rubrics in settings.labels.values()}
    for writer in ("direct", "learned"):
        if writer in sources:
            plan.add_writer(writer)
    for label, (arm, rubrics) in settings.labels.items():
        plan.add_reasoner(label, settings.stage(arm), rubrics)
    return plan


def add_teachers(settings: Study, plan: Artifacts) -> dict[str, str]:
    """Add the answers of the base and of every teacher; returns the teacher of each label.

    Arms that show the same in the same words share a teacher, named after the first of them.
    """
    views = settings.stage(next(iter(settings.arms))).views
    plan.add_answers(BASE, views.untaught(views.student))
    taught_by: dict[str, str] = {}
    by_prompt: dict[str, str] = {}
    for label, (arm, rubrics) in settings.labels.items():
        stage = settings.stage(arm)
        if not stage.has_teacher_view:
            continue
        views = stage.views
        prompt = views.model_dump_json(exclude=set() if views.analysis else {"max_analysis_tokens"})
        taught_by[label] = name = by_prompt.setdefault(prompt + rubrics, f"teacher of {label}")
        if name not in plan.answers:
            writer = rubrics if rubrics in ("direct", "learned") else None
            placebo = PLACEBOS[rubrics](settings.seeds[0]) if rubrics in PLACEBOS else None
            plan.add_answers(name, views, writer=writer, placebo=placebo)
    return taught_by


def _read_end(folder: RunFolder, sets: Mapping[str, Sequence[Example]], tokens: int) -> SetRows:
    """Answers at the end of a run, without their texts: a study has hundreds of thousands."""
    with intact(folder.path / "metrics.jsonl", folder.path):
        if not (rows := folder.metrics()):
            raise ValueError("it holds no step")
    end = rows[-1]
    if end[TOKENS] < tokens:
        raise RunError(
            f"{folder.path} ended after {end[TOKENS]:.0f} of {tokens} tokens; raise the arm's steps"
        )
    graded = {
        name: read_answers(folder.evaluation(int(end["step"]), name), of, artifact=folder.path)
        for name, of in sets.items()
    }
    return {n: [replace(row, question="", text="") for row in rows] for n, rows in graded.items()}


# The report


def run_and_report(settings: Study, title: str, progress: Progress) -> Outcome:
    """Run a study (`run`) and write its statistics, ``study.json``, figures and page."""
    result = run(settings, progress)
    comparisons = compare(settings, result)
    findings = describe(settings, comparisons) + describe_rules(comparisons)
    ends = {label: [f.metrics()[-1] for f in of] for label, of in result.folders.items()}
    summary = {
        "config": settings.model_dump(mode="json"),
        "spent": {
            label: {"tokens": [row[TOKENS] for row in of], "seconds": [row[SECONDS] for row in of]}
            for label, of in ends.items()
        },
        "comparisons": [
            {
                "held_out": of.set,
                "metric": of.metric,
                "compared": asdict(of.compared),
                "by_rule": {rule: asdict(compared) for rule, compared in of.by_rule.items()},
            }
            for of in comparisons
        ],
        "taught_by": result.taught_by,
        "findings": findings,
    }
    tokens, num_seeds = f"{settings.budget.tokens:,}", len(settings.seeds)
    page = ReportPage(
        title=title,
        subtitle=f"{settings.model.path}, seeds: {num_seeds}, {tokens} tokens an arm",
        lead=tuple(findings),
        arms=tuple(
            Arm(label, highlight=label == settings.against)
            for label in (BASE, *settings.labels, SOLUTIONS)
        ),
        estimates=tuple(estimates(comparisons)),
        differences=tuple(
            row for row in differences(comparisons) if not row.arm.endswith(f" - {BASE}")
        ),
        facts=facts(next(iter(result.folders.values()))[0].read_record()),
        interval_note="95% intervals, seeds and questions (of new templates their families) both "
        f"resampled; at equal tokens ({tokens}); few seeds make intervals too narrow where seeds "
        "differ much, and no seed draws other training problems",
    )
    return write_outcome(page, settings.out, "study.json", summary)


# Numbers


def compare(settings: Study, result: StudyResult) -> Sequence[MetricCompared]:
    """All arms, the base and its teachers, for every set and metric that has values.

    Differences are those to the base, to ``against``, and of each arm to itself with other rubrics.
    """
    labels, against = settings.labels, settings.against
    pairs = [(label, BASE) for label in labels]
    pairs += [(against, label) for label in labels if label != against]
    pairs += [
        (arm, label)
        for label, (arm, rubrics) in labels.items()
        if rubrics != "gold" and arm in labels and against not in (arm, label)
    ]
    # Even adjusted for this many tests, the smallest possible p-value must be significant.
    num_resamples = max(10_000, 100 * len(pairs) * len(result.held_out) * len(METRICS))
    arms = {arm: [rows] for arm, rows in result.answers.items()}
    arms = {BASE: arms.pop(BASE), **result.runs, **arms}
    if solutions := solution_rows(result.held_out):
        arms[SOLUTIONS] = [solutions]
    compared = compare_on_sets(
        result.held_out, result.new_kinds, arms, pairs, num_resamples=num_resamples
    )
    return [one for one in compared if one.compared.means]


def solution_rows(held_out: Mapping[str, Sequence[Example]]) -> SetRows:
    """Graded worked solutions of the sets where each example has one."""
    graded = {}
    for name, examples in held_out.items():
        rows = [grade_text(e, e.solution) for e in examples if e.solution is not None]
        if len(rows) == len(examples):
            graded[name] = judge_rows(rows, examples, CodeJudge())
    return graded


# Findings


def describe(settings: Study, comparisons: Sequence[MetricCompared]) -> list[str]:
    """Sentences on the numbers, favourable or not.

    Two arms differ where the interval of their paired difference excludes 0; a star marks an
    adjusted p-value below 0.05. With few families of new templates no test can reach it.
    """
    sentences = [_describe_comparison(settings, one) for one in comparisons]
    return sentences or ["No held-out question was graded in all arms."]


def _describe_comparison(settings: Study, one: MetricCompared) -> str:
    against = settings.against
    means = {mean.arm: mean.interval for mean in one.compared.means}
    sides: dict[str, list[str]] = {"More than": [], "Less than": [], "Not clearly other than": []}
    for difference in one.compared.differences:
        if difference.left != against:
            continue
        low, high = difference.interval.low, difference.interval.high
        side = "More than" if low > 0 else "Less than" if high < 0 else "Not clearly other than"
        star = "*" if difference.holm_p_value is not None and difference.holm_p_value < 0.05 else ""
        sides[side].append(f"{difference.right} {means[difference.right].mean:.2f}{star}")
    # Names of arms may hold commas.
    others = "".join(f" {side}: {'; '.join(of)}." for side, of in sides.items() if of)
    verb = "scores" if one.metric == "score" else "is right in"
    sentence = (
        f"After {settings.budget.tokens:,} tokens, on {spaced(one.set)}, {against} {verb} "
        f"{means[against]:.2f}.{others}"
    )
    if num_left_out := one.compared.num_left_out:
        sentence += f" Left out: {num_left_out} questions, where not every arm could be graded."
    return sentence
