"""Linear layers by oneDNN: the same numbers and gradients as by PyTorch's own product."""

from collections.abc import Iterator

import pytest
import torch
from tests.support.tiny import tiny_model
from torch import Tensor, nn

from rcsd.models import cpu_linear as module
from rcsd.models.cpu_linear import (
    FastLinear,
    linear,
    linear_backend,
    set_linear_backend,
    use_fast_linear,
)


@pytest.fixture(autouse=True)
def _onednn() -> Iterator[None]:
    """Products by oneDNN, whatever the processor."""
    set_linear_backend("onednn")
    yield
    set_linear_backend("auto")


def tensors(*rows: int, bias: bool) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(*rows, 24), (40, 24), (40,)][: 3 if bias else 2]
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("rows", [(7,), (2, 5), (1, 3, 4)])
@pytest.mark.parametrize("bias", [False, True])
def test_products_and_gradients_are_those_of_pytorch(rows: tuple[int, ...], bias: bool) -> None:
    inputs = tensors(*rows, bias=bias)
    fast, slow = linear(*inputs), nn.functional.linear(*inputs)
    assert fast.grad_fn is not None
    assert "OneDnn" in type(fast.grad_fn).__name__
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-5)
    linear(*inputs).mul_(2.0)  # as a model may change it in place
    upstream = torch.randn(fast.shape, generator=torch.Generator().manual_seed(1))
    gradients = [torch.autograd.grad(value, inputs, upstream) for value in (fast, slow)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(linear(*inputs), slow, rtol=1e-5, atol=1e-5)


def test_other_types_and_mixed_precision_are_left_to_pytorch() -> None:
    x, weight = (t.detach().double() for t in tensors(7, bias=False))
    assert torch.equal(linear(x, weight), nn.functional.linear(x, weight))
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(*tensors(7, bias=False)).dtype == torch.bfloat16


def test_a_model_with_fast_layers_keeps_weights_and_names_and_gives_the_same() -> None:
    model, ids = tiny_model(), torch.arange(12)[None]
    before, names = model(ids).logits, list(model.state_dict())
    use_fast_linear(model)
    torch.testing.assert_close(model(ids).logits, before, rtol=1e-4, atol=1e-4)
    assert "OneDnn" in type(model(ids).logits.grad_fn).__name__
    assert list(model.state_dict()) == names
    assert isinstance(model.lm_head, FastLinear)
    assert model.lm_head.weight is model.model.embed_tokens.weight


@pytest.mark.parametrize(("maker", "is_amd"), [("AuthenticAMD", True), ("GenuineIntel", False)])
def test_the_processors_maker_decides_unless_the_configuration_does(
    maker: str, is_amd: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_cpu_info", lambda: maker)
    has_both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    module._prefers_onednn.cache_clear()
    set_linear_backend("auto")
    assert linear_backend() == ("onednn" if is_amd and has_both else "torch")
    module._prefers_onednn.cache_clear()
