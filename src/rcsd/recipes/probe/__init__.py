"""Before training: is there anything to learn from these rubrics, with this model?

``probe`` builds every part in sight and measures. Headroom, content sensitivity and the ranking of
completions need grades; masses, clips and leakage need none.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import set_seed

from rcsd import config
from rcsd.data.load import load_examples
from rcsd.data.placebos import PLACEBOS
from rcsd.data.prompts import (
    PromptPair,
    SkippedExample,
    build_decoding,
    build_prompts,
    limit_prompt_tokens,
)
from rcsd.engines.analysis import with_analyses
from rcsd.engines.build import engine_of
from rcsd.errors import ConfigError, ModelError, RunError
from rcsd.io import cache_folder, make_folder, write_json
from rcsd.methods.distill import check_support
from rcsd.methods.rollouts import Student
from rcsd.models.memory import microbatch_limit
from rcsd.models.policy import Scorer, load_policy
from rcsd.models.teacher import teacher_of
from rcsd.recipes.probe.advice import Advice, advice_on
from rcsd.recipes.probe.clips import clip_effects
from rcsd.recipes.probe.contexts import TEACHER, Answers, contexts_of
from rcsd.recipes.probe.gains import Metric, Sensitivity, measured_headroom, sensitivity
from rcsd.recipes.probe.gaps import Pair
from rcsd.recipes.probe.headroom import Answerer, answered, quietly, sampled
from rcsd.recipes.probe.leakage import leakage_of
from rcsd.recipes.probe.results import Measured
from rcsd.recipes.probe.signal import Signal, signal_of
from rcsd.types import Decoding, Example, Progress

RANKED_PLACEBOS = ("shuffled", "generic")
"""Placebos whose teachers rank the sampled completions too."""

KS = (5, 20, 100)
"""Sizes of the support whose mass is measured, beside the configured one."""


@dataclass(frozen=True)
class Probe:
    """What was measured, and what it advises.

    Args:
        num_available: Examples of the data set.
        num_asked: Those that were drawn from it and fit.
        dropped: Those that were drawn and that a run would drop too, and why.
        impossible: Contexts that the data set does not allow, by name, and why.
        measured: What the advice rests on.
        signal: What the teacher says of sampled completions.
        advice: What to do.
    """

    num_available: int
    num_asked: int
    dropped: tuple[SkippedExample, ...]
    impossible: Mapping[str, str]
    measured: Measured
    signal: Signal
    advice: Advice

    def json(self) -> dict[str, Any]:
        """Everything, for a JSON file."""
        tree = asdict(self)
        tree |= tree.pop("measured")
        del tree["rankings"]  # the signal has them
        return tree


def probe(
    settings: config.Config,
    num_examples: int = 64,
    num_samples: int = 4,
    progress: Progress = quietly,
) -> Probe:
    """Measure whether a run has anything to learn. Nothing is trained, and no weight changes.

    Args:
        settings: The run. Its held-out examples are asked where it has some, else those that it
            trains on: with their own rubrics and with every placebo, whatever ``rubrics.placebo``.
        num_examples: Questions, drawn from these; at least 1.
        num_samples: Completions of each, sampled as in training; a ranking takes 2 or more.
        progress: Told what is done.

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
    seed = settings.seed
    everyone, _ = load_examples(settings.probed_data)
    pair, answerer = _loaded(settings, section)
    prompts, dropped = _prompts(sampled(everyone, num_examples, seed), answerer)
    examples = [prompt.example for prompt in prompts]
    contexts, impossible = contexts_of(
        examples, everyone, settings.views, settings.rubrics.placebo, seed
    )
    decoding = build_decoding(settings.sampling)
    try:
        student, answers = answered(answerer, examples, contexts, progress)
        found = measured_headroom(examples, student, answers, seed)
        progress("signal", 0, 3, "samples")
        rollouts = _student(pair, decoding, num_samples, seed).rollouts(prompts, step=0)
        progress("signal", 1, 3, "probabilities")
        ranked = [context for context in contexts if context.name in RANKED_PLACEBOS]
        said = signal_of(rollouts, found.metric, answerer, pair, ranked, seed)
        masses = pair.top_k_mass(rollouts, (*KS, *_configured_k(section)))
        progress("signal", 2, 3, "gradients")
        batch = prompts[: settings.examples_per_step]
        clips = clip_effects(section, pair, batch, decoding, settings.completions_per_example, seed)
        progress("signal", 3, 3, "")
    except FloatingPointError as error:
        raise ModelError(f"model.path: {settings.model.path}: {error}") from error
    measured = Measured(
        found,
        _sensitivities(examples, student, answers, found.metric, seed),
        said.rankings,
        masses,
        next(iter(_configured_k(section)), None),
        clips,
        leakage_of(load_examples(settings.data)[0]),
    )
    return Probe(
        len(everyone),
        len(examples),
        tuple(dropped),
        impossible,
        measured,
        said,
        advice_on(measured),
    )


def check_new(folder: Path) -> None:
    """Refuse a folder that exists, before anything is measured.

    Raises:
        RunError: If it does.
    """
    if folder.exists():
        raise RunError(f"{folder} exists; choose another folder with --out")


def write_probe(found: Probe, settings: config.Config, folder: Path) -> Path:
    """Write ``probe.json``: the run's configuration and everything measured; returns its path."""
    path = folder / "probe.json"
    make_folder(path)
    write_json(path, {"config": settings.model_dump(mode="json"), **found.json()})
    return path


def _loaded(settings: config.Config, section: config.Distill) -> tuple[Pair, Answerer]:
    """Policy, scorer, teacher and engine, as the run would have them before its first step."""
    set_seed(settings.seed)
    accelerator = Accelerator(mixed_precision=settings.precision or "no")
    policy = load_policy(settings.model)
    check_support(section, policy)
    scorer = accelerator.prepare(Scorer(policy))
    engine = engine_of(settings.engine, policy, lambda: accelerator.autocast())
    teacher = teacher_of(settings.teacher, policy)
    budget = settings.max_tokens_per_microbatch
    budget = config.DEFAULT_MAX_TOKENS_PER_MICROBATCH if budget == "auto" else budget
    pair = Pair(policy, scorer, engine, teacher, section.temperature, microbatch_limit(budget))
    sampling, evaluation = settings.sampling, settings.evaluation
    num_answer = sampling.max_tokens if evaluation is None else evaluation.max_tokens
    longest = max(num_answer, sampling.max_tokens)
    room = limit_prompt_tokens(policy.max_positions, sampling.max_prompt_tokens, longest)
    return pair, Answerer(policy, engine, settings.views, Decoding(num_answer), room)


def _prompts(
    examples: list[Example], answerer: Answerer
) -> tuple[list[PromptPair], list[SkippedExample]]:
    """The prompts that the run would train on, and what it would drop."""
    views, policy, room = answerer.views, answerer.policy, answerer.room
    prompts, dropped = build_prompts(examples, views, policy.tokenizer, room)
    if views.analysis:
        cache = cache_folder() / "analyses"
        prompts, _ = with_analyses(prompts, views, policy, answerer.engine, cache, room)
    return prompts, dropped


def _student(pair: Pair, decoding: Decoding, num_samples: int, seed: int) -> Student:
    """The student, as the run's first step would sample it."""
    return Student(
        pair.policy,
        pair.scorer,
        pair.engine,
        decoding,
        num_samples,
        pair.max_tokens_per_microbatch,
        seed,
    )


def _configured_k(section: config.Distill) -> tuple[int, ...]:
    """The loss's support, where it is a top k."""
    if section.support.type == "full" or section.divergence.type == "sampled_token":
        return ()
    return (section.support.k,)


def _sensitivities(
    examples: list[Example],
    student: Answers,
    answers: list[Answers],
    metric: Metric | None,
    seed: int,
) -> tuple[Sensitivity, ...]:
    """To each placebo that was asked."""
    teacher = next(found for found in answers if found.context == TEACHER)
    placebos = [found for found in answers if found.context in PLACEBOS]
    if metric is None:
        return ()
    found = [sensitivity(examples, student, teacher, p, metric, seed) for p in placebos]
    return tuple(each for each in found if each is not None)
