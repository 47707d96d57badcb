"""Attention within packed rows: completions that share their prompt's keys and values.

Several sequences stand in one row, one after the other, so that linear layers see no padding; a
prompt stands there once, however many completions follow it. Attention looks at each by itself, so
memory grows with a row's length, not with its square. It is registered with transformers as an
implementation of attention, so models need no change, and gradients flow into the shared prompt
from all of its completions.

Axes: 1 row, A heads, L tokens of the row, D head dimension, Q queries, S keys.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention.bias import causal_lower_right
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

PACKED = "rcsd_packed"
"""Name of the implementation; calls without a layout go to transformers' sdpa."""


@dataclass(frozen=True)
class Branch:
    """A prompt and its completions: first token and end of each in a row."""

    prompt: tuple[int, int]
    completions: tuple[tuple[int, int], ...]


Layout = tuple[Branch, ...]
"""What stands in a row, in its order and without gaps."""


def packed_attention(
    module: nn.Module,
    query: Float[Tensor, "B A L D"],
    key: Float[Tensor, "B KV S D"],
    value: Float[Tensor, "B KV S E"],
    attention_mask: Tensor | None,
    layout: Layout | None = None,
    **options: Any,
) -> tuple[Float[Tensor, "B L A E"], None]:
    """Causal attention of each branch by itself.

        softmax(q [k_prompt; k_own]^T scale) [v_prompt; v_own]

    Keys and values may have fewer heads. Without a layout the row is not packed, and transformers'
    sdpa attends; ``options`` are its ``dropout``, ``scaling`` and ``sliding_window``.
    """
    if layout is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    if options.get("softcap") is not None:
        raise ValueError("packed attention knows no soft cap of its scores; take eager")
    window = options.get("sliding_window")
    attention_options = {
        "scale": options.get("scaling"),
        "dropout_p": options.get("dropout", 0.0),
        "enable_gqa": query.shape[1] != key.shape[1],
    }
    seen = []
    for branch in layout:
        prompt = slice(*branch.prompt)
        k_prompt, v_prompt = key[:, :, prompt], value[:, :, prompt]
        seen.append(_causal(query[:, :, prompt], k_prompt, v_prompt, window, attention_options))
        for completion_slice in (slice(*completion) for completion in branch.completions):
            k = torch.cat([k_prompt, key[:, :, completion_slice]], dim=2)
            v = torch.cat([v_prompt, value[:, :, completion_slice]], dim=2)
            seen.append(_causal(query[:, :, completion_slice], k, v, window, attention_options))
    return torch.cat(seen, dim=2).transpose(1, 2), None


def _causal(
    query: Float[Tensor, "B A Q D"],
    key: Float[Tensor, "B KV S D"],
    value: Float[Tensor, "B KV S E"],
    window: int | None,
    options: Mapping[str, Any],
) -> Float[Tensor, "B A Q E"]:
    """Attention of the last Q of S tokens, each to those before it and itself."""
    num_queries, num_keys = query.shape[2], key.shape[2]
    has_window = window is not None and window < num_keys
    if num_queries == num_keys and not has_window:
        mask = None
    elif query.is_cuda and not has_window:
        # Not a mask of numbers: the fused kernels of GPUs take none.
        mask = causal_lower_right(num_queries, num_keys)
    else:
        # The keys that each of the last tokens sees.
        offset = num_keys - num_queries
        seen = torch.ones(num_queries, num_keys, dtype=torch.bool, device=query.device).tril(offset)
        mask = seen if window is None else seen.triu(offset - window + 1)
    return nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, **options
    )


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, sdpa_mask)
