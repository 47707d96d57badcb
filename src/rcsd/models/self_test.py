"""A model is tried on a few tokens before it is used: what would give wrong numbers is refused."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from rcsd.errors import ModelError
from rcsd.models.packed_attention import PACKED
from rcsd.models.packing import Packed, Padded, packed, padded
from rcsd.models.scorer import at_positions, causal_lm, evaluating, model_inputs

WINDOW = re.compile("window|attention_chunk")
"""Names of settings that hide distant tokens: of configurations and of attention modules."""
SMALL_WINDOW = 3


def check_model(model: Any) -> None:
    """Refuse a model whose log-probabilities are not those of the tokens before.

    Args:
        model: Of transformers, in the mode in which the student is scored.

    Raises:
        ModelError: If a pass fails, predictions are not finite, depend on later tokens or on
            padding to the right, or change from pass to pass.
    """
    long, short = [5, 3, 4, 1, 2, 5, 3, 4, 1], [5, 3, 4, 1, 6]

    def logits(*rows: list[int]) -> Tensor:
        width = max(map(len, rows))
        ids_BL = [row + [0] * (width - len(row)) for row in rows]
        mask_BL = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
        options = {"device": next(model.parameters()).device}
        return model(
            input_ids=torch.tensor(ids_BL, **options),
            attention_mask=torch.tensor(mask_BL, **options),
            use_cache=False,
        ).logits.float()

    with torch.no_grad():
        try:
            long_LV, again_LV, short_LV = logits(long)[0], logits(long)[0], logits(short)[0]
            batch_LV = logits(long, short)[1]
        except Exception as error:  # a model's code may raise anything
            raise ModelError(f"model.path: the model fails on nine tokens: {error}") from error
    tolerance = 1e-3 if model.dtype in (torch.float32, torch.float64) else 5e-2
    if not long_LV.isfinite().all():
        raise ModelError("model.path: the model's logits are not finite: its weights are damaged")
    if not _is_close(long_LV, again_LV, tolerance):
        raise ModelError(
            "model.path: two passes over the same tokens differ: dropout or router noise of the "
            "model's own stays on while it is scored; set it to 0 in its config.json"
        )
    if not _is_close(long_LV[:4], short_LV[:4], tolerance):
        raise ModelError(
            "model.path: predictions depend on later tokens: this is no causal language model, or "
            "its config.json lacks is_decoder=true"
        )
    if not _is_close(batch_LV[: len(short)], short_LV, tolerance):
        raise ModelError("model.path: predictions depend on padding behind a row's end")


def use_scoring_mode(model: nn.Module) -> None:
    """Evaluation mode, but for adapters' dropout and for layers that compute activations anew.

    The model's own dropout and router noise would make equal views differ.
    """
    model.eval()
    for name, module in model.named_modules():
        if "lora_dropout" in name.split("."):
            module.train()
        elif getattr(module, "gradient_checkpointing", False):
            module.training = True  # of the layer alone, not of what is in it


def enable_packing(model: Any) -> bool:
    """Make the model take packed rows; returns whether it gives the same hidden states for them.

    Tried on a few tokens: two completions of one prompt, and one of another, with windows of
    `SMALL_WINDOW` where the model has any. Models whose layers mix positions in other ways than by
    attention fail, those whose windows are in the mask alone, and other attention than sdpa.
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
        return at_positions(causal.base_model(**model_inputs(rows)).last_hidden_state, rows)

    with evaluating(causal), _small_windows(causal):
        try:
            slow = hidden(padded(prompts, (first, *others), 0, device))
            fast = hidden(packed(prompts, (first, *others), device))
            changed = hidden(packed(prompts, (first[::-1], *others), device))
        except (TypeError, ValueError, AttributeError, RuntimeError):
            return False  # it knows no layout, or has no kernel for it
    # Rounding in the first place; a leak from one completion to another in the second.
    tolerance = 1e-3 if causal.dtype in (torch.float32, torch.float64) else 5e-2
    rest = slice(len(first), None)
    return _is_close(fast, slow, tolerance) and _is_close(fast[rest], changed[rest], 1e-3)


@contextlib.contextmanager
def _small_windows(causal: Any) -> Iterator[None]:
    """Inside, windows of configurations and modules are shorter than the rows of a test."""
    modules = list(causal.modules())
    configs = {id(m.config): m.config for m in modules if hasattr(m, "config")}
    before = [
        (holder, name, value)
        for holder in (*modules, *configs.values())
        for name, value in vars(holder).items()
        if WINDOW.search(name) and type(value) is int and value > SMALL_WINDOW
    ]
    try:
        for holder, name, _ in before:
            setattr(holder, name, SMALL_WINDOW)
        yield
    finally:
        for holder, name, value in before:
            setattr(holder, name, value)


def _is_close(a_TH: Tensor, b_TH: Tensor, tolerance: float) -> bool:
    return bool((a_TH - b_TH).norm() <= tolerance * b_TH.norm())
