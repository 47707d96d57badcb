"""One token a row from logits: temperature, then top k, then top p, then the inverse CDF.

What is kept is what transformers' warpers keep, ties and all. A draw walks the vocabulary in the
order of its ids, so logits that differ by rounding draw the same token from the same uniform
number, unless that lies within the rounding of a token's edge.

Axes: B rows, V vocabulary, K candidates, N blocks, W entries of a block, T positions.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

# Entries of a block; for 49,152 entries 384 blocks: both levels are short.
BLOCK = 128
# Candidates that a nucleus is first looked for in; it grows fourfold where they do not hold it.
FIRST_CANDIDATES = 64


def uniforms(seed: int, indices: Sequence[int], num_positions: int) -> Float64[Tensor, "B T"]:
    """Numbers in [0, 1) for the positions of each prompt; no generator but its own is touched.

    A prompt's numbers hang on ``seed`` and on its index alone (Philox, keyed by both, each 0 or
    more): neither on the other prompts, nor on the number of positions.
    """
    streams = [np.random.Philox(key=np.array([seed, index], np.uint64)) for index in indices]
    rows = [np.random.Generator(stream).random(num_positions) for stream in streams]
    return torch.from_numpy(np.stack(rows))


def drawn(
    logits_BV: Float[Tensor, "B V"],
    uniform_B: Float64[Tensor, " B"],
    temperature: float,
    top_k: int | None = None,
    top_p: float = 1.0,
) -> Int[Tensor, " B"]:
    """Ids drawn from softmax(logits / temperature), restricted to top k and top p.

    Minus infinity excludes an entry, not all of a row; uniform numbers are in [0, 1).
    """
    scores_BV = logits_BV / temperature
    if top_k is None and top_p == 1:
        return inverse_cdf_by_blocks(scores_BV.softmax(-1), uniform_B)
    ids_BK, probability_BK = candidates(scores_BV, top_k, top_p)
    place_B = inverse_cdf(probability_BK, uniform_B)
    return ids_BK.gather(1, place_B[:, None])[:, 0]


def inverse_cdf(
    weight_BV: Float[Tensor, "B V"], uniform_B: Float64[Tensor, " B"]
) -> Int[Tensor, " B"]:
    """First entry whose cumulated weight exceeds uniform x total; summed in float64.

    An entry is drawn with probability weight / total, one of weight 0 never. Weights are 0 or more;
    of a row with a NaN an arbitrary entry comes.
    """
    cumulated_BV = weight_BV.cumsum(-1, dtype=torch.float64)
    target_B1 = (uniform_B * cumulated_BV[:, -1])[:, None].contiguous()
    place_B1 = torch.searchsorted(cumulated_BV, target_B1, right=True)
    return place_B1[:, 0].clamp(max=weight_BV.shape[1] - 1)


def inverse_cdf_by_blocks(
    weight_BV: Float[Tensor, "B V"], uniform_B: Float64[Tensor, " B"]
) -> Int[Tensor, " B"]:
    """`inverse_cdf` over a large vocabulary: first the block, then the entry within it.

    Only the sums of blocks and one block are cumulated, not all entries. Which entry comes differs
    from `inverse_cdf` only where a target lies within float64's rounding of an entry's edge.
    """
    vocabulary = weight_BV.shape[1]
    num_blocked = vocabulary - vocabulary % BLOCK
    blocks_BNW = weight_BV[:, :num_blocked].unflatten(1, (-1, BLOCK))
    rest_B1 = weight_BV[:, num_blocked:].sum(-1, keepdim=True, dtype=torch.float64)
    mass_BN = torch.cat([blocks_BNW.sum(-1, dtype=torch.float64), rest_B1], dim=1)
    block_B = inverse_cdf(mass_BN, uniform_B)

    cumulated_BN = mass_BN.cumsum(-1)
    own_B, through_B = (each.gather(1, block_B[:, None])[:, 0] for each in (mass_BN, cumulated_BN))
    into_B = uniform_B * cumulated_BN[:, -1] - (through_B - own_B)
    # Rounding must not lead out of the block.
    within_B = (into_B / own_B).clamp(0, 1 - 2**-53)
    column_BW = block_B[:, None] * BLOCK + torch.arange(BLOCK, device=weight_BV.device)
    entry_BW = weight_BV.gather(1, column_BW.clamp(max=vocabulary - 1))
    entry_BW = entry_BW.masked_fill(column_BW >= vocabulary, 0)
    return (block_B * BLOCK + inverse_cdf(entry_BW, within_B)).clamp(max=vocabulary - 1)


def candidates(
    scores_BV: Float[Tensor, "B V"], top_k: int | None, top_p: float
) -> tuple[Int[Tensor, "B K"], Float64[Tensor, "B K"]]:
    """The entries that top k and then top p keep, without sorting the vocabulary.

    Kept by top k: all that are no smaller than the k-th largest, so ties make them more than k.
    Kept by top p: all but the smallest, as long as these sum to 1 - top_p or less. Both are
    transformers' rules; of equal entries at the nucleus's edge those of higher ids stay, where
    transformers leaves it to the sort.

    Returns:
        Ids in increasing order, and weights: proportional to the probabilities, 0 where an entry
        is not kept. K is the same for all rows.
    """
    vocabulary = scores_BV.shape[1]
    # Without a top k the entries that are no candidates count too.
    whole_B1 = scores_BV.logsumexp(-1, keepdim=True) if top_k is None else None
    num = FIRST_CANDIDATES if top_k is None else top_k + 1
    while True:
        largest_BK, ids_BK = scores_BV.topk(min(num, vocabulary))
        ids_BK, order_BK = ids_BK.sort()
        value_BK = largest_BK.gather(1, order_BK).double()
        if top_k is not None:
            floor_B1 = largest_BK[:, [min(top_k, vocabulary) - 1]]
            value_BK = value_BK.masked_fill(value_BK < floor_B1, -torch.inf)
        total_B1 = value_BK.logsumexp(-1, keepdim=True) if whole_B1 is None else whole_B1
        probability_BK = (value_BK - total_B1).exp()
        kept_BK = _in_nucleus(value_BK, probability_BK, top_p)
        # Where the least candidate is as large as one kept, others like it may stand outside.
        first_kept_BK = kept_BK if top_k is None else ~value_BK.isneginf()
        least_kept_B = value_BK.masked_fill(~first_kept_BK, torch.inf).amin(-1)
        least_B = largest_BK[:, -1]
        is_known_B = (least_B < least_kept_B) | least_B.isneginf()
        if num >= vocabulary or is_known_B.all():
            return ids_BK, probability_BK * kept_BK
        num *= 4


def _in_nucleus(
    value_BK: Float[Tensor, "B K"], probability_BK: Float64[Tensor, "B K"], top_p: float
) -> Bool[Tensor, "B K"]:
    """Mask of the candidates in the top-p nucleus; the mass they lack is of smaller entries."""
    if top_p == 1:
        return torch.ones_like(value_BK, dtype=torch.bool)
    order_BK = value_BK.argsort(stable=True)
    outside_B1 = 1 - probability_BK.sum(-1, keepdim=True)
    below_BK = outside_B1 + probability_BK.gather(1, order_BK).cumsum(-1)
    kept_BK = below_BK > 1 - top_p
    kept_BK[:, -1] = True
    return torch.empty_like(kept_BK).scatter_(1, order_BK, kept_BK)
