"""What a method does with the whole vocabulary: products with the head, and logits held at once."""

from dataclasses import dataclass

from rcsd import config
from rcsd.config import distillations, objectives


@dataclass(frozen=True)
class Heads:
    """How often the whole vocabulary is looked at, as counts of products and of chunks.

    Args:
        teacher: Products with the head at each position of the teacher, forward.
        student: The same for the student, forward and backward.
        copies: Chunks of logits that the costliest loss or look holds at once, in float32; counted
            with `rcsd.models.memory.peak_bytes`, which the tests repeat.
        is_whole: Whether that loss goes over all positions; else over the watched ones alone.
    """

    teacher: float
    student: float
    copies: float
    is_whole: bool


WATCHING_COPIES = 3.0
"""Chunks of logits that the monitors hold at once."""
_FULL_COPIES = {"forward_kl": 11.5, "reverse_kl": 12.5, "jsd": 15.75}
_PARTIAL_COPIES = {"student_top_k": 4.0, "teacher_top_k": 7.0}
_SAMPLED_COPIES = 4.0


def heads_of(method: config.PhaseMethod | config.Sft, is_full: bool) -> Heads:
    """What an objective does with its head; of several the sum, and the most copies.

    A loss over the vocabulary takes a product forward and one backward where the head is frozen
    (`rcsd.models.logits`); where it is trained, one more forward and one for the head's gradient.

    Args:
        method: The objective.
        is_full: Whether the head is trained.
    """
    found = [_head_of(leaf, is_full) for leaf in objectives(method)]
    found += [_head_of(d, is_full) for d in distillations(method) if d not in objectives(method)]
    return Heads(
        teacher=sum(head.teacher for head in found),
        student=sum(head.student for head in found),
        copies=max(head.copies for head in found),
        is_whole=any(head.is_whole for head in found),
    )


def _head_of(method: object, is_full: bool) -> Heads:
    whole = 4.0 if is_full else 2.0
    if not isinstance(method, config.Distill):
        has_loss = isinstance(method, config.Grpo | config.Sft | config.Suppress)
        return Heads(0, whole if has_loss else 0, _SAMPLED_COPIES, has_loss)
    support = method.support
    if method.divergence.type == "sampled_token":
        return Heads(1, whole, _SAMPLED_COPIES, is_whole=True)
    if support.type == "teacher_top_k" and support.outside == "renormalise":
        return Heads(1, 0, WATCHING_COPIES, is_whole=False)
    if support.type == "full":
        return Heads(2 if is_full else 1, whole, _FULL_COPIES[method.divergence.type], True)
    copies = _PARTIAL_COPIES[support.type]
    if support.type == "student_top_k" and support.outside == "tail":
        copies = _PARTIAL_COPIES["teacher_top_k"]
    return Heads(2 if is_full else 1, whole, copies, is_whole=True)
