"""Distillation where a criterion that the completion failed makes a difference to the teacher."""

from collections.abc import Sequence
from dataclasses import replace

from jaxtyping import Float, Int
from torch import Tensor

from rcsd import config
from rcsd.data.prompts import TeacherPrompts
from rcsd.errors import DataError
from rcsd.graders.base import Judge, rubric_of
from rcsd.methods.distill import Distill, Targets
from rcsd.methods.on_policy import Known, Watch
from rcsd.models.logits import Predictions
from rcsd.types import Example, Rollout, Rubric, Signal


class Criterion:
    """The divergence at those tokens alone that the failed criteria are about.

    ``L = 1/T sum_t m_t D(p_t || q_t)``, with m_t = 1 where
    ``|log p(y_t | x, r, y_<t) - log p(y_t | x, r without the failed criteria, y_<t)| > min_nats``
    and 0 elsewhere, at the temperature of sampling. What a teacher moves for any other reason, such
    as its style when it is shown a rubric at all, is left out: the difference of two teachers that
    both see a rubric cancels it. After CriPO (arXiv 2607.18082), which weighs criteria by what the
    completions met, and VG-OPD, which keeps the tokens where the privileged context speaks.

    What differs from them, and what we chose:

    1. CriPO reinforces; this distils. Which criteria are failed comes from a judge, here checks in
       code.
    2. All failed criteria of a completion are taken away at once: one more pass of the teacher, not
       one for each criterion.
    3. A criterion with negative points is failed where it is met; one without a verdict is not
       failed, and counted.
    4. The mean is over all tokens of the step, chosen or not. A completion that failed nothing
       teaches nothing.
    5. Where every criterion with positive points was failed, the teacher without them sees no
       rubric.

    Args:
        section: The threshold.
        distill: The divergence.
        judge: Says which criteria were met.
        prompts: Of teachers who see less.
    """

    name = "criterion"
    has_teacher = True

    def __init__(
        self,
        section: config.Criterion,
        distill: Distill,
        judge: Judge,
        prompts: TeacherPrompts,
    ) -> None:
        self.section, self.distill = section, distill
        self.keeps_targets = distill.keeps_targets
        self.judge, self.prompts = judge, prompts

    def known(self, rollouts: Sequence[Rollout]) -> Known:
        """Which tokens a failed criterion moves."""
        student = self.distill.student
        judged = self.judge.judgements([(r.example, r.completion.text) for r in rollouts])
        verdicts = [judgement.verdicts for judgement in judged]
        passed = [
            _passed_alone(rollout.example, found)
            for rollout, found in zip(rollouts, verdicts, strict=True)
        ]
        without = [self.prompts.build(example) for example in passed]
        # Only where something failed: the same prompt scored twice differs by rounding.
        failed = [n for n, ids in enumerate(without) if ids != rollouts[n].teacher_ids]
        asked = [rollouts[n] for n in failed]
        with self.distill.teacher.weights():
            full = student.sampled_log_q(asked, [rollout.teacher_ids for rollout in asked])
            partial = student.sampled_log_q(asked, [without[n] for n in failed])
        masks = [(0.0,) * len(rollout.completion.token_ids) for rollout in rollouts]
        for n, with_them, without_them in zip(failed, full, partial, strict=True):
            pairs = zip(with_them, without_them, strict=True)
            masks[n] = tuple(float(abs(a - b) > self.section.min_nats) for a, b in pairs)
        signals = [Signal(distilled=mask) for mask in masks]
        chosen = [share for signal in signals for share in signal.distilled]
        given = [verdict for found in verdicts for verdict in found]
        return Known(
            signals,
            {
                "criterion/chosen_share": sum(chosen) / len(chosen),
                "criterion/nothing_failed_share": 1 - len(failed) / len(rollouts),
                "criterion/all_failed_share": sum(e.rubric is None for e in passed) / len(passed),
                "criterion/unscored_share": sum(v is None for v in given) / len(given),
            },
        )

    def targets(
        self, microbatch: Sequence[Rollout], signals: Sequence[Signal], watch: Watch
    ) -> Targets:
        """The distributions of the teacher who sees the whole rubric."""
        return self.distill.targets(microbatch, signals, watch)

    def terms(
        self,
        signals: Sequence[Signal],
        targets: Targets,
        predictions: Predictions,
        target_T: Int[Tensor, " T"],
        watch: Watch,
    ) -> tuple[Float[Tensor, " T"], dict[str, Float[Tensor, " T"]]]:
        """Divergences at the chosen tokens."""
        return self.distill.terms(signals, targets, predictions, target_T, watch)


def _passed_alone(example: Example, verdicts: Sequence[bool | None]) -> Example:
    """The example with those criteria alone that the completion did not fail."""
    kept = tuple(
        criterion
        for criterion, verdict in zip(rubric_of(example).criteria, verdicts, strict=True)
        if verdict is None or verdict == (criterion.weight > 0)
    )
    positive = any(criterion.weight > 0 for criterion in kept)
    return replace(example, rubric=Rubric(kept) if positive else None)


def refuse_undecidable(examples: Sequence[Example], judge: Judge) -> None:
    """Refuse data of which the judge can decide no criterion: nothing would ever be learned.

    Raises:
        DataError: If so, or if an example has no rubric.
    """
    judged = judge.judgements([(example, "") for example in examples])
    if all(verdict is None for judgement in judged for verdict in judgement.verdicts):
        raise DataError("no criterion has a check, so none is ever failed", field="rubric")
