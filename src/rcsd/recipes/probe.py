"""Headroom, content sensitivity and divergence of a run before it trains (``rcsd probe``).

Headroom predicts the gain of distillation (arXiv 2605.30070): the model answers questions in the
student's and in the teacher's view, with the own rubrics and with placebos, by its present weights.
Divergence is that of the student from the teacher on completions that the student samples.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

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
from rcsd.errors import ConfigError, DataError, ModelError, RunError
from rcsd.evaluation.statistics import Interval, bootstrap_interval
from rcsd.graders.code import CodeJudge
from rcsd.graders.grade import Graded, sample_and_grade
from rcsd.io import cache_folder, make_folder, write_json
from rcsd.methods.distill import check_support
from rcsd.methods.rollouts import RolloutWorker
from rcsd.models.memory import microbatch_limit
from rcsd.models.policy import load_policy
from rcsd.models.scorer import Scorer
from rcsd.models.teacher import Teacher, build_teacher
from rcsd.recipes.probe_numbers import (
    STUDENT,
    TEACHER,
    Advice,
    ContextHeadroom,
    Metric,
    Sensitivity,
    advise,
    choose_metric,
    graded_values,
    measure_headroom,
    measure_sensitivity,
)
from rcsd.types import Decoding, Example, Progress, Rollout

Prompts = Mapping[str, tuple[int, ...]]
"""Token ids by the example's id."""

BuildPairs = Callable[[Sequence[Example]], tuple[list[PromptPair], list[SkippedExample]]]
"""Prompts of the run for examples."""


@dataclass(frozen=True)
class Probe:
    """Measurements and advice.

    Args:
        num_available: Examples of the data set.
        num_questions: Those drawn from it that fit.
        skipped: Those drawn that a run would skip too, with the reason.
        impossible: Placebos that the data does not allow, with the reason.
        metric: Metric of the headroom; None: nothing can be graded.
        contexts: Gains of all contexts; the student's first, then the teacher's.
        sensitivities: By placebo.
        num_completions: Sampled completions.
        divergences: Divergence of the student from each context's teacher (`divergence`).
        advice: Verdict.
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
            their own rubrics and with every empty placebo, whatever ``rubrics.placebo``.
        num_examples: Questions drawn from these; at least 1.
        num_samples: Completions per question, sampled as in training.
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
    seed, evaluation = settings.seed, settings.evaluation
    population, _ = load_examples(settings.probed_data)
    places = random.Random(seed).sample(range(len(population)), min(num_examples, len(population)))
    worker, teacher = _load(settings, section, num_samples)
    num_answer = (settings.sampling if evaluation is None else evaluation).max_tokens
    build_pairs = _pair_builder(settings, worker, num_answer)
    pairs, skipped = build_pairs([population[place] for place in sorted(places)])
    examples = [pair.example for pair in pairs]
    prompts, impossible = build_contexts(pairs, population, settings, build_pairs)
    on_cost(
        f"{sum(map(len, prompts.values()))} answers (contexts: {', '.join(prompts)}; questions: "
        f"{len(pairs)}) of up to {num_answer} tokens; {num_samples * len(pairs)} completions of "
        f"up to {settings.sampling.max_tokens}, scored {len(prompts)} times"
    )
    rows: dict[str, list[Graded]] = {}
    try:
        for done, (name, ids) in enumerate(prompts.items()):
            progress("answers", done, len(prompts), name)
            asked = [example for example in examples if example.id in ids]
            rows[name] = sample_and_grade(
                worker.engine, asked, [ids[e.id] for e in asked], Decoding(num_answer), CodeJudge()
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
    student, own, *others = (
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
        (student, own, *others),
        sensitivities,
        len(rollouts),
        divergences,
        advise(metric, student, own, sensitivities),
    )


def build_contexts(
    pairs: Sequence[PromptPair],
    population: Sequence[Example],
    settings: config.Config,
    build_pairs: BuildPairs,
) -> tuple[dict[str, Prompts], dict[str, str]]:
    """Prompts of the student's view, of the teacher's, and of it with each empty placebo.

    Args:
        pairs: Prompts of the questions with their own rubrics.
        population: Data set that they were drawn from; placebos take criteria from all of it.
        settings: The run; its placebo's share and seed hold for the placebo of its type.
        build_pairs: Builds prompts of examples.

    Returns:
        Prompts by context, and by placebo the reason why there is none.
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

    Args:
        rollouts: Completions that the student sampled.
        log_q: The student's log-probabilities of their tokens.
        prompts: Prompts of the teacher p; completions of other questions are left out.
        worker: Scores completions.
        teacher: The teacher's weights.
        seed: Seed of the interval, which resamples questions.
    """
    kept = [
        (rollout, q)
        for rollout, q in zip(rollouts, log_q, strict=True)
        if rollout.example.id in prompts and len(q)
    ]
    if not kept:
        return None
    chosen = [rollout for rollout, _ in kept]
    with teacher.weights():
        log_p = worker.sampled_log_q(chosen, [prompts[r.example.id] for r in chosen])
    values = [
        sum(a - b for a, b in zip(q, p, strict=True)) / len(q)
        for (_, q), p in zip(kept, log_p, strict=True)
    ]
    return bootstrap_interval(values, [rollout.example.id for rollout in chosen], seed)


def write_probe(measured: Probe, settings: config.Config, folder: Path) -> Path:
    """Write ``probe.json``, with the run's configuration; returns its path."""
    path = folder / "probe.json"
    make_folder(path)
    write_json(path, {"config": settings.model_dump(mode="json"), **asdict(measured)})
    return path


def check_new(folder: Path) -> None:
    """Refuse a folder that exists, before anything is measured.

    Raises:
        RunError: If it does.
    """
    if folder.exists():
        raise RunError(f"{folder} exists; choose another folder with --out")


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
    budget = settings.max_tokens_per_microbatch
    budget = config.DEFAULT_MAX_TOKENS_PER_MICROBATCH if budget == "auto" else budget
    decoding, limit = Decoding(1, section.temperature), microbatch_limit(budget)
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
            cache = cache_folder() / "analyses"
            pairs, _ = with_analyses(pairs, views, policy, worker.engine, cache, room)
        return pairs, skipped

    return build
