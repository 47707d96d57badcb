"""Predictions at completion positions, without the logits of all of them.

Axes: T positions, t positions of one chunk, V vocabulary, H hidden, K chosen tokens.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from rcsd.models.cpu_linear import linear

PerToken = Float[Tensor, " T"]
TokenMetrics = Mapping[str, PerToken]
Along = Union[Tensor, "Predictions"]
"""An extra argument sliced with the logits: a [T, ...] tensor, or another model's predictions."""

LossOf = Callable[..., tuple[Float[Tensor, " t"], Mapping[str, Float[Tensor, " t"]]]]
"""From logits [t, V], and what goes along, to a loss of each position and metrics of it."""

CHUNK_ENTRIES = {"cpu": 2**24, "cuda": 2**26}
"""Logits that exist at once, whatever T and V: 64 MiB of float32 on a CPU, 256 MiB on a GPU."""


WIDENED_ROWS = 1024
"""Rows of a bfloat16 head that a CPU widens at a time."""


@dataclass(frozen=True)
class HeadPredictions:
    """Hidden states and a linear output head: ``logits_TV = hidden_TH weight_VH^T + bias_V``.

    Nothing of size [T, V] ever exists: `logits_at` multiplies with the K rows of the head that are
    needed, the others go over the positions in chunks of `CHUNK_ENTRIES` logits. With a frozen
    head, as for LoRA, `losses` takes the gradient of the hidden states while a chunk's logits are
    there; a head that is trained needs the loss's weight first, so its chunks are computed once
    more in the backward pass.
    """

    hidden_TH: Float[Tensor, "T H"]
    weight_VH: Float[Tensor, "V H"]
    bias_V: Float[Tensor, " V"] | None = None

    def __len__(self) -> int:
        return len(self.hidden_TH)

    def __getitem__(self, positions: slice | Int[Tensor, " W"]) -> "HeadPredictions":
        return HeadPredictions(self.hidden_TH[positions], self.weight_VH, self.bias_V)

    def logits(self) -> Float[Tensor, "T V"]:
        """All logits at once, in float32 or wider, not rounded to less: only for few positions."""
        return _head(self.hidden_TH, self.weight_VH, self.bias_V)

    def logits_at(self, ids_TK: Int[Tensor, "T K"]) -> Float[Tensor, "T K"]:
        """Logits of K tokens a position, with gradient: T K products of H numbers, not T V."""
        return _SparseHead.apply(self.hidden_TH, self.weight_VH, self.bias_V, ids_TK)

    @torch.no_grad()
    def mapped(self, fn: Callable[..., Any], *along: Along) -> Any:
        """``fn(logits, *along)``: a tensor or a tuple, with a row a position, without gradient."""
        chunks = [fn(self[rows].logits(), *_rows(along, rows)) for rows in self._chunks()]
        if isinstance(chunks[0], Tensor):
            return torch.cat(chunks)
        return tuple(torch.cat(column) for column in zip(*chunks, strict=True))

    def losses(self, fn: LossOf, *along: Along) -> tuple[PerToken, TokenMetrics]:
        """``fn(logits, *along)``: a loss for each position, with gradient, and its metrics."""
        metrics: dict[str, PerToken] = {}
        head = self.hidden_TH, self.weight_VH, self.bias_V
        return _ChunkedLoss.apply(*head, fn, along, metrics), metrics

    def _chunks(self) -> Iterator[slice]:
        return _slices(len(self), self.weight_VH.shape[0], self.hidden_TH.device)


@dataclass(frozen=True)
class LogitPredictions:
    """All logits, held: what models need whose head is more than a linear layer.

    The slow sibling of `HeadPredictions`, with memory that grows as T V.
    """

    logits_TV: Float[Tensor, "T V"]

    def __len__(self) -> int:
        return len(self.logits_TV)

    def __getitem__(self, positions: slice | Int[Tensor, " W"]) -> "LogitPredictions":
        return LogitPredictions(self.logits_TV[positions])

    def logits(self) -> Float[Tensor, "T V"]:
        """All logits, in float32 or wider."""
        return _wide(self.logits_TV)

    def logits_at(self, ids_TK: Int[Tensor, "T K"]) -> Float[Tensor, "T K"]:
        """Gathered."""
        return self.logits().gather(-1, ids_TK)

    @torch.no_grad()
    def mapped(self, fn: Callable[..., Any], *along: Along) -> Any:
        """In one call."""
        return fn(self.logits(), *_rows(along, slice(None)))

    def losses(self, fn: LossOf, *along: Along) -> tuple[PerToken, TokenMetrics]:
        """In one call."""
        loss_T, metrics = fn(self.logits(), *_rows(along, slice(None)))
        return loss_T, {name: value_T.detach() for name, value_T in metrics.items()}


Predictions = HeadPredictions | LogitPredictions
"""The next-token logits of a model at T positions, at temperature 1."""


def target_log_q(
    predictions: Predictions, target_T: Int[Tensor, " T"], temperature: float
) -> Float[Tensor, " T"]:
    """``log softmax(logits / temperature)[target]`` in nats, with gradient, over all of V."""
    return predictions.losses(
        lambda logits_tV, target_t: (gathered(logits_tV / temperature, target_t), {}), target_T
    )[0]


def gathered(logits_TV: Float[Tensor, "T V"], target_T: Int[Tensor, " T"]) -> PerToken:
    """Log-probabilities of the targets, from logits."""
    return -nn.functional.cross_entropy(logits_TV, target_T, reduction="none")


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def _head(
    hidden_TH: Float[Tensor, "T H"],
    weight_VH: Float[Tensor, "V H"],
    bias_V: Float[Tensor, " V"] | None,
) -> Float[Tensor, "T V"]:
    """Logits, of bfloat16 factors in float32: rounded, one of 16 would be off by up to 0.03 nats.

    An NVIDIA GPU sums in float32 anyway. A CPU widens some rows of the head at a time, which stay
    in its cache. Other devices round.
    """
    device = hidden_TH.device
    is_half = hidden_TH.dtype not in (torch.float32, torch.float64)
    with torch.autocast(device.type, enabled=False):
        if is_half and device.type == "cuda" and torch.version.cuda is not None:
            logits_TV = torch.mm(hidden_TH, weight_VH.T, out_dtype=torch.float32)
        elif is_half and device.type == "cpu":
            wide_TH, blocks = hidden_TH.float(), weight_VH.split(WIDENED_ROWS)
            logits_TV = torch.cat([linear(wide_TH, block.float()) for block in blocks], 1)
        else:
            return _wide(linear(hidden_TH, weight_VH, bias_V))
    return logits_TV if bias_V is None else logits_TV + bias_V.float()


def _slices(num_rows: int, entries_a_row: int, device: torch.device) -> Iterator[slice]:
    size = max(1, CHUNK_ENTRIES.get(device.type, CHUNK_ENTRIES["cuda"]) // entries_a_row)
    return (slice(start, start + size) for start in range(0, max(num_rows, 1), size))


def _rows(along: Sequence[Along], rows: slice) -> list[Tensor]:
    """The chunk's share of what goes along; other predictions as logits, without gradient."""
    shares = []
    for value in along:
        if isinstance(value, Tensor):
            shares.append(value[rows])
        else:
            with torch.no_grad():
                shares.append(value[rows].logits())
    return shares


class _SparseHead(torch.autograd.Function):
    """``logits_tk = hidden_t . weight[ids_tk] + bias[ids_tk]``; rows are gathered anew backward."""

    @staticmethod
    def forward(
        ctx: Any, hidden_TH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, ids_TK: Tensor
    ) -> Tensor:
        ctx.save_for_backward(hidden_TH, weight_VH, bias_V, ids_TK)
        logits = [
            torch.einsum("th,tkh->tk", _wide(hidden_TH[rows]), _wide(weight_VH[ids_TK[rows]]))
            for rows in _SparseHead.chunks(hidden_TH, ids_TK)
        ]
        logits_TK = torch.cat(logits)
        return logits_TK if bias_V is None else logits_TK + _wide(bias_V)[ids_TK]

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad_TK: Tensor
    ) -> tuple[Tensor | None, ...]:
        hidden_TH, weight_VH, bias_V, ids_TK = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden_TH) if ctx.needs_input_grad[0] else None
        grad_weight = grad_bias = None
        if ctx.needs_input_grad[1]:
            grad_weight = torch.zeros_like(weight_VH, dtype=grad_TK.dtype)
        if bias_V is not None and ctx.needs_input_grad[2]:
            grad_bias = torch.zeros_like(bias_V, dtype=grad_TK.dtype)
            grad_bias.index_add_(0, ids_TK.flatten(), grad_TK.flatten())
        for rows in _SparseHead.chunks(hidden_TH, ids_TK):
            ids_tK, grad_tK = ids_TK[rows], grad_TK[rows]
            if grad_hidden is not None:
                grad_hidden[rows] = torch.einsum("tk,tkh->th", grad_tK, _wide(weight_VH[ids_tK]))
            if grad_weight is not None:
                outer_tKH = grad_tK[:, :, None] * _wide(hidden_TH[rows])[:, None]
                grad_weight.index_add_(0, ids_tK.flatten(), outer_tKH.flatten(0, 1))
        if grad_weight is not None:
            grad_weight = grad_weight.to(weight_VH.dtype)
        return grad_hidden, grad_weight, grad_bias, None

    @staticmethod
    def chunks(hidden_TH: Tensor, ids_TK: Tensor) -> Iterator[slice]:
        return _slices(len(hidden_TH), ids_TK.shape[1] * hidden_TH.shape[1], hidden_TH.device)


class _ChunkedLoss(torch.autograd.Function):
    """A loss of each position from logits that never exist all at once.

    With d_t the loss of position t, and g_t what the caller's loss weighs it with:

        grad hidden_t = g_t (d d_t / d logits_t) weight,   grad weight = sum_t g_t (...)^T hidden_t
    """

    @staticmethod
    def forward(  # adds to the metrics
        ctx: Any,
        hidden_TH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor | None,
        fn: LossOf,
        along: Sequence[Along],
        metrics: dict[str, Tensor],
    ) -> Tensor:
        ctx.fn, ctx.along, ctx.is_frozen = fn, along, not any(ctx.needs_input_grad[1:3])
        predictions = HeadPredictions(hidden_TH, weight_VH, bias_V)
        is_ready = ctx.is_frozen and ctx.needs_input_grad[0]
        losses, columns, grads = [], {}, []
        for rows in predictions._chunks():
            logits_tV = predictions[rows].logits().requires_grad_(is_ready)
            with torch.set_grad_enabled(is_ready):
                loss_t, metrics_t = fn(logits_tV, *_rows(along, rows))
            if is_ready:
                (grad_tV,) = torch.autograd.grad(loss_t, logits_tV, torch.ones_like(loss_t))
                grads.append(linear(grad_tV.to(weight_VH.dtype), weight_VH.T))
            losses.append(loss_t.detach())
            for name, value_t in metrics_t.items():
                columns.setdefault(name, []).append(value_t.detach())
        metrics.update({name: torch.cat(column) for name, column in columns.items()})
        if is_ready:
            ctx.save_for_backward(torch.cat(grads))
        else:
            ctx.save_for_backward(hidden_TH, weight_VH, bias_V)
        return torch.cat(losses)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad_T: Tensor
    ) -> tuple[Tensor | None, ...]:
        if ctx.is_frozen:
            (grad_TH,) = ctx.saved_tensors
            return (grad_T[:, None] * grad_TH).to(grad_TH.dtype), *[None] * 5
        hidden_TH, weight_VH, bias_V = ctx.saved_tensors
        predictions = HeadPredictions(hidden_TH, weight_VH, bias_V)
        grad_hidden = torch.empty_like(hidden_TH)
        # Summed over chunks in float32 or wider.
        dtype = torch.promote_types(weight_VH.dtype, torch.float32)
        grad_weight = torch.zeros_like(weight_VH, dtype=dtype)
        grad_bias = None if bias_V is None else torch.zeros_like(bias_V, dtype=dtype)
        for rows in predictions._chunks():
            logits_tV = predictions[rows].logits().requires_grad_()
            with torch.enable_grad():
                loss_t, _ = ctx.fn(logits_tV, *_rows(ctx.along, rows))
            (grad_tV,) = torch.autograd.grad(loss_t, logits_tV, grad_T[rows])
            if grad_bias is not None:
                grad_bias += grad_tV.sum(0)
            grad_tV = grad_tV.to(weight_VH.dtype)
            grad_hidden[rows] = linear(grad_tV, weight_VH.T)
            grad_weight += linear(grad_tV.T, hidden_TH[rows].T)
        grad_weight = grad_weight.to(weight_VH.dtype)
        return grad_hidden, grad_weight, grad_bias, None, None, None
