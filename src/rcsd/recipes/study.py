"""A study: every method, kind of rubrics and seed once, on one budget.

All runs are steps (`rcsd.recipes.workers`) in folders that are named after everything that goes
into them (`rcsd.recipes.pipeline`), so a study that was cut off continues.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rcsd.data.placebos import PLACEBOS
from rcsd.errors import RunError
from rcsd.graders.grade import read_graded
from rcsd.recipes.arms import SetRows
from rcsd.recipes.pipeline import Artifacts
from rcsd.recipes.pipeline_config import Pipeline
from rcsd.recipes.pipeline_steps import answer, untaught
from rcsd.recipes.study_config import BASE, Study
from rcsd.recipes.workers import run_steps
from rcsd.runs import RunFolder
from rcsd.training.stopping import TOKENS
from rcsd.types import Example, Progress


@dataclass(frozen=True)
class StudyResult:
    """Everything that a study makes.

    Args:
        answers: Answers of the initial model: without a rubric (`BASE`), and in each teacher's
            view.
        taught_by: Teacher of each arm that has one, by the arm's label.
        runs: Answers of each seed at the end of its budget, by the arm's label.
        folders: The runs, in the same order.
        held_out: Examples of each set.
        new_kinds: Sets that have no ``tags["template"]`` in common with the training questions.
    """

    answers: Mapping[str, SetRows]
    taught_by: Mapping[str, str]
    runs: Mapping[str, Sequence[SetRows]]
    folders: Mapping[str, Sequence[RunFolder]]
    held_out: Mapping[str, Sequence[Example]]
    new_kinds: frozenset[str]


def run(settings: Study, progress: Progress) -> StudyResult:
    """Run the steps that are not done yet.

    Raises:
        UserError: If something is wrong that the user can mend; finished steps stay.
    """
    seeds = [plan_seed(settings, seed) for seed in settings.seeds]
    first = seeds[0]
    taught_by = add_teachers(settings, first)
    settings.out.mkdir(parents=True, exist_ok=True)
    steps = [step for plan in seeds for step in plan.steps]
    # Answers first: an error in a set or a view appears before hours of training.
    steps.sort(key=lambda step: step.call is not answer)
    run_steps(steps, settings.jobs, progress)
    folders = {label: [plan.folders[label] for plan in seeds] for label in settings.labels}
    runs = {
        label: [_read_end(folder, list(first.sets), settings.budget.tokens) for folder in of]
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
    plan.add_answers(BASE, untaught(settings.stage(next(iter(settings.arms))).views))
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


def _read_end(folder: RunFolder, sets: Sequence[str], tokens: int) -> SetRows:
    """Answers at the end of a run, without their texts: a study has hundreds of thousands.

    Raises:
        RunError: If it ended before its budget was used up.
    """
    end = folder.metrics()[-1]
    if end[TOKENS] < tokens:
        raise RunError(
            f"{folder.path} ended after {end[TOKENS]:.0f} of {tokens} tokens; raise the arm's steps"
        )
    graded = {name: read_graded(folder.evaluation(int(end["step"]), name)) for name in sets}
    return {n: [replace(row, question="", text="") for row in rows] for n, rows in graded.items()}
