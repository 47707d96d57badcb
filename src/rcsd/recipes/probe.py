"""Headroom, content sensitivity and divergence of a run before it trains (``rcsd probe``).

Headroom predicts the gain of distillation (arXiv 2605.30070): the model answers questions in the
student's and in the teacher's view, with the own rubrics and with placebos, by its present weights.
Divergence is that of the student from the teacher on completions that the student samples.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from accelerate import Accelerator
from accelerate.utils import set_seed

from rcsd import config
from rcsd.data.load import load_examples
from rcsd.data.placebos import EMPTY, PLACEBOS, with_placebo
from rcsd.data.prompts import (
    PromptPair,
    SkippedExample,
    build_decoding,
    build_prompts,
    limit_prompt_tokens,
)
from rcsd.data.views import PromptTemplates
from rcsd.engines.analysis import with_analyses
from rcsd.engines.build import build_engine
from rcsd.errors import ConfigError, DataError, ModelError
from rcsd.evaluation.bounds import graded_values
from rcsd.evaluation.statistics import (
    Interval,
    bootstrap_interval,
    paired_difference,
    ratio_interval,
)
from rcsd.graders.base import build_judge
from rcsd.graders.grade import Graded, sample_and_grade
from rcsd.methods.distill import check_support
from rcsd.methods.rollouts import RolloutWorker
from rcsd.models.memory import microbatch_limit
from rcsd.models.policy import load_policy
from rcsd.models.scorer import Scorer
from rcsd.models.teacher import Teacher, build_teacher
from rcsd.types import Decoding, Example, Progress, Rollout

STUDENT, TEACHER = "student", "teacher"
"""Contexts of the student's view, which all others are compared with, and of the teacher's."""

Metric = Literal["score", "accuracy"]
"""Share of the example's own rubric points; or whether the final answer is the reference's."""
METRICS: tuple[Metric, ...] = ("score", "accuracy")

Verdict = Literal["train", "fix the rubrics", "don't", "cannot tell"]

Values = Mapping[str, float]
"""Value of each graded question by its id."""

MIN_QUESTIONS = 8
"""Graded questions that a verdict needs: a bootstrap of fewer is far too sure of itself. A
convention of ours, as all that follow."""
MIN_SENSITIVITY = 0.5
"""Content sensitivity below which, surely, rubrics are to be fixed."""
MAX_CUT_SHARE = 0.1
"""Share of answers cut off at the token limit above which scores measure the limit."""
SOLVED = 0.95
"""Mean without help above which little is left to gain."""


Prompts = Mapping[str, tuple[int, ...]]
"""Token ids by the example's id."""

BuildPairs = Callable[[Sequence[Example]], tuple[list[PromptPair], list[SkippedExample]]]


@dataclass(frozen=True)
class ContextHeadroom:
    """Answers in one context, of which ``num_cut`` are cut off at the token limit.

    ``mean`` is over the graded answers, ``gain`` over the paired differences to the student's view.
    """

    context: str
    num_answers: int
    num_cut: int
    num_ungraded: int
    mean: Interval | None
    gain: Interval | None


@dataclass(frozen=True)
class Sensitivity:
    """Content sensitivity: share of the headroom that depends on the rubric's content.

    ``share = (headroom of gold - headroom of the placebo) / headroom of gold``, a ratio of means.
    0: the model reacts to the presence of a rubric; 1: it reads it. ``gap`` is the paired
    difference, own rubric - placebo; ``undefined`` the reason why there is no share.
    """

    placebo: str
    gap: Interval
    share: Interval | None
    undefined: str


@dataclass(frozen=True)
class Advice:
    """A verdict, its reasons with their numbers, and warnings."""

    verdict: Verdict
    reasons: Sequence[str]
    warnings: Sequence[str]


@dataclass(frozen=True)
class Probe:
    """Measurements and advice.

    Of ``num_available`` examples ``num_questions`` were drawn and fit; a run would skip those of
    ``skipped`` too. ``impossible`` has the placebos that the data does not allow, with the reason.
    Without a ``metric`` nothing can be graded. ``contexts`` begin with the student's and the
    teacher's; ``divergences`` are by context (`divergence`); ``judging`` is the judge's record.
    """

    num_available: int
    num_questions: int
    skipped: tuple[SkippedExample, ...]
    impossible: Mapping[str, str]
    metric: Metric | None
    contexts: tuple[ContextHeadroom, ...]
    sensitivities: tuple[Sensitivity, ...]
    num_completions: int
    divergences: Mapping[str, Interval | None]
    advice: Advice
    judging: Mapping[str, Any]


def probe(
    settings: config.Config,
    num_examples: int = 64,
    num_samples: int = 4,
    progress: Progress = lambda stage, done, total, note: None,
    judge: config.Judge | None = None,
) -> Probe:
    """Measure whether a run has anything to learn. No weight changes.

    The judge is that of the run's evaluation, unless another is given. Questions are drawn from its
    held-out examples, else from those that it trains on; completions are sampled as in training.

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
    seed, evaluation = settings.seed, settings.evaluation
    grader = build_judge(judge or (config.CodeJudge() if evaluation is None else evaluation.judge))
    population, _ = load_examples(settings.probed_data)
    places = random.Random(seed).sample(range(len(population)), min(num_examples, len(population)))
    worker, teacher = _load(settings, section, num_samples)
    num_answer = (settings.sampling if evaluation is None else evaluation).max_tokens
    build_pairs = _pair_builder(settings, worker, num_answer)
    pairs, skipped = build_pairs([population[place] for place in sorted(places)])
    examples = [pair.example for pair in pairs]
    prompts, impossible = build_contexts(pairs, population, settings, build_pairs)
    rows: dict[str, list[Graded]] = {}
    try:
        for done, (name, ids) in enumerate(prompts.items()):
            progress("answers", done, len(prompts), name)
            answered = [example for example in examples if example.id in ids]
            rows[name] = sample_and_grade(
                worker.engine,
                answered,
                [ids[e.id] for e in answered],
                Decoding(num_answer),
                grader,
            )
        progress("answers", len(prompts), len(prompts), "")
        progress("divergence", 0, 1, "")
        sampler = replace(worker, decoding=build_decoding(settings.sampling))
        rollouts = sampler.rollouts(pairs, step=0)  # as the run's first step
        log_q = worker.sampled_log_q(rollouts)
        divergences = {
            name: divergence(rollouts, log_q, ids, worker, teacher, seed)
            for name, ids in prompts.items()
            if name != STUDENT
        }
        progress("divergence", 1, 1, "")
    except FloatingPointError as error:
        raise ModelError(f"model.path: {settings.model.path}: {error}") from error
    metric = choose_metric(rows[STUDENT])
    values = {name: graded_values(of, metric or "score") for name, of in rows.items()}
    student, own_rubric, *others = (
        measure_headroom(name, of, values[STUDENT], metric or "score", seed)
        for name, of in rows.items()
    )
    measured = [
        measure_sensitivity(values[STUDENT], values[TEACHER], of.context, values[of.context], seed)
        for of in others
    ]
    sensitivities = tuple(each for each in measured if each is not None)
    return Probe(
        len(population),
        len(examples),
        tuple(skipped),
        impossible,
        metric,
        (student, own_rubric, *others),
        sensitivities,
        len(rollouts),
        divergences,
        advise(metric, student, own_rubric, sensitivities),
        grader.metrics() | grader.record(),
    )


def build_contexts(
    pairs: Sequence[PromptPair],
    population: Sequence[Example],
    settings: config.Config,
    build_pairs: BuildPairs,
) -> tuple[dict[str, Prompts], dict[str, str]]:
    """Prompts by context: both views, and each empty placebo, made of the population's criteria.

    Also returns, by placebo, the reason why there is none.
    """
    prompts: dict[str, Prompts] = {
        STUDENT: {pair.example.id: pair.student_ids for pair in pairs},
        TEACHER: {pair.example.id: pair.teacher_ids for pair in pairs},
    }
    impossible: dict[str, str] = {}
    placebo, templates = settings.rubrics.placebo, PromptTemplates(settings.views.templates)
    for name in EMPTY if "rubric" in settings.views.teacher else ():
        section = placebo if placebo.type == name else PLACEBOS[name](settings.seed)
        try:
            changed = with_placebo(population, section, templates)
            others, _ = build_pairs([e for e in changed if e.id in prompts[STUDENT]])
            prompts[name] = {pair.example.id: pair.teacher_ids for pair in others}
        except DataError as error:
            impossible[name] = str(error)
    return prompts, impossible


def divergence(
    rollouts: Sequence[Rollout],
    log_q: Sequence[Sequence[float]],
    prompts: Prompts,
    worker: RolloutWorker,
    teacher: Teacher,
    seed: int = 0,
) -> Interval | None:
    """KL(q || p) per token in nats, the mean of log q - log p over the student's samples.

    ``prompts`` are the teacher's; rollouts of other questions are left out.
    """
    scored = [
        (rollout, q)
        for rollout, q in zip(rollouts, log_q, strict=True)
        if rollout.example.id in prompts and len(q)
    ]
    if not scored:
        return None
    chosen = [rollout for rollout, _ in scored]
    with teacher.weights():
        log_p = worker.sampled_log_q(chosen, [prompts[r.example.id] for r in chosen])
    values = [
        sum(a - b for a, b in zip(q, p, strict=True)) / len(q)
        for (_, q), p in zip(scored, log_p, strict=True)
    ]
    return bootstrap_interval(values, [rollout.example.id for rollout in chosen], seed)


def _load(
    settings: config.Config, section: config.Distill, num_samples: int
) -> tuple[RolloutWorker, Teacher]:
    """The parts of the run before its first step; the worker scores at the loss's temperature."""
    set_seed(settings.seed)
    accelerator = Accelerator(mixed_precision=settings.precision or "no")
    policy = load_policy(settings.model)
    check_support(section, policy)
    scorer = accelerator.prepare(Scorer(policy.model))
    engine = build_engine(settings.engine, policy, lambda: accelerator.autocast())
    decoding = Decoding(1, section.temperature)
    limit = microbatch_limit(settings.max_tokens_per_microbatch)
    worker = RolloutWorker(policy, scorer, engine, decoding, num_samples, limit, settings.seed)
    return worker, build_teacher(settings.teacher, policy)


def _pair_builder(settings: config.Config, worker: RolloutWorker, num_answer: int) -> BuildPairs:
    """Builder of a run's prompts, analyses included, with room for answers of this length."""
    sampling, views, policy = settings.sampling, settings.views, worker.policy
    longest = max(num_answer, sampling.max_tokens)
    room = limit_prompt_tokens(policy.max_positions, sampling.max_prompt_tokens, longest)

    def build(examples: Sequence[Example]) -> tuple[list[PromptPair], list[SkippedExample]]:
        pairs, skipped = build_prompts(examples, views, policy.tokenizer, room)
        if views.analysis:
            pairs, _ = with_analyses(pairs, views, policy, worker.engine, room)
        return pairs, skipped

    return build


# Numbers, paired by question: one counts if it is graded in all that is compared


def choose_metric(rows: Sequence[Graded]) -> Metric | None:
    """The score; the accuracy if under `MIN_QUESTIONS` scores and more accuracies; else None."""
    counts = {name: min(len(graded_values(rows, name)), MIN_QUESTIONS) for name in METRICS}
    return max(METRICS, key=lambda name: counts[name]) if any(counts.values()) else None


def measure_headroom(
    context: str, rows: Sequence[Graded], student: Values, metric: Metric, seed: int = 0
) -> ContextHeadroom:
    """Headroom of a context over the student's view, whose values are ``student``."""
    values = graded_values(rows, metric)
    ids = [] if context == STUDENT else [id for id in student if id in values]
    gain = None
    if ids:
        gain = paired_difference([values[i] for i in ids], [student[i] for i in ids], seed, ids)
    mean = bootstrap_interval([*values.values()], seed=seed) if values else None
    num_cut = sum(not row.finished for row in rows)
    return ContextHeadroom(context, len(rows), num_cut, len(rows) - len(values), mean, gain)


def measure_sensitivity(
    student: Values, teacher: Values, placebo: str, other: Values, seed: int = 0
) -> Sensitivity | None:
    """Content sensitivity over the questions graded in all three; None if there are none.

    Undefined where the interval of gold's headroom reaches 0: a share of nothing is no number.
    ``other`` are the values in the teacher's view with the placebo.
    """
    ids = [id for id in student if id in teacher and id in other]
    if not ids:
        return None
    gaps = [teacher[i] - other[i] for i in ids]
    gains = [teacher[i] - student[i] for i in ids]
    gap, gain = bootstrap_interval(gaps, seed=seed), bootstrap_interval(gains, seed=seed)
    if gain.low <= 0:
        reason = f"the rubric's own headroom may be 0: {gain:.2f}"
        return Sensitivity(placebo, gap, None, reason)
    return Sensitivity(placebo, gap, ratio_interval(gaps, gains, seed), "")


def advise(
    metric: Metric | None,
    student: ContextHeadroom,
    teacher: ContextHeadroom,
    sensitivities: Sequence[Sensitivity],
) -> Advice:
    """The verdict of the first rule that holds.

    1. Fewer than `MIN_QUESTIONS` questions are graded: cannot tell.
    2. The interval of the teacher view's headroom reaches 0: don't.
    3. The headroom is not above an empty placebo's, or less than `MIN_SENSITIVITY` of it, surely,
       depends on the content: fix the rubrics.
    4. Else: train.
    """
    warnings = tuple(
        f"In the {of.context}'s view {of.num_cut} of {of.num_answers} answers are cut off at the "
        "token limit: raise max_tokens."
        for of in (student, teacher)
        if of.num_cut > MAX_CUT_SHARE * of.num_answers
    )
    gain, mean = teacher.gain, student.mean
    num = 0 if gain is None or metric is None else gain.n
    if gain is None or mean is None or num < MIN_QUESTIONS:
        reasons = [
            f"Questions graded with and without the teacher's view: {num}; a verdict needs "
            f"{MIN_QUESTIONS}. Take a judge (--judge FILE), add checks to criteria or reference "
            "answers, or raise --num-examples."
        ]
        return Advice("cannot tell", reasons, warnings)
    reasons = [
        f"Headroom {gain:.2f} over {num} questions: the {metric} is {mean:.2f} in the student's "
        f"view, {teacher.mean:.2f} in the teacher's."
    ]
    if gain.low <= 0:
        harm = "the teacher's view makes answers worse" if gain.high < 0 else "its interval has 0"
        remedy = (
            "The model already answers well: little is left to gain."
            if mean.mean >= SOLVED
            else "Probe another view (views.teacher=solution), train the model to follow rubrics "
            "first (method: {type: sft, view: rubric}), or take a stronger one."
        )
        reasons += [f"No headroom to learn from: {harm}.", remedy]
        return Advice("don't", reasons, warnings)
    unread = [
        f"The own rubrics do not help more than {of.placebo} ones: difference {of.gap:.2f}."
        for of in sensitivities
        if of.gap.low <= 0
    ]
    for of in sensitivities:
        if of.placebo == "shuffled" and of.share is not None:
            share = f"{of.share:.2f} of the headroom is lost with shuffled rubrics"
            if of.share.high < MIN_SENSITIVITY:
                unread.append(f"Only {share}.")
            else:
                reasons.append(f"{share}.")
    if not unread:
        return Advice("train", reasons, warnings)
    unread.append(
        "The model reacts to the presence of a rubric more than to its content. Measure more "
        "questions (--num-examples), write criteria that name what each question demands, or "
        "train the model to follow rubrics first (method: {type: sft, view: rubric})."
    )
    return Advice("fix the rubrics", reasons + unread, warnings)
