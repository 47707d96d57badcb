"""Products of linear layers by oneDNN and by PyTorch's own library, over shapes and rows.

Rows are tokens: 4 and 32 as in a batch that samples, 640 as in a part that trains. Three products:
the layer's outcome, and the gradients of its input and of its weight.
"""

import functools
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from torch import Tensor

from measuring import (
    alternating,
    environment,
    medians,
    run_command,
    seconds_of,
    show,
    write_json,
)
from rcsd.models.cpu_linear import linear, set_linear_backend

SHAPES = ((1536, 576), (576, 1536), (576, 576), (49_152, 576))
"""Outputs and inputs of SmolLM2-135M's layers: MLP, attention, head."""
Library = Literal["onednn", "torch"]
LIBRARIES: tuple[Library, ...] = ("onednn", "torch")
CPU = torch.device("cpu")


def product(library: Library, layer: Tensor, rows: Tensor) -> Tensor:
    """The layer's outcome, by a library."""
    set_linear_backend(library)
    return linear(rows, layer)


def gradients(library: Library, layer: Tensor, rows: Tensor, upstream: Tensor) -> None:
    """The outcome, and the gradients of rows and layer."""
    torch.autograd.grad(product(library, layer, rows), (rows, layer), upstream)


def measured(shape: tuple[int, int], num_rows: int, repetitions: int) -> dict[str, float]:
    """Median seconds, forward alone and with gradients, of both libraries in turn."""
    layer, rows, upstream = torch.randn(shape), torch.randn(num_rows, shape[1]), torch.randn(1)
    upstream = upstream.expand(num_rows, shape[0]).contiguous()
    trained = layer.clone().requires_grad_(), rows.clone().requires_grad_()
    calls = {name: functools.partial(product, name, layer, rows) for name in LIBRARIES}
    calls |= {
        f"{name} with gradients": functools.partial(gradients, name, *trained, upstream)
        for name in LIBRARIES
    }
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for name in alternating(list(calls), repetitions + 1):
        taken[name].append(seconds_of(calls[name], CPU))
    return medians([{name: row[n] for name, row in taken.items()} for n in range(1, repetitions)])


def main(
    repetitions: Annotated[int, typer.Option(min=2, help="Turns of each library.")] = 20,
    json: Annotated[Path | None, typer.Option(help="Where the record goes.")] = None,
) -> None:
    """Products of linear layers by oneDNN and by PyTorch's own library."""
    found = {
        f"{shape[0]} x {shape[1]}, {num_rows} rows": measured(shape, num_rows, repetitions)
        for shape in SHAPES
        for num_rows in (4, 32, 640)
    }
    table = []
    for name, seconds in found.items():
        forward, both = (
            seconds[f"torch{what}"] / seconds[f"onednn{what}"] for what in ("", " with gradients")
        )
        table.append([name, forward, both])
    columns = ["layer", "forward", "with gradients"]
    show("PyTorch's own time over oneDNN's: above 1, oneDNN is faster", columns, table)
    record = {"benchmark": "linear", **environment(), "settings": {"repetitions": repetitions}}
    write_json(json, {**record, "median_seconds": found})


if __name__ == "__main__":
    run_command(main)
