"""The options of ``rcsd train --ray``."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from rcsd.errors import ConfigError

if TYPE_CHECKING:
    from rcsd.training.ray import RayOptions

Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Ray cluster to train on: auto, HOST:PORT, ray://HOST:PORT, or local, which starts "
        "one here. Its machines need this package, and see the files at the same paths.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of Ray workers; default: one per GPU of the cluster, else one per machine.",
    ),
]
WorkerResources = Annotated[
    str | None,
    typer.Option(
        metavar="NAME=NUMBER,...",
        help="Resources of a Ray worker, such as CPU=8,GPU=1; default: one CPU, and one GPU if "
        "there are any.",
    ),
]
Restarts = Annotated[
    int, typer.Option(min=0, help="Number of times that lost Ray workers are restarted.")
]


def parse_ray_options(
    ray: str | None, workers: int | None, worker_resources: str | None, restarts: int
) -> "RayOptions | None":
    """The options of a cluster, or None without one.

    Raises:
        ConfigError: If they are malformed, or need ``--ray``.
    """
    if ray is None:
        if workers is not None or worker_resources is not None:
            raise ConfigError("--workers and --worker-resources are for --ray ADDRESS")
        return None
    from rcsd.training.ray import RayOptions  # noqa: PLC0415 (torch takes seconds)

    resources = None if worker_resources is None else _parse(worker_resources.split(","))
    return RayOptions(ray, workers, resources, restarts)


def _parse(pairs: Sequence[str]) -> dict[str, float]:
    resources: dict[str, float] = {}
    for pair in pairs:
        name, _, number = pair.partition("=")
        try:
            resources[name.strip()] = float(number)
        except ValueError:
            resources[name.strip()] = 0
        if not (name.strip() and 0 < resources[name.strip()] < float("inf")):
            raise ConfigError(
                f"--worker-resources: {pair!r}: expected NAME=NUMBER with a number above 0, such "
                "as CPU=8,GPU=1"
            )
    return resources
