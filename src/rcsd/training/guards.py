"""Abort on NaN or infinity before a checkpoint is written."""

import math
from collections.abc import Mapping, Sequence

import torch

from rcsd.data.prompts import PromptPair
from rcsd.distributed import local
from rcsd.errors import RunError
from rcsd.methods.base import Batch, Method
from rcsd.models.policy import Policy
from rcsd.runs import RunFolder
from rcsd.types import Example


def collect(method: Method, prompts: Sequence[PromptPair], step: int, folder: RunFolder) -> Batch:
    """Run the method's `collect`.

    Raises:
        RunError: If the policy's probabilities are not numbers.
    """
    try:
        return method.collect(prompts, step)
    except FloatingPointError as error:
        raise _error(str(error), [p.example for p in prompts], step, folder) from error


def abort_on_nan(metrics: Mapping[str, float], step: int, batch: Batch, folder: RunFolder) -> None:
    """Abort on metrics that are not finite.

    Raises:
        RunError: Naming the metrics and the examples.
    """
    bad = sorted(name for name, value in metrics.items() if not math.isfinite(value))
    if bad:
        what = f"{', '.join(bad)} is not a number"
        raise _error(what, [r.example for r in batch.rollouts], step, folder)


def abort_on_nan_weights(policy: Policy, step: int, batch: Batch, folder: RunFolder) -> None:
    """Abort on weights that are not finite, whose checkpoint would push out a good one.

    Raises:
        RunError: Naming a weight and the examples.
    """
    bad = _bad_weights(policy)
    if bad:
        what = f"{bad[0]} and {len(bad) - 1} other weights are not numbers"
        raise _error(what, [r.example for r in batch.rollouts], step, folder)


def are_finite(policy: Policy) -> bool:
    """True if all trained weights are finite."""
    return not _bad_weights(policy)


def _bad_weights(policy: Policy) -> list[str]:
    return [name for name, p in policy.trainable.items() if not torch.isfinite(local(p)).all()]


def _error(what: str, batch: Sequence[Example], step: int, folder: RunFolder) -> RunError:
    checkpoints = folder.checkpoints()
    last = f"the last checkpoint is {checkpoints[-1]}" if checkpoints else "there is no checkpoint"
    ids = ", ".join(dict.fromkeys(example.id for example in batch))
    return RunError(
        f"step {step + 1}: {what}; nothing was saved of it, and {last}. The batch: {ids}. "
        "A smaller optim.lr or a method.clip may help"
    )
