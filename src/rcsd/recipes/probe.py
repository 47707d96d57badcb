"""Headroom, content sensitivity and ranking of a run before it trains (``rcsd probe``).

Headroom predicts the gain of distillation (arXiv 2605.30070): the model answers questions with and
without the teacher's view, each placebo and other views, by its present weights. Then the student
samples completions, and the teacher's log-probabilities are to rank them as their grades do.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import set_seed

from rcsd import config
from rcsd.data.load import load_examples
from rcsd.data.placebos import PLACEBOS, with_placebo
from rcsd.data.prompts import (
    PromptPair,
    SkippedExample,
    build_decoding,
    build_prompts,
    limit_prompt_tokens,
)
from rcsd.data.views import PromptTemplates, missing_parts
from rcsd.engines.analysis import with_analyses
from rcsd.engines.base import Engine
from rcsd.engines.build import build_engine
from rcsd.errors import ConfigError, DataError, ModelError
from rcsd.graders.code import CodeJudge
from rcsd.graders.grade import grade_text, judge_rows, sample_and_grade
from rcsd.io import cache_folder, make_folder, write_json
from rcsd.methods.distill import check_support
from rcsd.methods.rollouts import RolloutWorker
from rcsd.models.memory import microbatch_limit
from rcsd.models.policy import Policy, load_policy
from rcsd.models.scorer import Scorer
from rcsd.models.teacher import Teacher, build_teacher
from rcsd.recipes.probe_numbers import (
    OTHER_VIEWS,
    STUDENT,
    TEACHER,
    Advice,
    Answers,
    GradedGap,
    Headroom,
    Metric,
    Ranking,
    Sensitivity,
    advise,
    graded_value,
    measure_headroom,
    measure_ranking,
    measure_sensitivity,
)
from rcsd.types import Decoding, Example, Progress, Rollout, ViewName

RANKED_PLACEBOS = ("shuffled", "generic")
"""Placebos whose teachers rank the completions too."""


@dataclass(frozen=True)
class Context:
    """Text beside the questions.

    Args:
        name: Unique.
        view: Parts of an example that are visible.
        examples: The parts are theirs: another rubric than an example's own, for a placebo.
        analysis: Whether the model first writes an analysis (`config.Views.analysis`).
    """

    name: str
    view: ViewName
    examples: Sequence[Example]
    analysis: bool = False


@dataclass(frozen=True)
class Probe:
    """Measurements and advice.

    Args:
        num_available: Examples of the data set.
        num_questions: Those drawn from it that fit.
        skipped: Those drawn that a run would skip too, with the reason.
        impossible: Contexts that the data does not allow, with the reason.
        headroom: Gains of the contexts.
        sensitivities: By placebo.
        num_completions: Sampled completions.
        num_ungraded: Completions without a grade, which rank nothing.
        rankings: The teacher's, then those of teachers with a placebo.
        advice: Verdict.
    """

    num_available: int
    num_questions: int
    skipped: tuple[SkippedExample, ...]
    impossible: Mapping[str, str]
    headroom: Headroom
    sensitivities: tuple[Sensitivity, ...]
    num_completions: int
    num_ungraded: int
    rankings: tuple[Ranking, ...]
    advice: Advice


@dataclass(frozen=True)
class Prober:
    """A model that answers in a context, and a judge.

    Args:
        policy: The model.
        engine: Samples from it.
        views: Templates and limits; which view is visible depends on the context.
        decoding: Decoding of answers; greedy.
        max_prompt_tokens: Longest prompt.
    """

    policy: Policy
    engine: Engine
    views: config.Views
    decoding: Decoding
    max_prompt_tokens: int

    def prompts(self, context: Context) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
        """Prompts as token ids by the example's id, and by id the reason for a missing one."""
        left_out = {
            example.id: f"it has no {' and no '.join(missing)}"
            for example in context.examples
            if (missing := missing_parts(example, context.view))
        }
        changes = {"student": context.view, "teacher": context.view, "analysis": context.analysis}
        views = self.views.model_copy(update=changes)
        complete = [example for example in context.examples if example.id not in left_out]
        if not complete:
            return {}, left_out
        try:
            pairs, skipped = self.pairs(complete, views)
        except DataError as error:  # no prompt of this context fits
            return {}, left_out | {example.id: str(error) for example in complete}
        left_out |= {example.id: example.reason for example in skipped}
        return {pair.example.id: pair.teacher_ids for pair in pairs}, left_out

    def pairs(
        self, examples: Sequence[Example], views: config.Views
    ) -> tuple[list[PromptPair], list[SkippedExample]]:
        """Prompts of a run with these views, analyses included."""
        limit, policy = self.max_prompt_tokens, self.policy
        pairs, skipped = build_prompts(examples, views, policy.tokenizer, limit)
        if views.analysis:
            cache = cache_folder() / "analyses"
            pairs, _ = with_analyses(pairs, views, policy, self.engine, cache, limit)
        return pairs, skipped

    def answers(self, examples: Sequence[Example], context: Context) -> Answers:
        """Answers to the questions that fit, graded by the examples' own rubrics."""
        prompts, left_out = self.prompts(context)
        answered = [example for example in examples if example.id in prompts]
        ids = [prompts[example.id] for example in answered]
        rows = (
            sample_and_grade(self.engine, answered, ids, self.decoding, CodeJudge()) if ids else []
        )
        return Answers(context.name, {row.id: row for row in rows}, left_out)


def build_contexts(
    examples: Sequence[Example],
    population: Sequence[Example],
    views: config.Views,
    placebo: config.Placebo,
    seed: int,
) -> tuple[list[Context], dict[str, str]]:
    """The teacher's view, with each placebo if it has rubrics, and the other views.

    Args:
        examples: Questions.
        population: Data set that they were drawn from; placebos take criteria from all of it.
        views: Views of the run.
        placebo: Placebo of the run; its share and seed hold for the placebo of its type.
        seed: Seed of the other placebos.

    Returns:
        Contexts, and by name the reason why one cannot be made.
    """
    contexts = [Context(TEACHER, views.teacher, examples, views.analysis)]
    impossible: dict[str, str] = {}
    drawn = {example.id for example in examples}
    for name, build in PLACEBOS.items() if "rubric" in views.teacher else ():
        section = placebo if placebo.type == name else build(seed)
        try:
            changed = with_placebo(population, section, PromptTemplates(views.templates))
        except DataError as error:
            impossible[name] = str(error)
            continue
        chosen = [example for example in changed if example.id in drawn]
        contexts.append(Context(name, views.teacher, chosen, views.analysis))
    contexts += [
        Context(view, view, examples, views.analysis)
        for view in OTHER_VIEWS
        if view not in (views.student, views.teacher)
    ]
    return contexts, impossible


def draw_examples(examples: Sequence[Example], num_examples: int, seed: int) -> list[Example]:
    """At most so many examples, in their order; the same ones for the same seed."""
    places = range(len(examples))
    chosen = random.Random(seed).sample(places, min(num_examples, len(examples)))
    return [examples[place] for place in sorted(chosen)]


def probe(
    settings: config.Config,
    num_examples: int = 64,
    num_samples: int = 4,
    progress: Progress = lambda stage, done, total, note: None,
    on_cost: Callable[[str], None] = lambda cost: None,
) -> Probe:
    """Measure whether a run has anything to learn. No weight changes.

    Args:
        settings: The run. Questions are its held-out examples, else those that it trains on, with
            their own rubrics and with every placebo, whatever ``rubrics.placebo``.
        num_examples: Questions drawn from these; at least 1.
        num_samples: Completions per question, sampled as in training; a ranking takes 2 or more.
        progress: Callback.
        on_cost: Called with the number of answers and completions, before sampling.

    Raises:
        UserError: If the run could not start, or does not distil answers.
    """
    section = next(iter(config.distillations(settings.method)), None)
    if section is None:
        raise ConfigError(
            f"method.type: {settings.method.type} has no teacher's view to probe; 'distill' has"
        )
    if settings.views.writes != "answer":
        raise ConfigError("views.writes: a probe grades answers, and this run writes rubrics")
    seed, views = settings.seed, settings.views
    population, _ = load_examples(settings.probed_data)
    worker, teacher, prober = _load(settings, section, num_samples)
    pairs, skipped = prober.pairs(draw_examples(population, num_examples, seed), views)
    examples = [pair.example for pair in pairs]
    contexts, impossible = build_contexts(
        examples, population, views, settings.rubrics.placebo, seed
    )
    ranked = [context for context in contexts if context.name in RANKED_PLACEBOS]
    limits = prober.decoding.max_tokens, settings.sampling.max_tokens
    num_contexts, num = len(contexts) + 1, len(examples)
    on_cost(
        f"{num_contexts * num} answers ({num_contexts} contexts x {num} questions) of up to "
        f"{limits[0]} tokens; {num_samples * num} completions ({num} questions x {num_samples}) of "
        f"up to {limits[1]}, scored {2 + len(ranked)} times"
    )
    contexts.insert(0, Context(STUDENT, views.student, examples))
    try:
        answers: list[Answers] = []
        for done, context in enumerate(contexts):
            progress("answers", done, len(contexts), context.name)
            answers.append(prober.answers(examples, context))
        progress("answers", len(contexts), len(contexts), "")
        headroom = measure_headroom(answers[0], answers[1:], seed)
        progress("ranking", 0, 1, "")
        sampler = replace(worker, decoding=build_decoding(settings.sampling))
        rollouts = sampler.rollouts(pairs, step=0)  # as the run's first step
        rankings, num_ungraded = rank_completions(
            rollouts, headroom.metric, prober, (worker, teacher), ranked, seed
        )
        progress("ranking", 1, 1, "")
    except FloatingPointError as error:
        raise ModelError(f"model.path: {settings.model.path}: {error}") from error
    sensitivities = _sensitivities(answers, headroom.metric, seed)
    return Probe(
        len(population),
        len(examples),
        tuple(skipped),
        impossible,
        headroom,
        sensitivities,
        len(rollouts),
        num_ungraded,
        rankings,
        advise(headroom, sensitivities, rankings),
    )


def write_probe(measured: Probe, settings: config.Config, folder: Path) -> Path:
    """Write ``probe.json``, with the run's configuration; returns its path."""
    path = folder / "probe.json"
    make_folder(path)
    write_json(path, {"config": settings.model_dump(mode="json"), **asdict(measured)})
    return path


def _load(
    settings: config.Config, section: config.Distill, num_samples: int
) -> tuple[RolloutWorker, Teacher, Prober]:
    """The parts of the run before its first step; the worker scores at the loss's temperature."""
    set_seed(settings.seed)
    accelerator = Accelerator(mixed_precision=settings.precision or "no")
    policy = load_policy(settings.model)
    check_support(section, policy)
    scorer = accelerator.prepare(Scorer(policy.model))
    engine = build_engine(settings.engine, policy, lambda: accelerator.autocast())
    budget = settings.max_tokens_per_microbatch
    budget = config.DEFAULT_MAX_TOKENS_PER_MICROBATCH if budget == "auto" else budget
    decoding, limit = Decoding(1, section.temperature), microbatch_limit(budget)
    worker = RolloutWorker(policy, scorer, engine, decoding, num_samples, limit, settings.seed)
    sampling, evaluation = settings.sampling, settings.evaluation
    num_answer = sampling.max_tokens if evaluation is None else evaluation.max_tokens
    longest = max(num_answer, sampling.max_tokens)
    room = limit_prompt_tokens(policy.max_positions, sampling.max_prompt_tokens, longest)
    prober = Prober(policy, engine, settings.views, Decoding(num_answer), room)
    return worker, build_teacher(settings.teacher, policy), prober


def rank_completions(
    rollouts: Sequence[Rollout],
    metric: Metric | None,
    prober: Prober,
    scoring: tuple[RolloutWorker, Teacher],
    placebos: Sequence[Context],
    seed: int = 0,
) -> tuple[tuple[Ranking, ...], int]:
    """Rankings of the student's completions by the teacher and by placebos' teachers.

    Args:
        rollouts: Several completions per question.
        metric: Metric of their grades; None: they have none.
        prober: Builds the placebos' prompts, and grades.
        scoring: The student's worker, and the teacher's weights.
        placebos: Contexts of other teachers.
        seed: Seed of the intervals.

    Returns:
        Rankings, and the number of completions without a grade.
    """
    worker, teacher = scoring
    examples = [rollout.example for rollout in rollouts]
    rows = [grade_text(r.example, r.completion.text, r.completion.finished) for r in rollouts]
    if metric == "score":
        rows = judge_rows(rows, examples, CodeJudge())
    grades = [None if metric is None else graded_value(row, metric) for row in rows]
    log_q = worker.sampled_log_q(rollouts)

    def gaps(prompts: Mapping[str, tuple[int, ...]] | None) -> list[GradedGap]:
        """Graded completions with the gaps of the teacher with these prompts."""
        places = [
            place
            for place, rollout in enumerate(rollouts)
            if grades[place] is not None and (prompts is None or rollout.example.id in prompts)
        ]
        chosen = [rollouts[place] for place in places]
        ids = [r.teacher_ids if prompts is None else prompts[r.example.id] for r in chosen]
        with teacher.weights():
            scored = worker.sampled_log_q(chosen, ids)
        return [
            GradedGap(
                place,
                rollouts[place].example.id,
                grades[place] or 0.0,
                math.fsum(p - q for p, q in zip(log_p, log_q[place], strict=True)),
            )
            for place, log_p in zip(places, scored, strict=True)
        ]

    teacher_gaps = gaps(None)
    rankings = [measure_ranking(TEACHER, teacher_gaps, seed)]
    for context in placebos:
        other = gaps(prober.prompts(context)[0])
        rankings.append(measure_ranking(context.name, other, seed, teacher_gaps))
    return tuple(rankings), grades.count(None)


def _sensitivities(
    answers: Sequence[Answers], metric: Metric | None, seed: int
) -> tuple[Sensitivity, ...]:
    """Content sensitivity against each placebo."""
    if metric is None:
        return ()
    student, teacher = answers[:2]
    measured = [
        measure_sensitivity(student, teacher, placebo, metric, seed)
        for placebo in answers
        if placebo.context in PLACEBOS
    ]
    return tuple(each for each in measured if each is not None)
