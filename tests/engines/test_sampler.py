"""Drawing: the inverse CDF at both levels, the warpers' rules, random numbers of one's own."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from rcsd.engines import sampler
from rcsd.engines.sampler import (
    BLOCK,
    candidates,
    drawn,
    inverse_cdf,
    inverse_cdf_by_blocks,
    uniforms,
)

EDGE = 1 - 2**-53  # the largest number that a uniform draw can be


def warped(
    logits_BV: torch.Tensor, temperature: float, top_k: int | None, top_p: float
) -> torch.Tensor:
    """What transformers leaves, in the order in which its generate warps."""
    ids: Any = torch.zeros(len(logits_BV), 1, dtype=torch.long)
    scores = TemperatureLogitsWarper(temperature)(ids, logits_BV) if temperature != 1 else logits_BV
    scores = TopKLogitsWarper(top_k)(ids, scores) if top_k is not None else scores
    return TopPLogitsWarper(top_p)(ids, scores) if top_p < 1 else scores


def random_logits(rows: int, vocabulary: int, scale: float, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(rows, vocabulary, generator=generator)


# By hand


def test_a_draw_is_the_first_entry_whose_cumulated_weight_exceeds_the_number() -> None:
    weights = torch.tensor([[0.0, 1.0, 0.0, 2.0, 1.0, 0.0]]).repeat(7, 1)
    numbers = torch.tensor([0.0, 0.24, 0.25, 0.5, 0.74, 0.75, EDGE], dtype=torch.float64)
    expected = [1, 1, 3, 3, 3, 4, 4]
    assert inverse_cdf(weights, numbers).tolist() == expected
    assert inverse_cdf_by_blocks(weights, numbers).tolist() == expected


def test_of_ties_at_the_edge_of_the_nucleus_those_of_higher_ids_are_kept() -> None:
    # Probabilities 1/2 and four times 1/8: above 0.5 + 0.125 one more is needed.
    logits = torch.tensor([[0.125, 0.125, 0.5, 0.125, 0.125]]).log()
    ids, weights = candidates(logits, None, 0.7)
    assert ids[weights > 0].tolist() == [2, 3, 4]
    # The same where more are equal than are looked at first.
    ids, weights = candidates(torch.zeros(1, 4 * sampler.FIRST_CANDIDATES), None, 0.248)
    last = range(3 * sampler.FIRST_CANDIDATES, 4 * sampler.FIRST_CANDIDATES)
    assert ids[weights > 0].tolist() == list(last)


# Laws


@given(
    st.integers(1, 3 * BLOCK + 5),
    st.floats(0.1, 30),
    st.one_of(st.floats(0, EDGE), st.sampled_from([0.0, EDGE])),
    st.integers(0, 2**20),
)
def test_two_levels_draw_what_the_plain_sum_draws(
    vocabulary: int, scale: float, number: float, seed: int
) -> None:
    weights = random_logits(4, vocabulary, scale, seed).softmax(-1)
    numbers = torch.full((4,), number, dtype=torch.float64)
    chosen = inverse_cdf_by_blocks(weights, numbers)
    assert (weights.gather(1, chosen[:, None]) > 0).all()
    # Another entry may come where the target lies within float64's rounding of an entry's edge:
    # then nothing that counts lies between the two.
    both = torch.stack([chosen, inverse_cdf(weights, numbers)], dim=1).sort(1).values
    cumulated = weights.double().cumsum(1)
    between = cumulated.gather(1, (both[:, 1:] - 1).clamp(min=0)) - cumulated.gather(1, both[:, :1])
    assert ((both[:, :1] == both[:, 1:]) | (between.abs() < 1e-12)).all()


@given(
    st.floats(0.3, 3),
    st.one_of(st.none(), st.integers(1, 400)),
    st.one_of(st.just(1.0), st.floats(0.05, 0.999)),
    st.floats(0.01, 5),
    st.integers(0, 2**20),
)
def test_temperature_top_k_and_top_p_leave_what_transformers_leaves(
    temperature: float, top_k: int | None, top_p: float, scale: float, seed: int
) -> None:
    # In float64 no cumulated probability is within rounding of the nucleus's edge.
    logits = random_logits(3, 300, scale, seed).double()
    probabilities = warped(logits, temperature, top_k, top_p).softmax(-1)
    ids, weights = candidates(logits / temperature, top_k, top_p)
    dense = torch.zeros_like(probabilities).scatter_(1, ids, weights)
    torch.testing.assert_close(dense / dense.sum(-1, keepdim=True), probabilities)
    numbers = uniforms(seed, range(3), 1)[:, 0]
    chosen = drawn(logits, numbers, temperature, top_k, top_p)
    assert torch.equal(chosen, inverse_cdf(probabilities, numbers))


@given(
    st.one_of(st.none(), st.integers(1, 40)),
    st.sampled_from([1.0, 0.987, 0.913, 0.497, 0.103]),
    st.integers(0, 2**20),
)
def test_as_many_of_equal_entries_are_kept_as_transformers_keeps(
    top_k: int | None, top_p: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randint(0, 4, (3, 300), generator=generator).double()
    # Which ones of those at the nucleus's edge, transformers leaves to a sort that is not stable.
    left = warped(logits, 1.0, top_k, top_p)
    ids, weights = candidates(logits, top_k, top_p)
    is_kept = torch.zeros_like(left, dtype=torch.bool).scatter_(1, ids, weights > 0)
    kept = logits.masked_fill(~is_kept, -torch.inf)
    assert torch.equal(kept.sort().values, left.sort().values)


def test_excluded_entries_are_never_drawn() -> None:
    logits = torch.full((1, 400), -torch.inf)
    logits[0, [7, 300]] = torch.tensor([0.0, 1.0])
    for number in (0.0, 0.5, EDGE):
        numbers = torch.tensor([number], dtype=torch.float64)
        for top_k, top_p in ((None, 1.0), (5, 1.0), (None, 0.9999), (5, 0.9999)):
            assert drawn(logits, numbers, 1.0, top_k, top_p).item() in (7, 300)


# Random numbers


def test_a_prompts_numbers_hang_on_the_seed_and_its_index_alone() -> None:
    before = torch.get_rng_state()
    numbers = uniforms(5, range(10), 8)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(uniforms(5, [7, 2], 30)[:, :8], numbers[[7, 2]])
    assert not torch.isin(uniforms(6, range(10), 8), numbers).any()


@pytest.mark.parametrize("by_blocks", [True, False])
def test_weights_that_are_not_numbers_break_no_bounds(by_blocks: bool) -> None:
    weights = torch.full((2, 300), torch.nan)
    draw = inverse_cdf_by_blocks if by_blocks else inverse_cdf
    chosen = draw(weights, torch.tensor([0.0, EDGE], dtype=torch.float64))
    assert ((chosen >= 0) & (chosen < 300)).all()
