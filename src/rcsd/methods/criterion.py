"""Distillation where a criterion that the completion failed makes a difference to the teacher."""

from collections.abc import Sequence
from dataclasses import replace

from rcsd import config
from rcsd.data.prompts import teacher_prompt
from rcsd.data.thinking import without_thinking
from rcsd.data.views import PromptTemplates
from rcsd.errors import DataError
from rcsd.graders.base import Judge, require_rubric
from rcsd.methods.distill import Distill, TeacherTargets
from rcsd.methods.on_policy import BatchSignals, LossTerms, MonitorPositions, StudentForward
from rcsd.types import Example, Rollout, Rubric


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
    5. ``sampled_token`` is refused: which tokens are chosen depends on what was sampled.
    6. Where every criterion with positive points was failed, the teacher without them sees no
       rubric.
    """

    has_teacher = True

    def __init__(
        self, section: config.Criterion, distill: Distill, judge: Judge, views: config.Views
    ) -> None:
        self.section, self.distill, self.judge, self.views = section, distill, judge, views
        self.reuses_targets = distill.reuses_targets
        self._templates = PromptTemplates(views.templates)

    def batch_signals(self, rollouts: Sequence[Rollout]) -> BatchSignals:
        """A mask for each rollout: 1 at tokens that a failed criterion moves, 0 elsewhere."""
        answers = [(r.example, without_thinking(r.completion.text)) for r in rollouts]
        judged = self.judge.judgements(answers)
        passed = [
            _without_failed(rollout.example, judgement.verdicts)
            for rollout, judgement in zip(rollouts, judged, strict=True)
        ]
        tokenizer = self.distill.worker.policy.tokenizer
        prompts = [
            teacher_prompt(example, self.views, self._templates, tokenizer) for example in passed
        ]

        # Nats by which the failed criteria move each token, in two passes of the teacher. Only
        # where something failed: the same prompt scored twice differs by rounding.
        failed = [n for n, ids in enumerate(prompts) if ids != rollouts[n].teacher_ids]
        rows, worker = [rollouts[n] for n in failed], self.distill.worker
        with self.distill.teacher.weights():
            full = worker.sampled_log_q(rows, [rollout.teacher_ids for rollout in rows])
            partial = worker.sampled_log_q(rows, [prompts[n] for n in failed])
        masks = [(0.0,) * len(rollout.completion.token_ids) for rollout in rollouts]
        for n, with_all, with_passed in zip(failed, full, partial, strict=True):
            pairs = zip(with_all, with_passed, strict=True)
            masks[n] = tuple(float(abs(a - b) > self.section.min_nats) for a, b in pairs)

        tokens = [value for mask in masks for value in mask]
        verdicts = [verdict for judgement in judged for verdict in judgement.verdicts]
        metrics = {
            "criterion/chosen_share": sum(tokens) / len(tokens),
            "criterion/nothing_failed_share": 1 - len(failed) / len(rollouts),
            "criterion/all_failed_share": sum(e.rubric is None for e in passed) / len(passed),
            "criterion/unscored_share": sum(v is None for v in verdicts) / len(verdicts),
        }
        return BatchSignals(masks, metrics)

    def targets(self, microbatch: Sequence[Rollout], positions: MonitorPositions) -> TeacherTargets:
        """The distributions of the teacher who sees the whole rubric."""
        return self.distill.targets(microbatch, positions)

    def terms(
        self,
        signals: Sequence[tuple[float, ...]],
        targets: TeacherTargets,
        forward: StudentForward,
    ) -> LossTerms:
        """Divergences at the chosen tokens."""
        divergence_T, metrics = self.distill.terms([None] * len(signals), targets, forward)
        return divergence_T * self.distill.worker.per_token(signals), metrics


def _without_failed(example: Example, verdicts: Sequence[bool | None]) -> Example:
    """The example with those criteria alone that the completion did not fail."""
    passed = tuple(
        criterion
        for criterion, verdict in zip(require_rubric(example).criteria, verdicts, strict=True)
        if verdict is None or verdict == (criterion.weight > 0)
    )
    has_positive = any(criterion.weight > 0 for criterion in passed)
    return replace(example, rubric=Rubric(passed) if has_positive else None)


def refuse_undecidable(examples: Sequence[Example], judge: Judge) -> None:
    """Refuse data without a criterion that the judge can decide: nothing would ever be learned.

    Raises DataError if so, or if an example has no rubric.
    """
    judged = judge.judgements([(example, "") for example in examples])
    if all(verdict is None for judgement in judged for verdict in judgement.verdicts):
        raise DataError("no criterion has a check, so none is ever failed", field="rubric")
