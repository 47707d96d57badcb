"""The options of commands that can work on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from rcsd.errors import ConfigError

if TYPE_CHECKING:
    from rcsd.config import AnyEngine, Model
    from rcsd.engines.base import Engine
    from rcsd.models.policy import Policy
    from rcsd.training.ray import Asked

Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Work on a Ray cluster: auto, HOST:PORT, ray://HOST:PORT, or local, which starts one "
        "here. Its machines need this package, and see the files at the same paths.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1, help="Of the cluster. Left out: one for each GPU; without GPUs, for each machine."
    ),
]
WorkerResources = Annotated[
    str | None,
    typer.Option(
        metavar="NAME=NUMBER,...",
        help="Of each, such as CPU=8,GPU=1. Left out: one CPU, and one GPU where there are any.",
    ),
]
Restarts = Annotated[
    int, typer.Option(min=0, help="How often workers that are lost are started again.")
]


def asked_of(
    ray: str | None, workers: int | None, worker_resources: str | None, restarts: int
) -> Asked | None:
    """What the options ask of a cluster; None: nothing.

    Raises:
        ConfigError: If they have no meaning.
    """
    if ray is None:
        if workers is not None or worker_resources is not None:
            raise ConfigError("--workers and --worker-resources are for --ray ADDRESS")
        return None
    from rcsd.training.ray import Asked  # noqa: PLC0415 (torch takes seconds)

    resources = None if worker_resources is None else _resources(worker_resources.split(","))
    return Asked(ray, workers, resources, restarts)


def _resources(pairs: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for pair in pairs:
        name, _, number = pair.partition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            found[name.strip()] = 0
        if not (name.strip() and 0 < found[name.strip()] < float("inf")):
            raise ConfigError(
                f"--worker-resources: {pair!r}: expected NAME=NUMBER with a number above 0, such "
                "as CPU=8,GPU=1"
            )
    return found


@contextmanager
def engines(
    asked: Asked | None, section: Model, engine: AnyEngine | None, longest: int
) -> Iterator[tuple[Callable[[Policy, int], Engine], int]]:
    """What makes the engine of a policy, and how many calls it answers at a time.

    Args:
        asked: Of a cluster, or None.
        section: The model.
        engine: What samples; None: the default.
        longest: Tokens of the longest prompt with its completion.

    Raises:
        ConfigError: If a cluster is to sample by another engine than the default.
    """
    from rcsd.engines.build import chosen_engine  # noqa: PLC0415 (torch takes seconds)

    if asked is None:
        yield lambda policy, num: chosen_engine(engine, policy, num, longest), 1
        return
    if engine is not None:
        raise ConfigError("--ray samples by each worker's own local engine; leave engine out")
    from rcsd.training.ray import joined  # noqa: PLC0415
    from rcsd.training.ray.sampling import engine_maker  # noqa: PLC0415

    with joined(asked) as cluster:
        yield engine_maker(cluster, section), cluster.num_workers
