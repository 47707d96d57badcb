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
from rcsd.models.packing import Packed, Padded

Precision = Callable[[], AbstractContextManager[object]]
"""Context of a model's passes: mixed precision, as in training, or none."""


def causal_lm(model: Any) -> Any:
    """The causal language model itself, adapters inside it."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """No gradients and no dropout inside; each module's mode is given back afterwards."""
    in_training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in in_training:
            module.training = True


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
            return LogitPredictions(at_positions(logits_BLV, rows))
        causal = causal_lm(self.model)
        hidden_TH = at_positions(causal.base_model(**inputs).last_hidden_state, rows)
        head, device = causal.get_output_embeddings(), hidden_TH.device.type
        # Mamba's hidden states are float32 whatever the head is.
        is_mixed = torch.is_autocast_enabled(device)
        hidden_TH = hidden_TH.to(
            torch.get_autocast_dtype(device) if is_mixed else head.weight.dtype
        )
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


def at_positions(values_BLX: Tensor, rows: Packed | Padded) -> Tensor:
    """Values at the position before each completion token, which predicts it: T x ..."""
    if isinstance(rows, Packed):
        return values_BLX[0, rows.before_T]
    return values_BLX[rows.row_T, rows.before_T]


@torch.no_grad()
def has_plain_head(model: Any) -> bool:
    """True if head(decoder(x)) gives the model's logits, tried on four tokens."""
    causal = causal_lm(model)
    head = causal.get_output_embeddings()
    if not isinstance(head, nn.Linear) or not head.weight.is_floating_point():
        return False
    ids_BL = torch.arange(4, device=next(model.parameters()).device)[None]
    with evaluating(model):
        logits = model(input_ids=ids_BL, use_cache=False).logits
        output = causal.base_model(input_ids=ids_BL, use_cache=False)
    hidden = getattr(output, "last_hidden_state", None)  # None: the base is the model itself
    if hidden is None:
        return False
    plain = linear(hidden.to(head.weight.dtype), head.weight, head.bias)
    return torch.equal(plain.to(logits.dtype), logits)
