"""Predictions of a model at completion tokens, and the tests that decide how to compute them.

Axes: L tokens of a row, T completion tokens of all rows, V vocabulary, H hidden.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from peft import PeftModel
from torch import Tensor, nn

from rcsd.models.cpu_linear import linear
from rcsd.models.logits import HeadPredictions, LogitPredictions, Predictions
from rcsd.models.packed_attention import PACKED
from rcsd.models.packing import Packed, Padded, packed, padded

Precision = Callable[[], AbstractContextManager[object]]
"""Context of a model's passes: mixed precision, as in training, or none."""


def causal_lm(model: Any) -> Any:
    """The causal language model itself, adapters inside it."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """No gradients and no dropout inside; the mode is given back afterwards."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


class Scorer(nn.Module):
    """The model's predictions at completion tokens, and at no others.

    If the model's head is a plain linear layer on the decoder's hidden states, only these are
    stored, and `rcsd.models.logits` applies the head. Otherwise (a soft cap or a scale on the
    logits) the whole model runs and the logits of the positions are selected afterwards: slower,
    the same numbers. Tried on construction, unless ``head`` says which.
    """

    def __init__(self, model: Any, head: Literal["plain", "whole"] | None = None) -> None:
        super().__init__()
        self.model = model
        # Set if weights of the next pass are gathered into the memory of this one's.
        self.is_sharded = False
        self.head = head or ("plain" if has_plain_head(model) else "whole")

    def forward(self, rows: Packed | Padded) -> Predictions:
        """Predictions of each completion token; position t belongs to ``rows.target_T[t]``.

        They keep the weights that the model has now, also where a teacher's are put back later.
        """
        inputs = model_inputs(rows)
        if self.head == "whole":
            logits_BLV = self.model(**inputs).logits
            return LogitPredictions(_at_positions(logits_BLV, rows))
        causal = causal_lm(self.model)
        hidden_TH = _at_positions(causal.base_model(**inputs).last_hidden_state, rows)
        head, device = causal.get_output_embeddings(), hidden_TH.device.type
        if torch.is_autocast_enabled(device):
            hidden_TH = hidden_TH.to(torch.get_autocast_dtype(device))
        weight_VH = self._held(head.weight).to(hidden_TH.dtype)
        bias_V = None if head.bias is None else self._held(head.bias).to(hidden_TH.dtype)
        return HeadPredictions(hidden_TH, weight_VH, bias_V)

    def _held(self, parameter: Tensor) -> Tensor:
        """A teacher's weights are swapped in and out: its tensors are kept, not the parameters."""
        if torch.is_grad_enabled():
            return parameter
        detached = parameter.detach()
        return detached.clone() if self.is_sharded and parameter.requires_grad else detached


def model_inputs(rows: Packed | Padded) -> dict[str, Any]:
    """Rows as arguments of a transformers model."""
    if isinstance(rows, Padded):
        return {"input_ids": rows.ids_BL, "attention_mask": rows.mask_BL, "use_cache": False}
    return {
        "input_ids": rows.ids_1L,
        "position_ids": rows.position_1L,
        # Four axes tell transformers to make no mask of its own; packed attention looks at none.
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=rows.ids_1L.device),
        "layout": rows.layout,
        "use_cache": False,
    }


def _at_positions(values_BLX: Tensor, rows: Packed | Padded) -> Tensor:
    if isinstance(rows, Packed):
        return values_BLX[0, rows.before_T]
    return values_BLX[rows.row_T, rows.before_T]


@torch.no_grad()
def has_plain_head(model: Any) -> bool:
    """True if head(decoder(x)) gives the model's logits, tried on four tokens."""
    causal = causal_lm(model)
    head = causal.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        return False
    ids_BL = torch.arange(4, device=next(model.parameters()).device)[None]
    with evaluating(model):
        logits = model(input_ids=ids_BL, use_cache=False).logits
        hidden = causal.base_model(input_ids=ids_BL, use_cache=False).last_hidden_state
    return torch.equal(linear(hidden, head.weight, head.bias), logits)


def enable_packing(model: Any) -> bool:
    """Make the model take packed rows; returns whether it gives the same hidden states for them.

    Tried on a few tokens: two completions of one prompt, and one of another. Models whose layers
    mix positions in other ways than by attention fail, and so does other attention than sdpa.
    """
    causal = causal_lm(model)
    if causal.config._attn_implementation != "sdpa":
        return False
    causal.set_attn_implementation(PACKED)
    if causal.config._attn_implementation == PACKED and _reads_packed_rows(causal):
        return True
    causal.set_attn_implementation("sdpa")
    return False


def _reads_packed_rows(causal: Any) -> bool:
    prompts, device = ([5, 3, 4, 1], [5, 3, 4, 1], [2, 3]), causal.device
    first, others = [1, 2, 5, 3, 4], ([4, 5, 1], [3, 1, 2, 2])

    def hidden(rows: Packed | Padded) -> Tensor:
        return _at_positions(causal.base_model(**model_inputs(rows)).last_hidden_state, rows)

    with evaluating(causal):
        slow = hidden(padded(prompts, (first, *others), 0, device))
        try:
            fast = hidden(packed(prompts, (first, *others), device))
            changed = hidden(packed(prompts, (first[::-1], *others), device))
        except (TypeError, RuntimeError):  # it knows no layout, or has no kernel for it
            return False
    # Rounding in the first place; a leak from one completion to another in the second.
    tolerance = 1e-3 if causal.dtype in (torch.float32, torch.float64) else 5e-2
    rest = slice(len(first), None)
    return _is_close(fast, slow, tolerance) and _is_close(fast[rest], changed[rest], 1e-3)


def _is_close(a_TH: Tensor, b_TH: Tensor, tolerance: float) -> bool:
    return bool((a_TH - b_TH).norm() <= tolerance * b_TH.norm())
