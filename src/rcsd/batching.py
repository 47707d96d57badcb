"""Rollouts become padded tensors. The only file that pads, shifts or masks.

Axes: B sequences, L tokens of a padded row, T completion tokens of all rows, one after the other.
Masks come from lengths, never from a token's id: a pad token that is also the end token is learned
like any other.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from rcsd.types import Rollout


@dataclass(frozen=True)
class Scored:
    """Prompts with completions, padded on the right, and where the completions stand.

    Args:
        ids_BL: Token ids.
        mask_BL: 1 on tokens, 0 on padding.
        row_T: The row of each completion token.
        before_T: The position before it, whose logits predict it.
        target_T: The token itself.
    """

    ids_BL: Int[Tensor, "B L"]
    mask_BL: Int[Tensor, "B L"]
    row_T: Int[Tensor, " T"]
    before_T: Int[Tensor, " T"]
    target_T: Int[Tensor, " T"]


def scored(
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    pad_id: int,
    device: torch.device | str = "cpu",
) -> Scored:
    """Prompts followed by their completions, padded on the right to the longest.

    Args:
        prompts: Token ids, none of them empty: the first completion token needs a predecessor.
        completions: Token ids, one sequence for each prompt.
        pad_id: Fills the padding; its value has no influence.
        device: Where the tensors go.
    """
    rows = [[*p, *c] for p, c in zip(prompts, completions, strict=True)]
    starts = [len(prompt) for prompt in prompts]
    ids_BL, mask_BL = right_padded(rows, pad_id, device)
    row_T = [row for row, c in enumerate(completions) for _ in c]
    before_T = [
        start - 1 + offset
        for start, c in zip(starts, completions, strict=True)
        for offset in range(len(c))
    ]
    return Scored(
        ids_BL,
        mask_BL,
        torch.tensor(row_T, dtype=torch.long, device=device),
        torch.tensor(before_T, dtype=torch.long, device=device),
        torch.tensor([t for c in completions for t in c], dtype=torch.long, device=device),
    )


def right_padded(
    rows: Sequence[Sequence[int]], pad_id: int, device: torch.device | str = "cpu"
) -> tuple[Int[Tensor, "B L"], Int[Tensor, "B L"]]:
    """Rows padded on the right, for scoring, and the mask of their tokens."""
    longest = max(map(len, rows))
    ids = [[*row, *[pad_id] * (longest - len(row))] for row in rows]
    mask = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def left_padded(
    rows: Sequence[Sequence[int]], pad_id: int, device: torch.device | str = "cpu"
) -> tuple[Int[Tensor, "B L"], Int[Tensor, "B L"]]:
    """Rows padded on the left, for generation, and the mask of their tokens."""
    longest = max(map(len, rows))
    ids = [[*[pad_id] * (longest - len(row)), *row] for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def parts(rollouts: Iterable[Rollout], tokens_per_part: int) -> list[list[Rollout]]:
    """Rollouts of like length together, each part within a budget of padded tokens.

    The budget counts the teacher's and the student's rows, padding included. A rollout that is
    larger by itself makes a part of its own: nothing is dropped. The partition changes memory and
    speed, never the gradient.
    """
    divided: list[list[Rollout]] = []
    for rollout in sorted(rollouts, key=lambda rollout: sum(_row_lengths(rollout))):
        if divided and padded_tokens([*divided[-1], rollout]) <= tokens_per_part:
            divided[-1].append(rollout)
        else:
            divided.append([rollout])
    return divided


def padded_tokens(part: Sequence[Rollout]) -> int:
    """Tokens of a part as `parts` counts them."""
    students, teachers = zip(*map(_row_lengths, part), strict=True)
    return len(part) * (max(students) + max(teachers))


def _row_lengths(rollout: Rollout) -> tuple[int, int]:
    num_completion = len(rollout.completion.token_ids)
    return len(rollout.student_ids) + num_completion, len(rollout.teacher_ids) + num_completion


def through_end(
    generated_BL: Int[Tensor, "B L"], end_ids: Sequence[int]
) -> list[tuple[tuple[int, ...], bool]]:
    """Each row up to its first end token, included, and whether it has one."""
    is_end_BL: Bool[Tensor, "B L"] = torch.isin(
        generated_BL, torch.tensor(list(end_ids), device=generated_BL.device)
    )
    rows = []
    for ids, is_end in zip(generated_BL.tolist(), is_end_BL.tolist(), strict=True):
        finished = True in is_end
        rows.append((tuple(ids[: is_end.index(True) + 1] if finished else ids), finished))
    return rows
