"""A study: every method, kind of rubrics and seed once, on one budget.

All runs are steps that need each other or do not (`rcsd.recipes.workers`), in folders that are
named after
what goes into them (`rcsd.recipes.artifacts`), so a study that was cut off goes on where it was.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rcsd import config
from rcsd.data.placebos import PLACEBOS
from rcsd.errors import RunError
from rcsd.graders.grade import Graded, read_graded
from rcsd.recipes.artifacts import Products
from rcsd.recipes.pipeline_config import Pipeline, PipelineEvaluation
from rcsd.recipes.pipeline_steps import Writer, answer, nothing_shown
from rcsd.recipes.study_config import BASE, Study, StudyArm
from rcsd.recipes.workers import run_steps
from rcsd.runs import RunFolder
from rcsd.training.stopping import SECONDS, TOKENS
from rcsd.types import Example, Progress


@dataclass(frozen=True)
class Point:
    """A run after some of its budget.

    Args:
        tokens: Completion tokens learned from.
        seconds: Of sampling and learning.
        rows: Graded completions, by held-out set; their words stay on disk, since a study has
            hundreds of thousands of them.
    """

    tokens: float
    seconds: float
    rows: Mapping[str, Sequence[Graded]]


@dataclass(frozen=True)
class Trained:
    """What a study has made.

    Args:
        base: Answers of the model that all arms start from, without a rubric, by set.
        teachers: Its answers in a teacher's view, by set, for each of them.
        taught_by: The teacher of each arm that has one, by the arm's label.
        runs: For each arm's label one list of points for each seed, by tokens.
        folders: The runs, in the same order.
        held_out: Examples of each set.
        new_kinds: Sets none of whose ``tags["template"]`` is trained on.
    """

    base: Mapping[str, Sequence[Graded]]
    teachers: Mapping[str, Mapping[str, Sequence[Graded]]]
    taught_by: Mapping[str, str]
    runs: Mapping[str, Sequence[Sequence[Point]]]
    folders: Mapping[str, Sequence[RunFolder]]
    held_out: Mapping[str, Sequence[Example]]
    new_kinds: frozenset[str]


def run(settings: Study, progress: Progress) -> Trained:
    """Run what has not been done yet; returns all of it.

    Raises:
        UserError: If something is wrong that the user can mend; finished steps stay.
    """
    seeds = [_SeedPlan(settings, seed) for seed in settings.seeds]
    first = seeds[0].products
    taught_by = _teachers(settings, first)
    settings.out.mkdir(parents=True, exist_ok=True)
    steps = [step for plan in seeds for step in plan.products.steps]
    # Answers first: what is wrong with a set or a view is told before hours of training.
    steps.sort(key=lambda step: step.call is not answer)
    run_steps(steps, settings.jobs, progress)
    answers = {
        answering.arm: {
            name: read_graded(answering.folder / f"{name}.jsonl") for name in first.sets
        }
        for answering in first.answerings
    }
    folders = {label: [plan.folders[label] for plan in seeds] for label in settings.labels}
    return Trained(
        answers.pop(BASE),
        answers,
        taught_by,
        {
            label: [list(_points(folder, list(first.sets), settings.budget)) for folder in of_seeds]
            for label, of_seeds in folders.items()
        },
        folders,
        first.sets,
        first.new_kinds,
    )


def quick(settings: Study) -> Study:
    """The same arms within minutes: one seed, a sixth of the tokens, small sets of the world.

    Too small to show anything but that everything runs, and which way the large effects point.
    """
    sets = {
        name: data.model_copy(update={"num_examples": min(data.num_examples, QUICK_EXAMPLES)})
        if isinstance(data, config.WorldData)
        else data
        for name, data in settings.evaluation.data.items()
    }
    budget = config.Budget(tokens=-(-settings.budget.tokens // QUICK_SHARE))
    writer = settings.writer
    if writer is not None:
        writer = writer.model_copy(update={"steps": -(-writer.steps // QUICK_SHARE)})
    changes: dict[str, object] = {
        "evaluation": settings.evaluation.model_copy(update={"data": sets, "num_points": 1}),
        "budget": budget,
        "writer": writer,
        "arms": {name: _quick_arm(arm) for name, arm in settings.arms.items()},
        "seeds": settings.seeds[:1],
        "out": settings.out.with_name(f"{settings.out.name}-quick"),
    }
    return settings.model_copy(update=changes)


def _quick_arm(arm: StudyArm) -> StudyArm:
    """The phases of its schedule shortened as the budget is."""
    method = arm.run.get("method", {})
    phases = [
        {**phase, "steps": -(-phase["steps"] // QUICK_SHARE)} if "steps" in phase else phase
        for phase in method.get("phases", [])
    ]
    if not phases:
        return arm
    return arm.model_copy(update={"run": {**arm.run, "method": {**method, "phases": phases}}})


QUICK_SHARE = 6
"""Of a study's tokens, and of its writer's steps, a quick one takes one of so many."""

QUICK_EXAMPLES = 60
"""Questions of a held-out set of the world that a quick study asks at most."""


class _SeedPlan:
    """The steps of one seed.

    Args:
        settings: The study.
        seed: Of all runs.
    """

    def __init__(self, settings: Study, seed: int) -> None:
        arms = list(settings.labels.values())
        reasoner = settings.stage(arms[0][0])
        self.products = Products(
            Pipeline(
                model=settings.model,
                writer=settings.writer,
                writing=settings.writing,
                reasoner=reasoner,
                arms=["gold"],
                evaluation=PipelineEvaluation(
                    data=settings.evaluation.data, max_tokens=settings.evaluation.max_tokens
                ),
                out=settings.out,
                seed=seed,
            ),
            label=f"seed {seed}: ",
        )
        writers: tuple[Writer, ...] = ("direct", "learned")
        for writer in writers:
            if writer in {self.products.source(rubrics) for _, rubrics in arms}:
                self.products.writer(writer)
        self.folders: dict[str, RunFolder] = {}
        for label, (arm, rubrics) in settings.labels.items():
            trained = self.products.train(label, settings.stage(arm), rubrics)
            self.folders[label] = RunFolder(trained.out)


def _teachers(settings: Study, products: Products) -> dict[str, str]:
    """Add the steps in which the base and every teacher answer; returns the arms' teachers."""
    first = settings.stage(next(iter(settings.arms)))
    products.answer(BASE, settings.model, nothing_shown(first.views), ())
    taught_by: dict[str, str] = {}
    shown: dict[str, dict[str, object]] = {}
    for label, (arm, rubrics) in settings.labels.items():
        stage = settings.stage(arm)
        if not stage.has_teacher_view:
            continue
        views = stage.views
        name = f"teacher: {views.teacher}" + (" after analysis" if views.analysis else "")
        name += f", {rubrics}" if rubrics != "gold" else ""
        words = views.model_dump(exclude=set() if views.analysis else {"max_analysis_tokens"})
        if shown.setdefault(name, words) != words:
            name += f" (of {arm})"
        taught_by[label] = name
        if name in {answering.arm for answering in products.answerings}:
            continue
        writer = rubrics if rubrics in ("direct", "learned") else None
        placebo = PLACEBOS[rubrics](settings.seeds[0]) if rubrics in PLACEBOS else None
        needs = () if writer is None else (f"write {writer} rubrics",)
        products.answer(name, settings.model, views, needs, writer=writer, placebo=placebo)
    return taught_by


def _points(folder: RunFolder, sets: Sequence[str], budget: config.Budget) -> Iterator[Point]:
    """A run at each of its evaluations.

    Raises:
        RunError: If it ended before its budget was used up.
    """
    rows = folder.metrics()
    tokens, seconds = rows[-1][TOKENS], rows[-1][SECONDS]
    if tokens < budget.tokens or seconds < (budget.seconds or 0.0):
        of = "" if budget.seconds is None else f", and {seconds:.1f} of {budget.seconds:g} seconds"
        raise RunError(
            f"{folder.path} ended after {tokens:.0f} of {budget.tokens} tokens{of}; raise the "
            "arm's steps"
        )
    for row in rows:
        paths = {name: folder.evaluation(int(row["step"]), name) for name in sets}
        if all(path.is_file() for path in paths.values()):
            graded = {
                name: [replace(row, question="", text="") for row in read_graded(path)]
                for name, path in paths.items()
            }
            yield Point(row[TOKENS], row[SECONDS], graded)
