"""A run: builds every part in sight, then the one loop, which does not know which method runs."""

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import get_scheduler

from rcsd import config
from rcsd.data.load import load_examples
from rcsd.data.placebos import with_placebo
from rcsd.engines import Engine, PolicyEngine, sampling_seed
from rcsd.engines.ahead import Ahead
from rcsd.engines.building import engine_of
from rcsd.engines.fitting import FittingEngine
from rcsd.errors import ConfigError, RunError
from rcsd.fitting import largest_part
from rcsd.held_out import evaluations_of
from rcsd.learning import Learner
from rcsd.ledger import Ledger
from rcsd.memory import free_bytes, part_limit
from rcsd.methods import Batch, Method
from rcsd.methods.building import Parts, method_at
from rcsd.models import Policy, Scorer, load_policy, save_model
from rcsd.probe.gains import MIN_QUESTIONS
from rcsd.probe.headroom import Answerer, teacher_headroom
from rcsd.prompting import (
    Prompted,
    longest_sequence,
    prompt_room,
    weights_fingerprint,
)
from rcsd.runs import RunFolder
from rcsd.stopping import EarlyStopping
from rcsd.streams import stream_of
from rcsd.teachers import Teacher, teacher_of
from rcsd.types import Decoding, Example
from rcsd.views import Words
from rcsd.zoo import hub_name

HEADROOM_EXAMPLES = 32
"""Questions that are answered in both views before a run, to warn where there is no headroom."""

OnStep = Callable[[int, Mapping[str, float]], None]


def _quietly(step: int, metrics: Mapping[str, float]) -> None:
    """Tell nobody."""


def run(
    settings: config.Config,
    resume: bool = False,
    on_step: OnStep = _quietly,
    on_warning: Callable[[str], None] | None = None,
) -> RunFolder:
    """Train; returns the run's folder, whose ``model/`` transformers or PEFT load as it is.

    Args:
        settings: The run.
        resume: Go on from the newest checkpoint, as if the run had never stopped.
        on_step: Told the number of steps done and the metrics, after each step.
        on_warning: Told, before a new run, where the teacher's view has no headroom, which some
            answers are sampled for; None samples none.

    Raises:
        UserError: If something is wrong that the user can mend; nothing written is lost.
    """
    # However a run ends, nothing of it goes on afterwards.
    with ThreadPoolExecutor(1, "rcsd-ahead") as executor:
        return _run(settings, resume, on_step, on_warning, executor)


def _run(
    settings: config.Config,
    resume: bool,
    on_step: OnStep,
    on_warning: Callable[[str], None] | None,
    executor: Executor,
) -> RunFolder:
    folder = RunFolder(settings.out)
    rows, imported = load_examples(settings.data)
    examples = with_placebo(rows, settings.rubrics.placebo, Words(settings.views.templates))
    folder.check_resumable() if resume else folder.check_new()
    set_seed(settings.seed)
    accelerator = _accelerator(settings, folder)
    policy = load_policy(settings.model)
    learner = _learner(settings, accelerator, policy)
    scorer = accelerator.prepare(Scorer(policy))
    teacher = teacher_of(settings.teacher, policy)
    engine = _engine(settings, accelerator, policy)
    ahead = _ahead(settings, accelerator, policy, engine, executor)
    _register_state(accelerator, policy, learner.schedule, teacher, ahead)
    # Analyses are written here, before any step is taken or taken up: by the frozen weights.
    stream, found = stream_of(settings, examples, policy, engine)
    parts = Parts(examples, policy, scorer, teacher, ahead or engine, learner.tokens_per_part)
    found |= {
        "imported": imported,
        "weights_sha256": weights_fingerprint(policy.model),
        "tokens_per_part": _set_tokens_per_part(settings, folder, stream.prompts, parts),
    }
    methods = method_at(settings, parts)
    evaluations = evaluations_of(settings, policy, engine, folder)
    if on_warning is not None and not resume:
        _warn_without_headroom(settings, policy, engine, on_warning)
    # Only now, so that a run that cannot start leaves no folder behind.
    (folder.check_same if resume else folder.create)(settings, examples, found)
    accelerator.init_trackers("rcsd", config={"config": settings.model_dump_json()})
    start = _start(folder, learner, engine, ahead or engine, resume)
    ledger = Ledger(settings.budget, folder.metrics())
    ended = ledger.is_spent or _stops(settings, folder)

    for step in range(start, settings.steps):
        if ended:
            break
        began, tokens_before = ledger.now(), ledger.tokens
        set_seed(sampling_seed(settings.seed, step))
        method = methods(step)
        batch = _collected(method, stream.take(step), step, folder)
        metrics = dict(batch.metrics) | {"time/sampling_seconds": ledger.now() - began}
        if ahead is not None and step + 1 < settings.steps:
            ahead.start(*methods(step + 1).student.request(stream.take(step + 1), step + 1))
        metrics |= _learned(settings, learner, method, batch)
        _refuse_nan(metrics, step, batch, folder)
        _follow(teacher, ahead or engine, step + 1)
        metrics |= ledger.add(batch.num_learned_tokens, began)
        last = step + 1 == settings.steps or ledger.is_spent
        evaluated = evaluations.metrics_if_due(step + 1, (tokens_before, ledger.tokens), last)
        metrics |= evaluated | learner.tokens_per_part.metrics() | engine.batch_size.metrics()
        folder.log(step + 1, metrics, batch.rollouts)
        ended = ledger.is_spent or (bool(evaluated) and _stops(settings, folder, policy))
        accelerator.log(metrics, step=step + 1)
        if (step + 1) % settings.save_every_steps == 0 or last:
            _refuse_blown_up_weights(policy, step, batch, folder)
            folder.save_checkpoint(accelerator, step + 1, settings.keep_checkpoints)
        on_step(step + 1, metrics)
    _save_model(settings, folder, policy)
    accelerator.end_training()
    return folder


def _accelerator(settings: config.Config, folder: RunFolder) -> Accelerator:
    missing = [name for name in settings.trackers if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"trackers: {missing[0]} is not installed; pip install {missing[0]}")
    accelerator = Accelerator(
        mixed_precision=settings.precision or "no",
        log_with=list(settings.trackers) or None,
        project_dir=str(folder.path),
        step_scheduler_with_optimizer=False,
    )
    if accelerator.num_processes > 1:
        # Each would take the same examples with the same seed, and write the same files.
        raise ConfigError("one process a run: start it without torchrun or accelerate launch")
    return accelerator


def _learner(settings: config.Config, accelerator: Accelerator, policy: Policy) -> Learner:
    optim, tokens = settings.optim, settings.tokens_per_part
    optimizer = torch.optim.AdamW(
        list(policy.trainable.values()),
        lr=optim.lr,
        betas=optim.betas,
        weight_decay=optim.weight_decay,
    )
    name = "constant_with_warmup" if optim.schedule == "constant" else optim.schedule
    return Learner(
        accelerator,
        policy,
        accelerator.prepare(optimizer),
        get_scheduler(name, optimizer, optim.warmup_steps, settings.steps),
        optim.max_grad_norm,
        part_limit(1 if tokens == "auto" else tokens),
    )


def _engine(settings: config.Config, accelerator: Accelerator, policy: Policy) -> FittingEngine:
    return engine_of(
        settings.engine,
        policy,
        lambda: accelerator.autocast(),
        longest_sequence(settings),
        accelerator.is_main_process,
    )


def _ahead(
    settings: config.Config,
    accelerator: Accelerator,
    policy: Policy,
    engine: FittingEngine,
    executor: Executor,
) -> Ahead | None:
    """What samples while the step before is learned from, where the run is to."""
    if not settings.overlap:
        return None
    return Ahead(engine, settings.engine, policy, executor, lambda: accelerator.autocast())


def _register_state(
    accelerator: Accelerator, policy: Policy, schedule: Any, teacher: Teacher, ahead: Ahead | None
) -> None:
    """Make checkpoints hold the trained weights alone, and what else goes on from them."""

    def save(models: list[nn.Module], weights: list[Any], folder: str) -> None:
        weights.clear()
        save_file(_trained(policy), Path(folder) / "trained.safetensors")

    def load(models: list[nn.Module], folder: str) -> None:
        models.clear()
        _load_trained(policy, load_file(Path(folder) / "trained.safetensors"))

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)
    accelerator.register_for_checkpointing(schedule, teacher)
    if ahead is not None:
        accelerator.register_for_checkpointing(ahead)


def _set_tokens_per_part(
    settings: config.Config, folder: RunFolder, prompts: Sequence[Prompted], parts: Parts
) -> int:
    """As many as were asked for, or as the run's start has found to fit."""
    if settings.tokens_per_part == "auto":
        tokens = parts.tokens_per_part
        if folder.record.is_file():  # whatever room there is by now
            tokens.value = folder.read_record()["tokens_per_part"]
        else:
            free = free_bytes(parts.policy.device)
            tokens.value = largest_part(settings, prompts, parts, free)
    return parts.tokens_per_part.value


def _start(
    folder: RunFolder, learner: Learner, engine: FittingEngine, sampler: PolicyEngine, resume: bool
) -> int:
    """Take up the newest checkpoint and the limits of its time; returns the steps behind it."""
    start = 0
    if resume:
        start = folder.load_newest_checkpoint(learner.accelerator)
        learner.tokens_per_part.resume(folder.metrics())
        engine.batch_size.resume(folder.metrics())
    sampler.load(start)
    return start


def _follow(teacher: Teacher, engine: PolicyEngine, version: int) -> None:
    """Let all who have weights of their own follow the policy after a step."""
    teacher.update()
    engine.load(version)


def _warn_without_headroom(
    settings: config.Config, policy: Policy, engine: Engine, on_warning: Callable[[str], None]
) -> None:
    """Tell whoever starts a run that its teacher knows no better than its student."""
    is_control = settings.rubrics.placebo.type != "none"
    if is_control or not settings.has_teacher_view or settings.views.writes == "rubric":
        return
    sampling, evaluation = settings.sampling, settings.evaluation
    max_tokens = sampling.max_tokens if evaluation is None else evaluation.max_tokens
    room = prompt_room(policy, sampling.max_prompt_tokens, max_tokens)
    answerer = Answerer(policy, engine, settings.views, Decoding(max_tokens), room)
    examples, _ = load_examples(settings.probed_data)
    gain = teacher_headroom(answerer, examples, HEADROOM_EXAMPLES, settings.seed)
    if gain is None or gain.n < MIN_QUESTIONS:
        on_warning(
            "headroom is unknown: too few answers can be graded, for want of checks and numeric "
            "references"
        )
    elif gain.low <= 0:
        on_warning(
            f"no headroom: in the view '{settings.views.teacher}' the model scores "
            f"{gain.mean:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}] over '{settings.views.student}' "
            f"on {gain.n} examples, so there may be nothing to learn; 'rcsd probe' says more"
        )


def _stopping(settings: config.Config) -> EarlyStopping | None:
    stop = settings.evaluation.early_stop if settings.evaluation is not None else None
    return None if stop is None else EarlyStopping(stop.metric, stop.patience, stop.min_gain)


def _stops(settings: config.Config, folder: RunFolder, policy: Policy | None = None) -> bool:
    """Whether the held-out metric has gained nothing for a while.

    Args:
        settings: The run.
        folder: Holds its metrics.
        policy: As it was evaluated just now: kept where it is the best yet.
    """
    stopping = _stopping(settings)
    if stopping is None:
        return False
    rows = folder.metrics()
    if policy is not None and stopping.best(rows) == rows[-1]["step"]:
        folder.save_best(_trained(policy))
    return stopping.should_stop(rows)


def _save_model(settings: config.Config, folder: RunFolder, policy: Policy) -> None:
    """With the weights of the best evaluation, where a run may stop by it, or with its last."""
    if _stopping(settings) is not None:
        _load_trained(policy, folder.load_best())
    with folder.new_model() as unfinished:
        save_model(policy, unfinished, _card(settings, len(folder.metrics())))


def _trained(policy: Policy) -> dict[str, Tensor]:
    """The trained weights alone."""
    return {name: p.detach().contiguous() for name, p in policy.trainable.items()}


def _load_trained(policy: Policy, state: Mapping[str, Tensor]) -> None:
    for name, parameter in policy.trainable.items():
        parameter.data.copy_(state[name])


def _collected(method: Method, prompts: Sequence[Prompted], step: int, folder: RunFolder) -> Batch:
    try:
        return method.collect(prompts, step)
    except FloatingPointError as error:
        raise _blown_up(str(error), [p.example for p in prompts], step, folder) from error


def _learned(
    settings: config.Config, learner: Learner, method: Method, batch: Batch
) -> dict[str, float]:
    metrics = learner.learn(method, batch)
    config.warn_of_drift(settings.engine, {**batch.metrics, **metrics})
    return metrics


def _refuse_nan(metrics: Mapping[str, float], step: int, batch: Batch, folder: RunFolder) -> None:
    bad = sorted(name for name, value in metrics.items() if not math.isfinite(value))
    if bad:
        what = f"{', '.join(bad)} is not a number"
        raise _blown_up(what, [r.example for r in batch.rollouts], step, folder)


def _refuse_blown_up_weights(policy: Policy, step: int, batch: Batch, folder: RunFolder) -> None:
    """A checkpoint of weights that are not numbers must not push out a good one."""
    bad = [name for name, p in policy.trainable.items() if not torch.isfinite(p).all()]
    if bad:
        what = f"{bad[0]} and {len(bad) - 1} other weights are not numbers"
        raise _blown_up(what, [r.example for r in batch.rollouts], step, folder)


def _blown_up(what: str, batch: Sequence[Example], step: int, folder: RunFolder) -> RunError:
    kept = folder.checkpoints()
    last = f"the last checkpoint is {kept[-1]}" if kept else "there is no checkpoint yet"
    ids = ", ".join(dict.fromkeys(example.id for example in batch))
    return RunError(
        f"step {step + 1}: {what}; nothing was saved of it, and {last}. The batch: {ids}. "
        "A smaller optim.lr or a method.clip may help"
    )


def _card(settings: config.Config, num_steps: int) -> str:
    """The model card; a budget may have ended the run before all of its steps."""
    views = f"the model's view: {settings.learned_view}"
    if settings.has_teacher_view:
        views = (
            f"student's view: {settings.views.student}, teacher's view: {settings.views.teacher}"
        )
    placebo = settings.rubrics.placebo.type
    # A placebo's model is there to be compared with; whoever finds it alone must know that.
    warning = f"; its rubrics were a placebo: `{placebo}`" if placebo != "none" else ""
    return (
        "---\nlibrary_name: transformers\ntags: [rcsd, self-distillation]\n"
        f"base_model: {hub_name(settings.model.path)}\n---\n\n"
        f"# {settings.out.name}\n\n"
        f"Trained by `rcsd` with the method `{settings.method.type}` for {num_steps} steps "
        f"from `{settings.model.path}`; {views}{warning}. "
        "The whole configuration is in `run.json` of the run's folder.\n"
    )
