"""Rollouts become rows of tokens. The only file that packs, pads, shifts or masks.

Axes: B sequences, L tokens of a row, T completion tokens of all rows, one after the other.
Masks come from lengths, never from a token's id: a pad token that is also the end token is learned
like any other.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rcsd.models.packed_attention import Branch, Layout
from rcsd.types import Rollout


@dataclass(frozen=True)
class Packed:
    """Prompts with completions in one row, each prompt once, and where the completions stand.

    A completion's last token predicts nothing, and is not among the ids.
    """

    ids_1L: Int[Tensor, "1 L"]
    position_1L: Int[Tensor, "1 L"]  # of each token in its own sequence
    before_T: Int[Tensor, " T"]  # place in the row whose logits predict each completion token
    target_T: Int[Tensor, " T"]  # the token itself
    layout: Layout


@dataclass(frozen=True)
class Padded:
    """Prompts with completions, padded on the right, and where the completions stand."""

    ids_BL: Int[Tensor, "B L"]
    mask_BL: Int[Tensor, "B L"]  # 1 on tokens, 0 on padding
    row_T: Int[Tensor, " T"]  # row of each completion token
    before_T: Int[Tensor, " T"]  # position before it, whose logits predict it
    target_T: Int[Tensor, " T"]  # the token itself


def packed(
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    device: torch.device | str = "cpu",
) -> Packed:
    """Prompts followed by their completions, in one row; completions of one prompt share it.

    No prompt may be empty, since the first completion token needs a predecessor, nor a completion.
    """
    of_prompt: dict[tuple[int, ...], list[int]] = {}
    for number, prompt in enumerate(prompts):
        of_prompt.setdefault(tuple(prompt), []).append(number)
    ids: list[int] = []
    positions: list[int] = []
    layout: list[Branch] = []
    before: list[Sequence[int]] = [()] * len(prompts)
    for prompt, numbers in of_prompt.items():
        start, end = len(ids), len(ids) + len(prompt)
        ids += prompt
        positions += range(len(prompt))
        places = []
        for number in numbers:
            num_prompt, read = len(ids), completions[number][:-1]
            ids += read
            positions += range(len(prompt), len(prompt) + len(read))
            before[number] = (end - 1, *range(num_prompt, len(ids)))
            if read:
                places.append((num_prompt, len(ids)))
        layout.append(Branch((start, end), tuple(places)))
    return Packed(
        torch.tensor([ids], device=device),
        torch.tensor([positions], device=device),
        torch.tensor([place for row in before for place in row], device=device),
        torch.tensor([t for c in completions for t in c], dtype=torch.long, device=device),
        tuple(layout),
    )


def padded(
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    pad_id: int,
    device: torch.device | str = "cpu",
) -> Padded:
    """Prompts followed by their completions, padded on the right to the longest.

    The slow sibling of `packed`. No prompt may be empty; the value of the padding has no influence.
    """
    rows = [[*p, *c] for p, c in zip(prompts, completions, strict=True)]
    ids_BL, mask_BL = pad_rows(rows, pad_id, "right", device)
    row_T = [row for row, c in enumerate(completions) for _ in c]
    pairs = zip(prompts, completions, strict=True)
    before_T = [len(p) - 1 + offset for p, c in pairs for offset in range(len(c))]
    target_T = [token for c in completions for token in c]
    columns = (row_T, before_T, target_T)
    tensors = (torch.tensor(column, dtype=torch.long, device=device) for column in columns)
    return Padded(ids_BL, mask_BL, *tensors)


def pad_rows(
    rows: Sequence[Sequence[int]],
    pad_id: int,
    side: Literal["left", "right"],
    device: torch.device | str = "cpu",
) -> tuple[Int[Tensor, "B L"], Int[Tensor, "B L"]]:
    """Rows padded on the left for generation or the right for scoring, and their tokens' mask."""
    ids = [torch.tensor(row, dtype=torch.long) for row in rows]
    ids_BL = pad_sequence(ids, True, pad_id, side)
    mask_BL = pad_sequence([torch.ones_like(row) for row in ids], True, 0, side)
    return ids_BL.to(device), mask_BL.to(device)


def positions(mask_BL: Int[Tensor, "B L"]) -> Int[Tensor, "B L"]:
    """Position of each token in its own row; 0 on padding, where it has no influence."""
    return (mask_BL.cumsum(-1) - 1).clamp(min=0)


def last_columns(num_B: Int[Tensor, " B"], num_columns: int) -> Int[Tensor, "B L"]:
    """Mask of rows that all end in the last column, whatever stands before their first token."""
    column_L = torch.arange(num_columns, device=num_B.device)
    return (column_L >= num_columns - num_B[:, None]).long()


def split_microbatches(
    rollouts: Iterable[Rollout], max_tokens_per_microbatch: int, packs: bool
) -> list[list[Rollout]]:
    """Micro-batches, each within a budget of tokens of the teacher's and the student's rows.

    A rollout that is larger by itself makes a micro-batch of its own: nothing is dropped. The
    partition changes memory and speed, never the gradient. In packed rows a prompt counts once for
    all of its completions, which stand together, and the order stays; else padding counts, and
    rollouts of like length go together.
    """
    if not packs:
        rollouts = sorted(rollouts, key=lambda rollout: sum(_row_lengths(rollout)))
    divided: list[list[Rollout]] = []
    for rollout in rollouts:
        if divided and (
            microbatch_tokens([*divided[-1], rollout], packs) <= max_tokens_per_microbatch
        ):
            divided[-1].append(rollout)
        else:
            divided.append([rollout])
    return divided


def share(rollouts: Sequence[Rollout], rank: int, world_size: int) -> list[Rollout]:
    """Consecutive rollouts of one process, so that all have about as many tokens to pass over.

    With fewer rollouts than processes some get none; those of one prompt stand together.
    """
    ends = list(accumulate(_packed_tokens(None, rollout) for rollout in rollouts))
    middles = [end - _packed_tokens(None, r) / 2 for end, r in zip(ends, rollouts, strict=True)]
    total = ends[-1] if ends else 0
    return [
        rollout
        for rollout, middle in zip(rollouts, middles, strict=True)
        if int(middle * world_size / total) == rank
    ]


def shortest(rollouts: Sequence[Rollout]) -> list[Rollout]:
    """A part of the one rollout that costs the least."""
    return [min(rollouts, key=lambda rollout: _packed_tokens(None, rollout))]


def microbatch_tokens(microbatch: Sequence[Rollout], packs: bool) -> int:
    """Tokens of a microbatch as `split_microbatches` counts them."""
    if packs:
        return sum(map(_packed_tokens, (None, *microbatch[:-1]), microbatch))
    students, teachers = zip(*map(_row_lengths, microbatch), strict=True)
    return len(microbatch) * (max(students) + max(teachers))


def _packed_tokens(before: Rollout | None, rollout: Rollout) -> int:
    """Tokens that a rollout adds to a row: its prompts too, unless the one before has the same."""
    num_tokens = 2 * len(rollout.completion.token_ids)
    prompts = rollout.student_ids, rollout.teacher_ids
    if before is not None and prompts == (before.student_ids, before.teacher_ids):
        return num_tokens
    return num_tokens + sum(map(len, prompts))


def _row_lengths(rollout: Rollout) -> tuple[int, int]:
    num_completion = len(rollout.completion.token_ids)
    return len(rollout.student_ids) + num_completion, len(rollout.teacher_ids) + num_completion


def through_end(
    generated_BL: Int[Tensor, "B L"], end_ids: Sequence[int]
) -> list[tuple[tuple[int, ...], bool]]:
    """Each row up to its first end token, included, and whether it has one."""
    is_end_BL = torch.isin(generated_BL, torch.tensor(list(end_ids), device=generated_BL.device))
    rows = []
    for ids, is_end in zip(generated_BL.tolist(), is_end_BL.tolist(), strict=True):
        finished = True in is_end
        rows.append((tuple(ids[: is_end.index(True) + 1] if finished else ids), finished))
    return rows
