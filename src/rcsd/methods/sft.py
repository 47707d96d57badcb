"""Supervised fine-tuning on solutions or gold rubrics, and on the model's own habits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from rcsd import config
from rcsd.data.prompts import PromptPair
from rcsd.data.rubric import rubric_json
from rcsd.data.views import target_ids
from rcsd.errors import DataError
from rcsd.methods.base import Batch, completion_metrics
from rcsd.methods.losses import token_mean
from rcsd.methods.rollouts import RolloutWorker
from rcsd.models.logits import target_log_q
from rcsd.models.teacher import Teacher
from rcsd.types import Completion, Example, Rollout


@dataclass(eq=False)
class Sft:
    """Negative log-likelihood of the examples' solutions: ``-1/N sum_t log q(y_t | x, y_<t)``.

    Where rubrics are written (stage 1) the gold rubric stands in the solution's place. The prompt
    of either is the teacher's view, which the builder sets to ``method.view``. A share of the
    examples is answered by the frozen weights (``teacher``) in the student's view instead, and
    learned as it is: so a warm start can teach a model to follow rubrics without changing what it
    does when there is none.
    """

    section: config.Sft
    views: config.Views
    worker: RolloutWorker
    teacher: Teacher

    def collect(self, prompts: Sequence[PromptPair], step: int) -> Batch:
        """Solutions, and the frozen weights' answers."""
        num_habits = round(self.section.habit_share * len(prompts))
        habits, taught = prompts[:num_habits], prompts[num_habits:]
        rollouts = [
            Rollout(p.example, p.teacher_ids, p.teacher_ids, self._solution(p)) for p in taught
        ]
        if habits:
            with self.teacher.weights():
                answers = replace(self.worker, num_completions=1).rollouts(habits, step)
            rollouts += [replace(rollout, teacher_ids=rollout.student_ids) for rollout in answers]
        metrics = completion_metrics(rollouts)
        return Batch(rollouts, metrics, packs=self.worker.policy.packs)

    def loss(
        self, microbatch: Sequence[Rollout], num_tokens: int
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Negative log-likelihood of the completions, in nats."""
        predictions, target_T = self.worker.predictions(
            [r.student_ids for r in microbatch], microbatch
        )
        loss = token_mean(-target_log_q(predictions, target_T, temperature=1.0), num_tokens)
        return loss, {"loss/nll_nats_mean": loss.detach()}

    def _solution(self, prompt: PromptPair) -> Completion:
        text = written_target(prompt.example, self.views.writes)
        policy = self.worker.policy
        ids = target_ids(policy.tokenizer, text, self.views.student_kwargs)
        ids += [] if ids[-1] in policy.end_ids else [policy.turn_end_id]
        return Completion(tuple(ids), text, finished=True)


def written_target(example: Example, writes: Literal["answer", "rubric"]) -> str:
    """The target text of an example: its solution, or its gold rubric in JSON.

    Raises DataError if it has none.
    """
    value = example.rubric if writes == "rubric" else example.solution
    if value is None:
        field = "rubric" if writes == "rubric" else "solution"
        raise DataError(f"example {example.id!r} has none, but sft learns it", field=field)
    return value if isinstance(value, str) else rubric_json(value)
