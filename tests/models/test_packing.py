"""Batching: what is padded, shifted and masked, written out."""

from itertools import pairwise

import pytest
import torch

from rcsd.models.packed_attention import Branch
from rcsd.models.packing import (
    packed,
    pad_rows,
    padded,
    split_microbatches,
    through_end,
)
from rcsd.types import Completion, Example, Rollout


def test_a_prompt_stands_once_in_a_packed_row_before_all_of_its_completions() -> None:
    rows = packed([[1, 2], [3], [1, 2]], [[5, 6, 7], [8], [9, 4]])
    assert rows.ids_1L.tolist() == [[1, 2, 5, 6, 9, 3]]  # last tokens predict nothing
    assert rows.position_1L.tolist() == [[0, 1, 2, 3, 2, 0]]
    assert rows.layout == (Branch((0, 2), ((2, 4), (4, 5))), Branch((5, 6), ()))
    assert rows.target_T.tolist() == [5, 6, 7, 8, 9, 4]
    assert rows.before_T.tolist() == [1, 2, 3, 5, 1, 4]


def test_padded_rows_point_at_the_position_before_each_completion_token() -> None:
    rows = padded([[1, 2, 3], [4]], [[5, 6], [7, 8, 9]], pad_id=0)
    assert rows.ids_BL.tolist() == [[1, 2, 3, 5, 6], [4, 7, 8, 9, 0]]
    assert rows.mask_BL.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]
    assert rows.row_T.tolist() == [0, 0, 1, 1, 1]
    assert rows.before_T.tolist() == [2, 3, 0, 1, 2]
    assert rows.target_T.tolist() == [5, 6, 7, 8, 9]


def test_masks_come_from_lengths_so_an_end_token_that_is_the_pad_token_is_learned() -> None:
    end = pad = 0
    rows = padded([[1, end, 2]], [[3, end]], pad_id=pad)
    assert rows.mask_BL.tolist() == [[1, 1, 1, 1, 1]]
    assert rows.target_T.tolist() == [3, end]


def test_generation_is_padded_on_the_left_and_scoring_on_the_right() -> None:
    left, left_mask = pad_rows([[1], [2, 3]], 9, "left")
    right, right_mask = pad_rows([[1], [2, 3]], 9, "right")
    assert left.tolist() == [[9, 1], [2, 3]]
    assert left_mask.tolist() == [[0, 1], [1, 1]]
    assert right.tolist() == [[1, 9], [2, 3]]
    assert right_mask.tolist() == [[1, 0], [1, 1]]


def test_a_completion_goes_through_its_first_end_token() -> None:
    generated = torch.tensor([[5, 7, 9, 9], [5, 6, 5, 6]])
    assert through_end(generated, [9, 7]) == [((5, 7), True), ((5, 6, 5, 6), False)]


def _rollout(student: int, teacher: int, completion: int) -> Rollout:
    said = Completion((1,) * completion, "", True)
    return Rollout(Example("a", "q"), (1,) * student, (1,) * teacher, said)


def _size(rollout: Rollout) -> tuple[int, int]:
    num_prompts = len(rollout.student_ids) + len(rollout.teacher_ids)
    return num_prompts, 2 * len(rollout.completion.token_ids)


@pytest.mark.parametrize("budget", [1, 40, 100, 10_000])
def test_parts_hold_every_rollout_once_within_the_budget(budget: int) -> None:
    rollouts = [_rollout(n % 7 + 1, n % 5 + 3, n % 11 + 1) for n in range(40)]
    divided = split_microbatches(rollouts, budget, packs=False)
    assert sorted(map(id, rollouts)) == sorted(id(r) for microbatch in divided for r in microbatch)
    for part in divided:
        widest = max(sum(_size(rollout)) for rollout in part)
        assert widest * len(part) <= budget or len(part) == 1


@pytest.mark.parametrize("budget", [1, 40, 100, 10_000])
def test_packed_parts_keep_the_order_and_count_a_prompt_once(budget: int) -> None:
    rollouts = [_rollout(n // 4 + 1, n // 4 + 3, n % 11 + 1) for n in range(40)]
    divided = split_microbatches(rollouts, budget, packs=True)
    assert [id(r) for microbatch in divided for r in microbatch] == list(map(id, rollouts))

    def num_tokens(microbatch: list[Rollout]) -> int:
        prompts = {(r.student_ids, r.teacher_ids): _size(r)[0] for r in microbatch}
        return sum(prompts.values()) + sum(_size(r)[1] for r in microbatch)

    for microbatch, after in pairwise([*divided, []]):
        assert num_tokens(microbatch) <= budget or len(microbatch) == 1
        assert not after or num_tokens([*microbatch, after[0]]) > budget
