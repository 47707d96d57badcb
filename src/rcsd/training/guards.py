"""What is not a number ends a run before anything of it is saved."""

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


def collected(method: Method, prompts: Sequence[PromptPair], step: int, folder: RunFolder) -> Batch:
    """What a step learns from.

    Raises:
        RunError: If the policy's probabilities are not numbers.
    """
    try:
        return method.collect(prompts, step)
    except FloatingPointError as error:
        raise _blown_up(str(error), [p.example for p in prompts], step, folder) from error


def refuse_nan(metrics: Mapping[str, float], step: int, batch: Batch, folder: RunFolder) -> None:
    """Refuse a step of which something cannot be written down.

    Raises:
        RunError: Naming the metrics and the examples.
    """
    bad = sorted(name for name, value in metrics.items() if not math.isfinite(value))
    if bad:
        what = f"{', '.join(bad)} is not a number"
        raise _blown_up(what, [r.example for r in batch.rollouts], step, folder)


def refuse_blown_up_weights(policy: Policy, step: int, batch: Batch, folder: RunFolder) -> None:
    """A checkpoint of weights that are not numbers must not push out a good one.

    Raises:
        RunError: Naming a weight and the examples.
    """
    bad = _bad_weights(policy)
    if bad:
        what = f"{bad[0]} and {len(bad) - 1} other weights are not numbers"
        raise _blown_up(what, [r.example for r in batch.rollouts], step, folder)


def are_finite(policy: Policy) -> bool:
    """Whether all trained weights are numbers."""
    return not _bad_weights(policy)


def _bad_weights(policy: Policy) -> list[str]:
    return [name for name, p in policy.trainable.items() if not torch.isfinite(local(p)).all()]


def _blown_up(what: str, batch: Sequence[Example], step: int, folder: RunFolder) -> RunError:
    kept = folder.checkpoints()
    last = f"the last checkpoint is {kept[-1]}" if kept else "there is no checkpoint yet"
    ids = ", ".join(dict.fromkeys(example.id for example in batch))
    return RunError(
        f"step {step + 1}: {what}; nothing was saved of it, and {last}. The batch: {ids}. "
        "A smaller optim.lr or a method.clip may help"
    )
