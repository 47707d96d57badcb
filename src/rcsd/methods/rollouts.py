"""Sampling completions in the student's view, and scoring tokens in either view.

Axes: T completion tokens of all rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rcsd.data.prompts import PromptPair
from rcsd.distributed import Ranks
from rcsd.engines.base import PolicyEngine, sampling_seed
from rcsd.models.logits import Predictions, target_log_q
from rcsd.models.memory import AdaptiveLimit, in_lockstep, in_microbatches
from rcsd.models.packing import packed, padded, shortest, split_microbatches
from rcsd.models.policy import Policy
from rcsd.models.scorer import evaluating
from rcsd.types import Decoding, Rollout


@dataclass(frozen=True)
class RolloutWorker:
    """Samples completions in the student's view, and scores tokens in either view.

    Args:
        scorer: Predicts completion tokens, under the present weights of the policy.
        decoding: Sampling parameters; all probabilities here are at its temperature.
        num_completions: Completions of each example.
        max_tokens_per_microbatch: Budget of one forward pass; lowered where memory runs out.
    """

    policy: Policy
    scorer: nn.Module
    engine: PolicyEngine
    decoding: Decoding
    num_completions: int
    max_tokens_per_microbatch: AdaptiveLimit
    seed: int
    ranks: Ranks = Ranks()  # noqa: RUF009 (one process alone)

    @property
    def temperature(self) -> float:
        """Sampling temperature; 1 where decoding is greedy."""
        return self.decoding.temperature or 1.0

    def rollouts(self, prompts: Sequence[PromptPair], step: int) -> list[Rollout]:
        """Sample completions of all prompts; those of one prompt stand together."""
        completions = self.engine.sample(*self.sampling_request(prompts, step))
        starts = list(accumulate((len(c.token_ids) for c in completions), initial=0))
        rows = zip(self._repeated(prompts), completions, strict=True)
        return [
            Rollout(pair.example, pair.student_ids, pair.teacher_ids, completion, n, starts[n])
            for n, (pair, completion) in enumerate(rows)
        ]

    def sampling_request(
        self, prompts: Sequence[PromptPair], step: int
    ) -> tuple[list[tuple[int, ...]], Decoding, int]:
        """Arguments of the engine's `sample` in a step."""
        student_prompts = [pair.student_ids for pair in self._repeated(prompts)]
        return student_prompts, self.decoding, sampling_seed(self.seed, step)

    def _repeated(self, prompts: Sequence[PromptPair]) -> list[PromptPair]:
        return [pair for pair in prompts for _ in range(self.num_completions)]

    def predictions(
        self, prompts: Sequence[Sequence[int]], microbatch: Sequence[Rollout]
    ) -> tuple[Predictions, Int[Tensor, " T"]]:
        """Predictions at each completion position, and the sampled token there."""
        completions, policy = [r.completion.token_ids for r in microbatch], self.policy
        if policy.packs:
            rows = packed(prompts, completions, policy.device)
        else:
            rows = padded(prompts, completions, policy.pad_id, policy.device)
        return self.scorer(rows), rows.target_T

    def sampled_log_q(
        self, rollouts: Sequence[Rollout], prompts: Sequence[Sequence[int]] | None = None
    ) -> list[tuple[float, ...]]:
        """Log-probabilities of the sampled tokens of each completion, in nats, without gradient.

        Under the policy's present weights, so inside ``teacher.weights()`` under the teacher's.
        Each rank scores its share; all ranks get all. Prompts are the student's unless given.
        """
        if prompts is None:
            prompts = [rollout.student_ids for rollout in rollouts]
        rows = [replace(rollout, index=n) for n, rollout in enumerate(rollouts)]
        local_rollouts = rows[self.ranks.share(len(rows))]

        def score(microbatch: list[Rollout], _: bool = True) -> dict[int, tuple[float, ...]]:
            self.ranks.interrupts.check()
            with evaluating(self.scorer):
                shared = [prompts[rollout.index] for rollout in microbatch]
                predictions, target_T = self.predictions(shared, microbatch)
                log_q_T = target_log_q(predictions, target_T, self.temperature)
            values = log_q_T.split([len(rollout.completion.token_ids) for rollout in microbatch])
            return {r.index: tuple(v.tolist()) for r, v in zip(microbatch, values, strict=True)}

        def score_share() -> list[tuple[float, ...]]:
            split = partial(split_microbatches, local_rollouts, packs=self.policy.packs)
            if self.ranks.lockstep and rows:
                microbatches = split(self.max_tokens_per_microbatch.value)
                scored = in_lockstep(microbatches, shortest(rows), self.ranks, score)
            else:
                scored = in_microbatches(split, self.max_tokens_per_microbatch, score)
            by_index = {index: row for microbatch in scored for index, row in microbatch.items()}
            return [by_index[rollout.index] for rollout in local_rollouts]

        shares = self.ranks.all_gather_results(score_share, has_collectives=self.ranks.lockstep)
        return [row for share in shares for row in share]

    def per_token(self, values: Sequence[Sequence[float]]) -> Float[Tensor, " T"]:
        """Concatenate the values of each completion's tokens, in the order of the rows."""
        flat = [value for row in values for value in row]
        return torch.tensor(flat, dtype=torch.float32, device=self.policy.device)
