"""What is measured, as the rules of `rcsd.recipes.probe.advice` see it. No tensors here."""

from collections.abc import Sequence
from dataclasses import dataclass

from rcsd.recipes.probe.gains import Headroom, Sensitivity
from rcsd.recipes.probe.leakage import Leakage
from rcsd.recipes.probe.ranking import Ranking


@dataclass(frozen=True)
class TopKMass:
    """Mean mass on the teacher's k likeliest tokens, over the student's sampled positions.

    Args:
        k: Size of the support.
        teacher_mass: Of p, in (0, 1]: what a loss on this support sees of the teacher.
        student_mass: Of q, in [0, 1]: low where the teacher wants what the student hardly samples.
    """

    k: int
    teacher_mass: float
    student_mass: float


@dataclass(frozen=True)
class ClipEffect:
    """One clip beside none, on the same batch.

    Args:
        clip: Its type.
        max_nats: Its limit.
        configured: Whether it is the run's.
        touched_share: Share of positions of which it changes the loss.
        cosine: Between the gradients with and without it, over all trained parameters, in [-1, 1];
            None where one of them is 0.
        norm_ratio: Norm of the gradient with it over that without it; None where that is 0.
    """

    clip: str
    max_nats: float
    configured: bool
    touched_share: float
    cosine: float | None
    norm_ratio: float | None


@dataclass(frozen=True)
class Measured:
    """What the rules look at.

    Args:
        headroom: Of all contexts.
        sensitivities: To what rubrics say; empty where the teacher's view shows none.
        rankings: The teacher's first; empty where nothing can be graded.
        top_k_mass: For several k.
        configured_k: The loss's; None where it takes the whole vocabulary or no support.
        clips: On the loss's gradient.
        leakage: Of the rubrics.
    """

    headroom: Headroom
    sensitivities: Sequence[Sensitivity]
    rankings: Sequence[Ranking]
    top_k_mass: Sequence[TopKMass]
    configured_k: int | None
    clips: Sequence[ClipEffect]
    leakage: Leakage
