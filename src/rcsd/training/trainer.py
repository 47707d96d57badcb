"""Build the parts of a run in one visible function, and train in one loop.

The loop does not know which method runs.
"""

import contextlib
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from rcsd import config
from rcsd.data.load import load_examples, needed_fields, require_fields
from rcsd.data.placebos import with_placebo
from rcsd.data.prompts import longest_sequence
from rcsd.data.views import PromptTemplates
from rcsd.distributed import Ranks, Terminated
from rcsd.engines.base import sampling_seed
from rcsd.engines.build import build_engine
from rcsd.errors import NoVerdictsError, RunError
from rcsd.io import fingerprint, new_folder, one_owner
from rcsd.methods.build import MethodAt, MethodParts, build_methods
from rcsd.methods.staleness import warn_of_drift
from rcsd.models.adapters import coverage
from rcsd.models.checkpoint import Checkpoints, State
from rcsd.models.loading import refuse_quantized
from rcsd.models.memory import AdaptiveLimit
from rcsd.models.policy import Policy, load_policy
from rcsd.models.save import save_model
from rcsd.models.scorer import Scorer
from rcsd.models.teacher import Teacher, build_teacher
from rcsd.runs import RunFolder
from rcsd.training.batches import ShuffledBatches, build_batches
from rcsd.training.fsdp import Sharding
from rcsd.training.launch import build_accelerator
from rcsd.training.optimizer_step import OptimizerStep, build_optimizer_step
from rcsd.training.prefetch import Prefetch
from rcsd.training.record import model_card, write_or_check_record
from rcsd.training.sharded_engine import ShardedEngine
from rcsd.training.stopping import (
    BudgetTracker,
    EarlyStopping,
    NanGuard,
    build_early_stopping,
    not_finite,
)

if TYPE_CHECKING:
    from rcsd.training.validation import Validation

OnStep = Callable[[int, Mapping[str, float]], None]
OnWarning = Callable[[str], None]


def run(
    settings: config.Config,
    resume: bool = False,
    on_step: OnStep = lambda step, metrics: None,
    on_warning: OnWarning | None = None,
) -> RunFolder:
    """Train; returns the run's folder, whose ``model/`` transformers or PEFT load as it is.

    With several processes (`rcsd.training.launch`) each of them calls it.

    Args:
        settings: The run.
        resume: Go on from the newest checkpoint, as if the run had never stopped.
        on_step: Called with the number of steps done and the metrics, after each step.
        on_warning: Called with each warning, such as a damaged checkpoint; None: `warnings.warn`.

    Raises:
        UserError: If something is wrong that the user can mend; nothing written is lost.
        Terminated: After SIGTERM, SIGHUP or Ctrl-C, with a checkpoint of all steps that were taken.
    """
    accelerator, ranks = build_accelerator(settings)
    folder, interrupts = RunFolder(settings.out), ranks.interrupts

    def train() -> None:
        # However a run ends, no thread of it goes on afterwards.
        with (
            one_owner(folder.path) if ranks.is_main else contextlib.nullcontext(),
            ThreadPoolExecutor(1, "rcsd-prefetch") as executor,
            interrupts.handling_signals(),
        ):
            with interrupts.safe_to_stop(), interrupts.interruptible():
                ranks.on_main(folder.check_resumable if resume else folder.check_new)
                trainer = build_trainer(settings, accelerator, ranks, executor, resume)
                for note in trainer.policy.notes if ranks.is_main else ():
                    (on_warning or warnings.warn)(note)
                if resume:
                    trainer.resume(on_warning or warnings.warn)
                trainer.engine.sync(trainer.step)
            try:
                trainer.train(on_step)
            except (Terminated, NoVerdictsError):
                if trainer.prefetch is not None:
                    trainer.prefetch.give_up_unanswered()
                trainer.save_checkpoint_of_last_step()
                raise
            trainer.save_model()

    try:
        ranks.all_gather_results(train)
    finally:
        if not ranks.is_broken:
            # Also after an error: threads of a group that is left open may abort its process.
            accelerator.end_training()
    return folder


def build_trainer(
    settings: config.Config,
    accelerator: Accelerator,
    ranks: Ranks,
    executor: Executor,
    resume: bool,
) -> "Trainer":
    """Build every part of a run, then write ``run.json``, or on resume compare with it.

    In this order, so that a run that cannot start leaves no folder, and the frozen weights write
    the analyses also on resume. Raises UserError if the data, the model or the record do not fit
    the configuration.
    """
    folder, is_sharded = RunFolder(settings.out), settings.processes.sharding == "fsdp"

    # Data: the rows, or a placebo of their rubrics.
    rows, imported = load_examples(settings.data)
    templates = PromptTemplates(settings.views.templates)
    examples = with_placebo(rows, settings.rubrics.placebo, templates)
    require_fields(settings.data, examples, needed_fields(settings))

    # The policy. Sharded, no device ever holds the whole model.
    if settings.model.training.type == "full":
        refuse_quantized(settings.model, "full fine-tuning cannot train")
    set_seed(settings.seed)
    section = ranks.on_main(
        lambda: settings.model.dated(config.config_of_run(folder).model.date if resume else None)
    )
    policy = load_policy(section, torch.device("cpu") if is_sharded else None)
    section = settings.model.model_copy(update={"date": policy.date})
    settings = settings.model_copy(update={"model": section})
    facts = {"data": fingerprint(examples), "model.path": policy.weights_sha256}
    ranks.assert_same_on_all_ranks(facts)

    # The engine, before weights are sharded; then the scorer. In place: accelerate adds mixed
    # precision alone, since gradients are summed by the optimizer step.
    longest, precision = longest_sequence(settings), lambda: accelerator.autocast()
    engine = build_engine(settings.engine, policy, precision, longest, ranks.is_main)
    scorer = Scorer(policy.model)
    accelerator.prepare_model(scorer, device_placement=not is_sharded, evaluation_mode=True)
    dtype = torch.bfloat16 if settings.precision == "bf16" else None
    sharding = Sharding(scorer, policy, dtype) if is_sharded else None
    holds_copy = settings.engine.type not in ("local", "hf")
    sampler = rollout_engine = ShardedEngine(engine, ranks, sharding, holds_copy)

    # The optimizer, the teacher, and a copy of the policy that samples ahead.
    optimizer_step = build_optimizer_step(settings, accelerator, ranks, policy)
    max_tokens = optimizer_step.max_tokens_per_microbatch
    reshard = {} if sharding is None else {"reshard": sharding.reshard}
    teacher = build_teacher(settings.teacher, policy, **reshard)
    prefetch = None
    if settings.overlap:
        prefetch = Prefetch(engine, settings.engine, policy, executor, precision)
        rollout_engine = ShardedEngine(prefetch, ranks, holds_copy=holds_copy)

    # Prompts in shuffled batches. Missing analyses are written here, by the frozen weights.
    batches, prompts_record = build_batches(settings, examples, policy, sampler, ranks)

    # The method of each step, and validation.
    parts = MethodParts(examples, policy, scorer, teacher, rollout_engine, max_tokens, ranks)
    method_at = build_methods(settings, parts)
    validation = None
    if section := settings.evaluation:
        from rcsd.training.validation import build_validation  # noqa: PLC0415 (imports graders)

        validation = build_validation(settings, section, policy, sampler, folder, ranks)

    # The record, once nothing can fail any more, and the trackers.
    record = prompts_record | {"imported": imported, "weights_sha256": policy.weights_sha256}
    record["trained"] = coverage(policy.model, policy.trained)
    ranks.on_main(lambda: write_or_check_record(folder, settings, examples, record, resume))
    accelerator.init_trackers("rcsd", config={"config": settings.model_dump_json()})

    return Trainer(
        settings=settings,
        folder=folder,
        accelerator=accelerator,
        ranks=ranks,
        policy=policy,
        sharding=sharding,
        teacher=teacher,
        optimizer_step=optimizer_step,
        engine=rollout_engine,
        prefetch=prefetch,
        batches=batches,
        method_at=method_at,
        validation=validation,
        budget=BudgetTracker(settings.budget),
        early_stopping=build_early_stopping(settings.evaluation),
        limits=(max_tokens, engine.batch_size),
        checkpoints=Checkpoints(folder.path / "checkpoints", settings.keep_checkpoints, ranks),
        best=Checkpoints(folder.path / "best", 1, ranks),
    )


@dataclass
class Trainer:
    """The training loop over the parts that `build_trainer` built.

    Args:
        sharding: FSDP2 shards of the policy; None: each process holds all weights.
        prefetch: Samples the next step's rollouts ahead; None: `engine` samples them when needed.
        limits: Sizes that are lowered where memory runs out.
        best: The weights of the best validation, where the run may stop early.
        step: Number of steps done.
        unvalidated: Completion tokens before and after the last step, where the run was asked to
            end during its validation; resuming begins with that.
    """

    settings: config.Config
    folder: RunFolder
    accelerator: Accelerator
    ranks: Ranks
    policy: Policy
    sharding: Sharding | None
    teacher: Teacher
    optimizer_step: OptimizerStep
    engine: ShardedEngine
    prefetch: Prefetch | None
    batches: ShuffledBatches
    method_at: MethodAt
    validation: "Validation | None"
    budget: BudgetTracker
    early_stopping: EarlyStopping | None
    limits: tuple[AdaptiveLimit, ...]
    checkpoints: Checkpoints
    best: Checkpoints
    step: int = 0
    unvalidated: tuple[int, int] | None = None

    @property
    def is_done(self) -> bool:
        """True if all steps are taken, the budget is spent, or validation gains nothing more."""
        stops_early = self.early_stopping is not None and self.early_stopping.should_stop
        return self.step >= self.settings.steps or self.budget.is_spent or stops_early

    def train(self, on_step: OnStep) -> None:
        """Take all steps that are left. Effects happen in the order of these lines."""
        settings, ranks, budget = self.settings, self.ranks, self.budget
        self._finish_validation()
        while not self.is_done:
            # Sample this step's completions, or take those that were prefetched; attach the signals
            # that the loss needs of the whole batch. Then begin to sample for the next step.
            step, started, tokens_before = self.step, budget.now(), budget.tokens
            with ranks.interrupts.safe_to_stop():
                set_seed(sampling_seed(settings.seed, step), device_specific=True)
                prompts, method = self.batches.take(step), self.method_at(step)
                guard = NanGuard(self.folder, step, [prompt.example for prompt in prompts])
                batch = guard.collect(method, prompts)
                metrics = {**batch.metrics, "time/sampling_seconds": budget.now() - started}
                self._prefetch(step + 1)

            # Move the weights: micro-batches, with one denominator for the whole step, over ranks.
            metrics |= self.optimizer_step(method, batch)
            guard.check(metrics)

            # The teacher and the engine follow the weights.
            self.teacher.update()
            self.step = step + 1
            request_to_end = self._sync()

            # Count tokens and seconds; all ranks go by the main rank's clock.
            seconds = ranks.all_gather(budget.now() - started)[0]
            metrics |= budget.add(batch.num_learned_tokens, seconds)

            # Validate when due, and always after the last step.
            tokens = (tokens_before, budget.tokens)
            try:
                if request_to_end is not None:
                    raise request_to_end
                validation = self._validation_metrics(tokens)
            except Terminated:
                self.unvalidated = tokens
                if ranks.is_main:
                    self.folder.log(self.step, metrics, batch.rollouts)
                raise
            metrics |= validation
            for limit in self.limits:
                metrics |= limit.metrics(ranks)

            # Log, then keep the best weights.
            if ranks.is_main:
                warn_of_drift(settings.engine, metrics)
                self.folder.log(self.step, metrics, batch.rollouts)
            self._keep_best(validation)
            self.accelerator.log(metrics, step=self.step)

            # Checkpoint when due, at the end, and where any rank was asked to end.
            is_asked_to_end = any(ranks.all_gather(ranks.interrupts.requested))
            if self.step % settings.save_every_steps == 0 or self.is_done or is_asked_to_end:
                guard.check(self.policy.trainable)
                self.checkpoints.save(self.step, self.state())
            if ranks.is_main:
                on_step(self.step, metrics)
            if is_asked_to_end and not self.is_done:
                raise Terminated(ranks.interrupts.signal)

    def _sync(self) -> Terminated | None:
        """Push the weights to the engine; returns the request to end that cut it short."""
        try:
            with self.ranks.interrupts.safe_to_stop():
                self.engine.sync(self.step)
        except Terminated as request:
            return request
        return None

    def _validation_metrics(self, tokens: tuple[int, int]) -> dict[str, float]:
        """Metrics of the last step's validation; Terminated if the run is asked to end."""
        if self.validation is None:
            return {}
        with self.ranks.interrupts.safe_to_stop():
            return self.validation.metrics_if_due(self.step, tokens, self.is_done)

    def _keep_best(self, validation: Mapping[str, float]) -> None:
        """Keep the weights of the best validation; all ranks go by the main rank's numbers."""
        if validation and self.early_stopping is not None:
            measured = self.ranks.all_gather(validation)[0]
            if self.early_stopping.observe(self.step, measured):
                self.best.save(self.step, State(self.optimizer_step.weights()))

    def _finish_validation(self) -> None:
        """Validate the step that the resumed run was asked to end in."""
        if self.unvalidated is not None:
            metrics = self._validation_metrics(self.unvalidated)
            self.unvalidated = None
            self.ranks.on_main(lambda: self.folder.add_metrics(self.step, metrics))
            self._keep_best(metrics)
            self.accelerator.log(metrics, step=self.step)

    def _prefetch(self, step: int) -> None:
        """Begin to sample a step's completions, where the run prefetches and has such a step."""
        if self.prefetch is not None and step < self.settings.steps:
            request = self.method_at(step).worker.sampling_request(self.batches.take(step), step)
            self.prefetch.start(*self.engine.shard(*request))

    def state(self) -> State:
        """All that resuming needs."""
        if self.sharding is not None:
            self.sharding.reshard()
        learned, teacher, prefetched = self.optimizer_step.state(), self.teacher.state_dict(), None
        if self.prefetch is not None:
            # All ranks' completions of the next step, unless a rank has none.
            shares = self.ranks.all_gather(self.prefetch.state())
            prefetched = (
                None if None in shares else [row for share in shares for row in share or ()]
            )
        stopping = self.early_stopping
        return State(
            {**learned.tensors, **{f"teacher/{name}": t for name, t in teacher.items()}},
            {
                **learned.values,
                "budget": self.budget.state_dict(),
                "early_stopping": None if stopping is None else stopping.state_dict(),
                "limits": {x.name: min(self.ranks.all_gather(x.value)) for x in self.limits},
                "prefetched": prefetched,
                "unvalidated": self.unvalidated,
            },
        )

    def resume(self, on_warning: OnWarning) -> None:
        """Go back to the newest checkpoint; rows and weights of later steps are dropped.

        Raises RunError if no checkpoint can be read.
        """
        loaded = self.checkpoints.load(self.policy.trainable, on_warning)
        if loaded is not None:
            self.step, state = loaded
            self._load_state(state)
        self.ranks.on_main(lambda: self.folder.go_back(self.step))
        self.ranks.on_main(lambda: self.best.drop_from(self.step + 1))

    def _load_state(self, state: State) -> None:
        values = state.values
        self.optimizer_step.load(state)
        self.teacher.load_state_dict(state.part("teacher"))
        self.budget.load_state_dict(values["budget"])
        if self.early_stopping is not None and values["early_stopping"] is not None:
            self.early_stopping.load_state_dict(values["early_stopping"])
        if (tokens := values.get("unvalidated")) is not None:
            self.unvalidated = (tokens[0], tokens[1])
        for limit in self.limits:
            limit.value = values["limits"][limit.name]
        if self.prefetch is not None and (rows := values["prefetched"]) is not None:
            self.prefetch.load_state(rows[self.ranks.share(len(rows))])

    def save_checkpoint_of_last_step(self) -> None:
        """Save all whole steps, unless that was done or weights are not finite."""
        newest = self.ranks.on_main(self.checkpoints.steps)[-1:]
        if self.step > 0 and newest != [self.step] and not not_finite(self.policy.trainable):
            self.checkpoints.save(self.step, self.state())
        # The rank that ends first would make a launcher end the one that still writes.
        self.ranks.barrier()

    def save_model(self) -> None:
        """Write ``model/``: the weights of the best validation if there is one, else the last.

        Raises RunError if the best weights are gone, or the disk is full.
        """
        best = None if self.early_stopping is None else self.early_stopping.best_step
        if best is not None:
            loaded = self.best.load(self.policy.trainable)
            if loaded is None or loaded[0] != best:
                raise RunError(
                    f"{self.best.path(best)}: the weights of the best validation are gone; resume "
                    "without evaluation.early_stop to get the last ones"
                )
            self.optimizer_step.load_weights(loaded[1])
        weights = None if self.sharding is None else self.sharding.gathered(self.policy)
        if self.ranks.is_main:
            path, card = self.folder.model, model_card(self.settings, self.step)
            with self.checkpoints.named_errors(path):
                with new_folder(path, replace=True) as unfinished:
                    save_model(self.policy, unfinished, card, weights)
                self.folder.end(self.step)
