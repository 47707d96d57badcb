"""What clips do to the gradient of the run's own loss."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from rcsd import config
from rcsd.data.prompts import PromptPair
from rcsd.methods.base import Batch, Method
from rcsd.methods.distill import Distill
from rcsd.methods.on_policy import OnPolicy
from rcsd.methods.rollouts import Student
from rcsd.recipes.probe.gaps import Pair
from rcsd.recipes.probe.results import ClipEffect
from rcsd.types import Decoding

Clip = config.NoClip | config.TokenClip | config.EntryClip


def clip_effects(
    section: config.Distill,
    pair: Pair,
    prompts: Sequence[PromptPair],
    decoding: Decoding,
    num_completions: int,
    seed: int,
) -> tuple[ClipEffect, ...]:
    """Effects of both clips at their defaults, and of the configured one, on one batch.

    Weights stay as they are, and no gradient is left behind.

    Args:
        section: The loss. The divergence ``sampled_token`` takes no clip: then there is no effect.
        pair: Teacher and student.
        prompts: Of the batch, as many as a step takes.
        decoding: How the student samples it.
        num_completions: Of each prompt.
        seed: Of the run; draws the batch, and the same dropout for each clip.
    """
    if section.divergence.type == "sampled_token":
        return ()

    def method(clip: Clip) -> Method:
        return _distill_with(clip, section, pair, decoding, num_completions, seed)

    batch = method(config.NoClip()).collect(prompts, step=0)
    unclipped, _ = _gradient(method(config.NoClip()), batch, pair, seed)
    clips = [config.TokenClip(), config.EntryClip()]
    if section.clip not in clips and not isinstance(section.clip, config.NoClip):
        clips.append(section.clip)
    effects = []
    for clip in clips:
        clipped, metrics = _gradient(method(clip), batch, pair, seed)
        share, (cosine, ratio) = metrics["loss/clipped_share"], _compared(clipped, unclipped)
        effects.append(
            ClipEffect(clip.type, clip.max_nats, clip == section.clip, share, cosine, ratio)
        )
    return tuple(effects)


def _distill_with(
    clip: Clip,
    section: config.Distill,
    pair: Pair,
    decoding: Decoding,
    num_completions: int,
    seed: int,
) -> Method:
    """The run's method with another clip: the one place that makes it."""
    student = Student(
        pair.policy,
        pair.scorer,
        pair.engine,
        decoding,
        num_completions,
        pair.max_tokens_per_microbatch,
        seed,
    )
    section = section.model_copy(update={"clip": clip, "preset": None})
    return OnPolicy(student, [(1.0, Distill(section, student, pair.teacher))])


def _gradient(
    method: Method, batch: Batch, pair: Pair, seed: int
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Gradient of the loss of a whole batch by parameter, and the loss's metrics."""
    trained = pair.policy.trainable
    devices = [pair.policy.device] if pair.policy.device.type == "cuda" else []
    metrics: dict[str, float] = {}
    try:
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            for part in batch.split(pair.max_tokens_per_microbatch.value):
                loss, shares = method.loss(part, batch.num_learned_tokens)
                loss.backward()
                for name, share in shares.items():
                    metrics[name] = metrics.get(name, 0.0) + float(share)
        return {n: p.grad for n, p in trained.items() if p.grad is not None}, metrics
    finally:
        for parameter in trained.values():
            parameter.grad = None


def _compared(
    one: Mapping[str, Tensor], other: Mapping[str, Tensor]
) -> tuple[float | None, float | None]:
    """Cosine of two gradients, and the ratio of their norms."""
    norms = [_dot(gradient, gradient) ** 0.5 for gradient in (one, other)]
    if norms[1] == 0:
        return None, None
    if norms[0] == 0:
        return None, 0.0
    cosine = _dot(one, other) / (norms[0] * norms[1])
    return max(-1.0, min(1.0, cosine)), norms[0] / norms[1]  # rounding may lead beyond 1


def _dot(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    return sum(float((one[n].double() * other[n].double()).sum()) for n in one if n in other)
