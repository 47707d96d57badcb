"""Matrix products of linear layers by oneDNN, where PyTorch's choice is slow.

PyTorch multiplies float32 matrices on x86 processors by MKL, which takes its fastest kernels on
Intel's alone; on AMD's oneDNN needs half the time (`benchmarks/linear.py`). Both sum in float32, in
another order. Axes: I features in, O features out.
"""

import functools
import platform
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_choice: Literal["auto", "onednn", "torch"] = "auto"


def set_linear_backend(choice: Literal["auto", "onednn", "torch"]) -> None:
    """Set the library of this process's products: `model.linear`."""
    global _choice
    _choice = choice


def linear_backend() -> Literal["onednn", "torch"]:
    """The library of this process's products."""
    if _choice != "auto":
        return _choice
    return "onednn" if _prefers_onednn() else "torch"


@functools.cache
def _prefers_onednn() -> bool:
    """True if oneDNN is faster, by the processor's vendor: a resumed run takes the same."""
    has_both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    has_operator = hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return has_both and has_operator and "AuthenticAMD" in _cpu_info()


def _cpu_info() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.read_text(encoding="utf-8") if cpuinfo.is_file() else platform.processor()


def linear(
    input: Float[Tensor, "*rows I"],
    weight: Float[Tensor, "O I"],
    bias: Float[Tensor, " O"] | None = None,
) -> Float[Tensor, "*rows O"]:
    """``input weight^T + bias``, by oneDNN for float32 on a CPU if `linear_backend` says so.

    Otherwise `torch.nn.functional.linear`, the slow sibling.
    """
    fast = input.device.type == "cpu" and linear_backend() == "onednn" and input.numel() > 0
    fast = fast and not torch.is_autocast_enabled("cpu")
    if not fast or not input.dtype == weight.dtype == torch.float32:
        return nn.functional.linear(input, weight, bias)
    product = _OneDnnLinear.apply if torch.is_grad_enabled() else _product
    return product(input, weight, bias)


class FastLinear(nn.Linear):
    """A linear layer that multiplies by `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """The product of `torch.nn.Linear`."""
        return linear(input, self.weight, self.bias)


def use_fast_linear(model: nn.Module) -> None:
    """Make all plain linear layers multiply by `linear`; their weights and names stay."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = FastLinear


def _product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """``left right^T + bias``."""
    return torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")


class _OneDnnLinear(torch.autograd.Function):
    """``grad input = grad weight``, ``grad weight = grad^T input``, ``grad bias = sum of grad``."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(input, weight)
        # As a tensor of its own: models change products in place, which a view would forbid.
        return _product(input, weight, bias).data

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        needs = ctx.needs_input_grad
        rows = grad.reshape(-1, grad.shape[-1])
        return (
            _product(grad, weight.t()) if needs[0] else None,
            _product(rows.t(), input.reshape(-1, input.shape[-1]).t()) if needs[1] else None,
            rows.sum(0) if needs[2] else None,
        )
