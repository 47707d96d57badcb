"""Rollouts become rows of tokens. The only file that packs, pads, shifts or masks.

Axes: B sequences, L tokens of a row, T completion tokens of all rows, one after the other.
Masks come from lengths, never from a token's id: a pad token that is also the end token is learned
like any other.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from rcsd.models.packed_attention import Branch, Layout
from rcsd.types import Rollout


@dataclass(frozen=True)
class Packed:
    """Prompts with completions in one row, each prompt once, and where the completions stand.

    Args:
        ids_1L: Token ids. A completion's last token predicts nothing, and is left out.
        position_1L: The place of each token in its own sequence.
        before_T: The place in the row whose logits predict each completion token.
        target_T: The token itself.
        layout: Where prompts and completions stand.
    """

    ids_1L: Int[Tensor, "1 L"]
    position_1L: Int[Tensor, "1 L"]
    before_T: Int[Tensor, " T"]
    target_T: Int[Tensor, " T"]
    layout: Layout


@dataclass(frozen=True)
class Padded:
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


def packed(
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    device: torch.device | str = "cpu",
) -> Packed:
    """Prompts followed by their completions, in one row; completions of one prompt share it.

    Args:
        prompts: Token ids, none of them empty: the first completion token needs a predecessor.
        completions: Token ids, one sequence for each prompt, none of them empty.
        device: Where the tensors go.
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

    The slow sibling of `packed`.

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
    return Padded(
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


def positions(mask_BL: Int[Tensor, "B L"]) -> Int[Tensor, "B L"]:
    """Position of each token in its own row; 0 on padding, where it has no influence."""
    return (mask_BL.cumsum(-1) - 1).clamp(min=0)


def last_columns(num_B: Int[Tensor, " B"], num_columns: int) -> Int[Tensor, "B L"]:
    """Mask of rows that all end in the last column, whatever stands before their first token.

    Args:
        num_B: Tokens of each row, ``num_columns`` at most.
        num_columns: L.
    """
    column_L = torch.arange(num_columns, device=num_B.device)
    return (column_L >= num_columns - num_B[:, None]).long()


def split_microbatches(
    rollouts: Iterable[Rollout], max_tokens_per_microbatch: int, packs: bool
) -> list[list[Rollout]]:
    """Micro-batches, each within a budget of tokens of the teacher's and the student's rows.

    A rollout that is larger by itself makes a micro-batch of its own: nothing is dropped. The
    partition changes memory and speed, never the gradient.

    Args:
        rollouts: Those of one prompt stand together.
        max_tokens_per_microbatch: The budget.
        packs: Whether rows are packed. Then a prompt counts once for all of its completions, and
            the order stays; else padding counts, and rollouts of like length go together.
    """
    if not packs:
        return _padded_microbatches(rollouts, max_tokens_per_microbatch)
    divided: list[list[Rollout]] = []
    num_tokens = 0
    for rollout in rollouts:
        before = divided[-1][-1] if divided else None
        num_tokens += _packed_tokens(before, rollout)
        if divided and num_tokens <= max_tokens_per_microbatch:
            divided[-1].append(rollout)
        else:
            divided.append([rollout])
            num_tokens = _packed_tokens(None, rollout)
    return divided


def share(rollouts: Sequence[Rollout], rank: int, world_size: int) -> list[Rollout]:
    """Consecutive rollouts of one process, so that all have about as many tokens to pass over.

    Args:
        rollouts: Of the whole step; those of one prompt stand together.
        rank: Of the process.
        world_size: How many there are; with fewer rollouts some get none.
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


def _padded_microbatches(
    rollouts: Iterable[Rollout], max_tokens_per_microbatch: int
) -> list[list[Rollout]]:
    divided: list[list[Rollout]] = []
    for rollout in sorted(rollouts, key=lambda rollout: sum(_row_lengths(rollout))):
        if (
            divided
            and microbatch_tokens([*divided[-1], rollout], packs=False) <= max_tokens_per_microbatch
        ):
            divided[-1].append(rollout)
        else:
            divided.append([rollout])
    return divided


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
