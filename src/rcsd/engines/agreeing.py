"""Whether an engine computes what the trainer computes, tried on a few tokens."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from rcsd.errors import RunError
from rcsd.models.logits import log_q_of
from rcsd.models.packing import padded
from rcsd.models.policy import Policy, Scorer, evaluating
from rcsd.types import Decoding

TRIED = "Is 12.5 K more than 7? Explain: café, Größe, 北京.\n"
"""A text that tokenizers take apart in different ways."""

TRIED_GREEDILY, TRIED_WARM = Decoding(max_tokens=8), Decoding(max_tokens=8, temperature=2.0)
"""The likeliest tokens; and others at a temperature far from 1, which tells what it is told at."""


def own_log_q(
    policy: Policy,
    prompt: Sequence[int],
    token_ids: Sequence[int],
    temperature: float,
    precision: Callable[[], AbstractContextManager[object]],
) -> list[float]:
    """What the trainer says of tokens after a prompt, by the policy's present weights, in nats."""
    rows = padded([prompt], [token_ids], policy.pad_id, policy.device)
    with precision(), evaluating(policy.model):
        return log_q_of(Scorer(policy)(rows), rows.target_T, temperature).tolist()


def mean_gap(engines: Sequence[float], own: Sequence[float]) -> float:
    """Mean absolute difference, in nats."""
    return sum(abs(a - b) for a, b in zip(engines, own, strict=True)) / len(own)


def refuse_gap(gap: float, bound: float, what: str) -> None:
    """Refuse an engine that computes something else.

    Raises:
        RunError: If the gap is above the bound, or no number.
    """
    if not gap <= bound:
        raise RunError(
            f"{what}: what engine and trainer say of a few tokens differs by {gap:.3g} nats a "
            f"token, and engine.max_gap_nats allows {bound:.3g}; it has other weights, another "
            "tokenizer or another precision than model.path"
        )
