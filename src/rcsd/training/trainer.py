"""A run: builds every part in sight, then the one loop, which does not know which method runs."""

import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from rcsd import config
from rcsd.data.load import load_examples
from rcsd.data.placebos import with_placebo
from rcsd.data.prompts import longest_sequence
from rcsd.data.views import PromptTemplates
from rcsd.distributed import Ranks, Terminated
from rcsd.engines.base import TopKScorer, sampling_seed
from rcsd.engines.build import build_engine
from rcsd.errors import RunError
from rcsd.io import fingerprint
from rcsd.methods.build import MethodParts, build_methods
from rcsd.models.policy import Scorer, load_policy
from rcsd.models.save import save_model
from rcsd.models.teacher import teacher_of
from rcsd.runs import RunFolder
from rcsd.training.auto_microbatch import set_max_tokens_per_microbatch
from rcsd.training.batches import build_batches
from rcsd.training.budget import BudgetTracker
from rcsd.training.checkpoint import Checkpoints, State
from rcsd.training.early_stopping import EarlyStopping
from rcsd.training.fsdp import Sharding
from rcsd.training.guards import are_finite, collected, refuse_blown_up_weights, refuse_nan
from rcsd.training.launch import build_accelerator, check_trackers
from rcsd.training.model_card import model_card
from rcsd.training.optimizer_step import build_optimizer_step
from rcsd.training.prefetch import Prefetch
from rcsd.training.record import check_same_run, create_run
from rcsd.training.spread import Spread
from rcsd.training.validation import build_validation

OnStep = Callable[[int, Mapping[str, float]], None]
OnWarning = Callable[[str], None]


def _quietly(step: int, metrics: Mapping[str, float]) -> None:
    """Tell nobody."""


def run(
    settings: config.Config,
    resume: bool = False,
    on_step: OnStep = _quietly,
    on_warning: OnWarning | None = None,
) -> RunFolder:
    """Train; returns the run's folder, whose ``model/`` transformers or PEFT load as it is.

    In each of the run's processes, where there are several (`rcsd.training.launch`).

    Args:
        settings: The run.
        resume: Go on from the newest checkpoint, as if the run had never stopped.
        on_step: Told the number of steps done and the metrics, after each step.
        on_warning: Told of what was mended, such as a harmed checkpoint; None: `warnings.warn`.

    Raises:
        UserError: If something is wrong that the user can mend; nothing written is lost.
        Terminated: After SIGTERM, with a checkpoint of all steps that were taken.
    """
    check_trackers(settings)
    accelerator, ranks = build_accelerator(settings)

    def whole() -> None:
        # However a run ends, nothing of it goes on afterwards.
        with ThreadPoolExecutor(1, "rcsd-ahead") as executor, ranks.interrupts.handling_signals():
            with ranks.interrupts.safe_to_stop(), ranks.interrupts.interruptible():
                folder = RunFolder(settings.out)
                ranks.on_main(folder.check_resumable if resume else folder.check_new)
                made = _Run(settings, accelerator, ranks, executor)
                made.prepare(resume, on_warning)
            made.train(on_step if ranks.is_main else _quietly)

    try:
        ranks.all_gather_results(whole)
    finally:
        if not ranks.is_broken:
            # Also after an error: threads of a group that is left open may abort its process.
            accelerator.end_training()
    return RunFolder(settings.out)


class _Run:
    """All parts of a run in one process.

    Args:
        settings: The run.
        accelerator: Devices, precision, trackers.
        ranks: The processes.
        executor: Samples ahead.
    """

    def __init__(
        self, settings: config.Config, accelerator: Accelerator, ranks: Ranks, executor: Executor
    ) -> None:
        self.settings, self.accelerator, self.ranks = settings, accelerator, ranks
        self.folder = RunFolder(settings.out)
        self.rows, self.imported = load_examples(settings.data)
        placebo, words = settings.rubrics.placebo, PromptTemplates(settings.views.templates)
        self.examples = with_placebo(self.rows, placebo, words)
        set_seed(settings.seed)
        is_sharded = settings.processes.sharding == "fsdp"
        # Else each process would need room on its device for the whole model.
        self.policy = load_policy(settings.model, torch.device("cpu") if is_sharded else None)
        self.weights_sha256 = self.policy.weights_sha256
        same = {"data": fingerprint(self.examples), "model.path": self.weights_sha256}
        ranks.assert_same_on_all_ranks(same)
        self.own_engine = build_engine(
            settings.engine,
            self.policy,
            self._precision,
            longest_sequence(settings),
            ranks.is_main,
        )
        self.scorer = Scorer(self.policy)
        # In place: mixed precision alone, since gradients are summed by the learner.
        accelerator.prepare_model(
            self.scorer, device_placement=not is_sharded, evaluation_mode=True
        )
        self.sharding = self._sharded() if is_sharded else None
        self._whole = nullcontext if self.sharding is None else self.sharding.whole
        self.engine = Spread(self.own_engine, ranks, self._whole)
        self.learner = build_optimizer_step(settings, accelerator, ranks, self.policy)
        settle = [] if self.sharding is None else [self.sharding.settle]
        self.teacher = teacher_of(settings.teacher, self.policy, *settle)
        self.ahead: Prefetch | None = None
        if settings.overlap:
            engine = (self.own_engine, settings.engine)
            self.ahead = Prefetch(*engine, self.policy, executor, self._precision)
        self.checkpoints = Checkpoints(
            self.folder.path / "checkpoints", settings.keep_checkpoints, ranks
        )
        self.best = Checkpoints(self.folder.path / "best", 1, ranks)

    def _sharded(self) -> Sharding:
        precision = torch.bfloat16 if self.settings.precision == "bf16" else None
        return Sharding(self.scorer, self.policy, precision)

    def prepare(self, resume: bool, on_warning: OnWarning | None) -> None:
        """Prompts, analyses, methods; then the folder, so that what cannot start leaves none."""
        settings, folder, ranks, policy = self.settings, self.folder, self.ranks, self.policy
        # Analyses are written here, before any step is taken or taken up: by the frozen weights.
        self.stream, found = build_batches(settings, self.examples, policy, self.engine, ranks)
        bare = self.own_engine
        top_k_scorer = bare if isinstance(bare, TopKScorer) else None
        parts = MethodParts(
            self.examples,
            policy,
            self.scorer,
            self.teacher,
            self.engine if self.ahead is None else Spread(self.ahead, ranks),
            self.learner.max_tokens_per_microbatch,
            ranks,
            top_k_scorer,
        )
        found |= {
            "imported": self.imported,
            "weights_sha256": self.weights_sha256,
            "max_tokens_per_microbatch": set_max_tokens_per_microbatch(
                settings, folder, self.stream.prompts, parts
            ),
        }
        self.methods = build_methods(settings, parts)
        self.evaluations = build_validation(
            settings, policy, self.engine, folder if ranks.is_main else None
        )
        record = check_same_run if resume else create_run
        ranks.on_main(lambda: record(folder, settings, self.examples, found))
        self.accelerator.init_trackers("rcsd", config={"config": settings.model_dump_json()})
        self.done = self._taken_up(on_warning or warnings.warn) if resume else 0
        self._follow()

    def train(self, on_step: OnStep) -> None:
        """The loop, then the model."""
        ledger = BudgetTracker(self.settings.budget, self._rows())
        try:
            if not (ledger.is_spent or self._has_gained_nothing()):
                self._take_steps(ledger, on_step)
        except Terminated:
            self._save_what_is_done()
            raise
        self._save_model()

    def _take_steps(self, ledger: BudgetTracker, on_step: OnStep) -> None:
        settings, ranks, folder = self.settings, self.ranks, self.folder
        for step in range(self.done, settings.steps):
            began, tokens_before = ledger.now(), ledger.tokens
            with ranks.interrupts.safe_to_stop():
                set_seed(sampling_seed(settings.seed, step), device_specific=True)
                method = self.methods(step)
                batch = collected(method, self.stream.take(step), step, folder)
                metrics = {**batch.metrics, "time/sampling_seconds": ledger.now() - began}
                self._sample_ahead(step + 1)
            metrics |= self.learner.learn(method, batch)
            if ranks.is_main:
                config.warn_of_drift(settings.engine, metrics)
            refuse_nan(metrics, step, batch, folder)
            self.teacher.update()
            self.done = step + 1
            self._follow()
            # The main process's clock is everyone's.
            seconds = ranks.all_gather(ledger.now() - began)[0]
            metrics |= ledger.add(batch.num_learned_tokens, seconds)
            ended = self.done == settings.steps or ledger.is_spent
            evaluated = self.evaluations.metrics_if_due(
                self.done, (tokens_before, ledger.tokens), ended
            )
            metrics |= evaluated | self.learner.max_tokens_per_microbatch.metrics(ranks)
            metrics |= self.own_engine.batch_size.metrics(ranks)
            if ranks.is_main:
                folder.log(self.done, metrics, batch.rollouts)
            ended |= bool(evaluated) and self._has_gained_nothing(keep_best=True)
            self.accelerator.log(metrics, step=self.done)
            is_asked_to_end = any(ranks.all_gather(ranks.interrupts.requested))
            if self.done % settings.save_every_steps == 0 or ended or is_asked_to_end:
                refuse_blown_up_weights(self.policy, step, batch, folder)
                self.checkpoints.save(self.done, self._state())
            on_step(self.done, metrics)
            if is_asked_to_end and not ended:
                raise Terminated
            if ended:
                break

    def _follow(self) -> None:
        """Let engines that have weights of their own take up the policy's.

        An engine that several processes share must be done with the older ones in all of them, and
        nobody may ask it by the newer ones before it has them.
        """
        if self.ahead is not None:
            self.ranks.all_gather_results(self.ahead.finish)
        is_own = self.settings.engine.type in ("local", "hf")
        with nullcontext() if is_own else self._whole():
            self.ranks.all_gather_results(lambda: (self.ahead or self.own_engine).sync(self.done))

    def _sample_ahead(self, step: int) -> None:
        """Begin a step's completions, where the run is to and there is such a step."""
        if self.ahead is not None and step < self.settings.steps:
            prompts = self.stream.take(step)
            request = self.methods(step).worker.sampling_request(prompts, step)
            self.ahead.start(*Spread(self.ahead, self.ranks).share(*request))

    def _precision(self) -> AbstractContextManager[None]:
        """What the model runs in."""
        return self.accelerator.autocast()

    def _rows(self) -> list[dict[str, float]]:
        """The metrics of all steps done."""
        return self.ranks.on_main(self.folder.metrics)

    def _has_gained_nothing(self, keep_best: bool = False) -> bool:
        """Whether the run is to stop early, by its held-out metric.

        Args:
            keep_best: Keep the weights where they are the best yet: those just evaluated.
        """
        stopping = self._stopping
        if stopping is None:
            return False
        rows = self._rows()
        if keep_best and stopping.best(rows) == self.done:
            self.best.save(self.done, State(self.learner.weights()))
        return stopping.should_stop(rows)

    @property
    def _stopping(self) -> EarlyStopping | None:
        evaluation = self.settings.evaluation
        stop = evaluation.early_stop if evaluation is not None else None
        return None if stop is None else EarlyStopping(stop.metric, stop.patience, stop.min_gain)

    def _state(self) -> State:
        """Everything that going on needs."""
        if self.sharding is not None:
            self.sharding.settle()
        learned = self.learner.state()
        teachers = {f"teacher/{name}": t for name, t in self.teacher.state_dict().items()}
        values = dict(learned.values)
        if self.ahead is not None:
            shares = self.ranks.all_gather(self.ahead.state())
            values["ahead"] = None
            if None not in shares:
                values["ahead"] = [row for share in shares for row in share or ()]
        return State({**learned.tensors, **teachers}, values)

    def _taken_up(self, tell: Callable[[str], object]) -> int:
        """Go back to the newest checkpoint and what held then; returns the steps behind it."""
        found = self.checkpoints.load(self.policy.trainable, tell)
        step, state = found or (0, None)
        if state is not None:
            self.learner.load(state)
            owned = [name.partition("/") for name in state.tensors]
            names = [name for owner, _, name in owned if owner == "teacher"]
            self.teacher.load_state_dict({n: state.tensors[f"teacher/{n}"] for n in names})
        if state is not None and self.ahead is not None and state.values["ahead"] is not None:
            rows = state.values["ahead"]
            self.ahead.load_state(rows[self.ranks.share(len(rows))])
        self.ranks.on_main(lambda: self._drop_after(step))
        rows = self._rows()
        self.learner.max_tokens_per_microbatch.resume(rows)
        self.own_engine.batch_size.resume(rows)
        return step

    def _drop_after(self, step: int) -> None:
        self.folder.go_back(step)
        self.best.drop_from(step + 1)

    def _save_what_is_done(self) -> None:
        """A checkpoint of the last whole step, unless there is one."""
        newest = self.ranks.on_main(self.checkpoints.steps)[-1:]
        if self.done > 0 and newest != [self.done] and are_finite(self.policy):
            self.checkpoints.save(self.done, self._state())
        # Whoever ends first would make a launcher end the one that still writes.
        self.ranks.barrier()

    def _save_model(self) -> None:
        """With the weights of the best evaluation, where a run may stop by it, or with its last."""
        if self._stopping is not None:
            best = self._stopping.best(self._rows())
            found = self.best.load(self.policy.trainable)
            if found is None or found[0] != best:
                raise RunError(
                    f"{self.folder.path}: the weights of the best evaluation, after step {best}, "
                    "were not kept, since early_stop was set afterwards; resume without it to get "
                    "the last ones"
                )
            self.learner.load_weights(found[1])
        weights = None if self.sharding is None else self.sharding.gathered(self.policy)
        if self.ranks.is_main:
            card = model_card(self.settings, len(self.folder.metrics()))
            with self.folder.new_model() as unfinished:
                save_model(self.policy, unfinished, card, weights)
