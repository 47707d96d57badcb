"""``max_tokens_per_microbatch: auto``: the largest that fits, measured before the first step."""

import os
import random
from collections.abc import Sequence
from dataclasses import replace

import torch

from rcsd import config
from rcsd.data.prompts import PromptPair
from rcsd.distributed import Ranks
from rcsd.methods.base import Method
from rcsd.methods.build import MethodParts, build_methods
from rcsd.models.memory import free_bytes, in_microbatches, microbatch_limit, peak_bytes
from rcsd.models.packing import microbatch_tokens
from rcsd.models.policy import Policy
from rcsd.runs import RunFolder
from rcsd.types import Completion, Rollout

USED_SHARE = {"cuda": 0.85, "cpu": 0.6}
"""Share of the free memory that is used, by device; the allocator wastes some of the rest. On CPUs
glibc held up to 1.47 times the bytes of the tensors (SmolLM2-135M with LoRA; 1.14 with full
fine-tuning)."""
COMING_COPIES = 3
"""Copies of the trained weights that the first update makes: gradients, AdamW's two moments."""


def resolve_max_tokens(
    settings: config.Config, folder: RunFolder, prompts: Sequence[PromptPair], parts: MethodParts
) -> None:
    """Set the limit of ``auto``: measured, the least over all ranks; on resume the record's."""
    if settings.max_tokens_per_microbatch != "auto":
        return
    ranks, device = parts.ranks, parts.policy.device
    limit = ranks.on_main(folder.max_tokens_per_microbatch)
    if limit is None:
        free = free_bytes(device)
        if device.type == "cpu":  # all processes share a machine's memory
            free /= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        limit = min(
            ranks.all_gather_results(lambda: largest_microbatch(settings, prompts, parts, free))
        )
    parts.max_tokens_per_microbatch.value = limit


def largest_microbatch(
    settings: config.Config, prompts: Sequence[PromptPair], parts: MethodParts, free_bytes: float
) -> int:
    """Tokens of the largest micro-batch whose forward and backward pass fit into memory.

    ``tokens = (share free - fixed) / b``, with b the bytes that each token costs at the peak of
    forward and backward pass: activations are linear in tokens. All methods of a schedule pass
    over the run's two shortest prompts and its longest, each with a completion as long as any may
    be. Two sizes of one kind tell what is fixed; b is the larger of both kinds, since a short
    prompt has the larger share of completion tokens, which cost logits, and attention masks of a
    long one grow with its square. Where completions share a prompt, two of the shortest prompt's
    are passed over instead of one each of the shortest two: they cost the most for each token.
    Weights, gradients and random numbers are left as they were.

    ``free_bytes`` are for gradients, the optimizer's state and activations.

    Returns:
        At least 1, and no more than a whole step of longest completions has.

    Raises:
        RunError: If the longest completion alone does not fit.
    """
    from rcsd.engines.scripted import ScriptedEngine  # noqa: PLC0415 (for auto alone)

    # Methods whose completions are random tokens, as many as allowed.
    policy, num_tokens = parts.policy, settings.sampling.max_tokens
    ids = tuple(random.Random(0).choices(range(policy.vocab_size), k=num_tokens))
    engine = ScriptedEngine([Completion(ids, policy.tokenizer.decode(ids), finished=False)])
    limit = microbatch_limit(1)
    trial = replace(parts, engine=engine, max_tokens_per_microbatch=limit, ranks=Ranks())
    method_at = build_methods(settings, trial)
    methods = {id(method): method for method in map(method_at, range(settings.steps))}.values()

    trained = policy.trainable.values()
    share = USED_SHARE.get(policy.device.type, USED_SHARE["cpu"])
    for_activations = share * (free_bytes - COMING_COPIES * sum(p.nbytes for p in trained))
    devices = [policy.device] if policy.device.type == "cuda" else []
    try:
        for parameter in trained:
            parameter.grad = torch.zeros_like(parameter)  # so that no pass has to make them
        with torch.random.fork_rng(devices):
            rows = [_trial_rollouts(method, prompts) for method in methods]
            fitting = [
                _fitting_tokens(method, rollouts, policy, for_activations)
                for method, rollouts in zip(methods, rows, strict=True)
            ]
    finally:
        for parameter in trained:
            parameter.grad = None

    longest = max(microbatch_tokens([rollouts[-1]], policy.packs) for rollouts in rows)
    num_examples, num_completions = settings.examples_per_step, settings.completions_per_example
    per_step = [
        (phase.examples_per_step or num_examples)
        * (phase.completions_per_example or num_completions)
        for phase in settings.phases
    ]
    return min(*fitting, longest * max(per_step, default=num_examples))


def _trial_rollouts(method: Method, prompts: Sequence[PromptPair]) -> list[Rollout]:
    """Two completions, of the shortest prompt or the shortest two, and one of the longest."""
    ordered = sorted(prompts, key=lambda p: len(p.student_ids) + len(p.teacher_ids))
    chosen = {prompt.example.id: prompt for prompt in (*ordered[:2], ordered[-1])}
    batch = method.collect(list(chosen.values()), step=0)
    rows = sorted(batch.rollouts, key=lambda rollout: microbatch_tokens([rollout], batch.packs))
    return [*rows[:2], rows[-1]]


def _fitting_tokens(
    method: Method, rows: Sequence[Rollout], policy: Policy, for_activations: float
) -> int:
    """Tokens that fit, from the peak bytes of three passes."""

    def backward(microbatch: list[Rollout]) -> None:
        loss, _ = method.loss(microbatch, sum(len(r.completion.token_ids) for r in microbatch))
        loss.backward()

    def peak(microbatch: list[Rollout]) -> tuple[int, int]:
        def run() -> None:
            in_microbatches(lambda _: [microbatch], microbatch_limit(1), backward)

        return peak_bytes(run, policy.device), microbatch_tokens(microbatch, policy.packs)

    # The longest first: it shows whether all fit, and its pass makes what is made only once.
    longest, num_longest = peak([rows[-1]])
    if 2 * longest > for_activations:
        return num_longest
    pair = [rows[0], rows[min(1, len(rows) - 1)]]
    (one, num_one), (both, num_both) = peak(pair[:1]), peak(pair)
    per_token = (both - one) / (num_both - num_one)
    fixed = max(0.0, one - per_token * num_one)
    per_token = max(per_token, (longest - fixed) / num_longest)
    return int((for_activations - fixed) / per_token)
