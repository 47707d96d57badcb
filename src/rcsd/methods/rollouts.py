"""The student's part of every method that learns from its samples: drawing and scoring them.

Axes: T completion tokens of all rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rcsd.data.prompts import PromptPair
from rcsd.distributed import Ranks
from rcsd.engines.base import PolicyEngine, sampling_seed
from rcsd.models.logits import Predictions, log_q_of
from rcsd.models.memory import Limit, in_lockstep, in_microbatches
from rcsd.models.packing import packed, padded, shortest, split_microbatches
from rcsd.models.policy import Policy, evaluating
from rcsd.types import Decoding, Rollout


@dataclass(frozen=True)
class Student:
    """Samples completions in the student's view, and scores tokens in either view.

    Args:
        policy: Tokens of padding and end.
        scorer: Predicts completion tokens, under the weights that the policy has at the moment.
        engine: Samples.
        decoding: How completions are drawn; its temperature is that of all probabilities here.
        num_completions: Completions of each example.
        max_tokens_per_microbatch: Budget of one forward pass; lowered where memory runs out.
        seed: Of the run.
        ranks: Processes that share the scoring.
    """

    policy: Policy
    scorer: nn.Module
    engine: PolicyEngine
    decoding: Decoding
    num_completions: int
    max_tokens_per_microbatch: Limit
    seed: int
    ranks: Ranks = Ranks()  # noqa: RUF009 (one process alone)

    @property
    def temperature(self) -> float:
        """Of sampling; 1 where it is greedy."""
        return self.decoding.temperature or 1.0

    def rollouts(self, prompts: Sequence[PromptPair], step: int) -> list[Rollout]:
        """Completions of all prompts; those of one prompt stand together.

        Args:
            prompts: One for each example.
            step: Counted from 0.
        """
        completions = self.engine.sample(*self.request(prompts, step))
        return [
            Rollout(prompt.example, prompt.student_ids, prompt.teacher_ids, completion)
            for prompt, completion in zip(self._asked(prompts), completions, strict=True)
        ]

    def request(
        self, prompts: Sequence[PromptPair], step: int
    ) -> tuple[list[tuple[int, ...]], Decoding, int]:
        """What the engine is asked for in a step."""
        shown = [prompt.student_ids for prompt in self._asked(prompts)]
        return shown, self.decoding, sampling_seed(self.seed, step)

    def _asked(self, prompts: Sequence[PromptPair]) -> list[PromptPair]:
        return [prompt for prompt in prompts for _ in range(self.num_completions)]

    def predictions(
        self, prompts: Sequence[Sequence[int]], microbatch: Sequence[Rollout]
    ) -> tuple[Predictions, Int[Tensor, " T"]]:
        """What is predicted at each completion position after these prompts, and what came."""
        completions = [rollout.completion.token_ids for rollout in microbatch]
        policy = self.policy
        if policy.packs:
            rows = packed(prompts, completions, policy.device)
        else:
            rows = padded(prompts, completions, policy.pad_id, policy.device)
        return self.scorer(rows), rows.target_T

    def sampled_log_q(
        self,
        rollouts: Sequence[Rollout],
        prompts: Sequence[Sequence[int]] | None = None,
    ) -> list[tuple[float, ...]]:
        """Log-probabilities of the sampled tokens of each completion, in nats, without gradient.

        Under the policy's present weights, so inside ``teacher.weights()`` under the teacher's.

        Args:
            rollouts: The completions.
            prompts: After which prompt each is scored; None takes the student's.
        """
        shown = {id(r): r.student_ids for r in rollouts}
        if prompts is not None:
            shown = {id(r): tuple(ids) for r, ids in zip(rollouts, prompts, strict=True)}

        def score(microbatch: list[Rollout]) -> dict[int, tuple[float, ...]]:
            self.ranks.interrupts.check()
            with evaluating(self.scorer):
                predictions, target_T = self.predictions(
                    [shown[id(r)] for r in microbatch], microbatch
                )
                log_q_T = log_q_of(predictions, target_T, self.temperature)
            rows = log_q_T.split([len(rollout.completion.token_ids) for rollout in microbatch])
            return {id(r): tuple(row.tolist()) for r, row in zip(microbatch, rows, strict=True)}

        own = rollouts[self.ranks.share(len(rollouts))]

        def score_own() -> list[tuple[float, ...]]:
            split = partial(split_microbatches, own, packs=self.policy.packs)
            if self.ranks.lockstep and rollouts:
                limit, filler = self.max_tokens_per_microbatch.value, shortest(rollouts)
                scored = in_lockstep(
                    split(limit), filler, self.ranks, lambda microbatch, _: score(microbatch)
                )
            else:
                scored = in_microbatches(split, self.max_tokens_per_microbatch, score)
            found = {key: row for microbatch in scored for key, row in microbatch.items()}
            return [found[id(rollout)] for rollout in own]

        shares = self.ranks.all_gather_results(score_own, has_collectives=self.ranks.lockstep)
        return [row for share in shares for row in share]

    def per_token(self, values: Sequence[Sequence[float]]) -> Float[Tensor, " T"]:
        """Values of the tokens of each completion, one after the other, as rows have them."""
        flat = [value for row in values for value in row]
        return torch.tensor(flat, dtype=torch.float32, device=self.policy.device)
