"""A Ray cluster: how it is reached, how many workers it has room for, and whether they can work."""

import importlib
import ipaddress
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rcsd.distributed import Interrupts, Terminated
from rcsd.errors import ConfigError, RunError
from rcsd.models.cpu_linear import CHOICE

LOCAL = "local"
"""The address that starts a cluster on this machine, for as long as the command runs."""
CONNECT_SECONDS = 10
"""Longest wait for a machine to take up a connection; Ray itself would try for two minutes."""
TAKEN_ALONG = ("RCSD_CACHE", CHOICE)
"""The only environment variables of the driver that its workers get: where caches are, and how
products are made. Others, secrets among them, stay where they are."""


@dataclass(frozen=True)
class Asked:
    """What a user asks of a cluster.

    Args:
        address: ``local``, ``auto``, ``HOST:PORT`` or ``ray://HOST:PORT``.
        num_workers: None: one for each GPU of the cluster, or for each machine where it has none.
        resources: Of a worker, by Ray's names; None: one CPU, and one GPU where there are any.
        num_restarts: How often workers that are lost are replaced.
    """

    address: str
    num_workers: int | None = None
    resources: Mapping[str, float] | None = None
    num_restarts: int = 3


@dataclass(frozen=True)
class Place:
    """What a worker must have as the driver has it.

    Args:
        folder: Where the driver was started: what relative paths mean.
        environment: The variables that are taken along.
    """

    folder: Path
    environment: Mapping[str, str]

    def enter(self) -> None:
        """Go there.

        Raises:
            RunError: If this machine has no such folder.
        """
        os.environ.update(self.environment)
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise RunError(
                f"the Ray worker on {socket.gethostname()} does not see the folder {self.folder} "
                f"that the command was started in ({error.strerror}); start it in one that all "
                "machines share, at the same path"
            ) from error


@dataclass(frozen=True)
class Cluster:
    """A cluster whose workers can work.

    Args:
        ray: The library, connected.
        num_workers: There is room for them.
        resources: Of each.
        num_restarts: As `Asked`.
        place: Where they work.
    """

    ray: Any
    num_workers: int
    resources: Mapping[str, float]
    num_restarts: int
    place: Place


@contextmanager
def joined(asked: Asked) -> Iterator[Cluster]:
    """Connected to a cluster, or with a new one of this machine's, for as long as the block runs.

    Nothing is uploaded: workers import the package that is installed where they are, and read
    files at the same paths.

    Raises:
        ConfigError: If Ray is not installed, or the address is none.
        RunError: If no cluster answers, it has no room, or its package is another version.
        Terminated: After SIGTERM; workers end, and what they saved is kept.
    """
    ray, interrupts = _connected(asked.address), Interrupts()
    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        has_gpus = any(node["Resources"].get("GPU") for node in nodes)
        resources = asked.resources or ({"CPU": 1, "GPU": 1} if has_gpus else {"CPU": 1})
        fitting = [node for node in nodes if _room(node, resources)]
        num_fitting = sum(_room(node, resources) for node in fitting)
        num = asked.num_workers or (num_fitting if has_gpus else len(fitting))
        if not 1 <= num <= num_fitting:
            has = "; ".join(_words(node["Resources"]) for node in nodes)
            raise RunError(
                f"--ray {asked.address}: {asked.num_workers or 'some'} workers with "
                f"{_words(resources)} each were asked for, and the cluster has room for "
                f"{num_fitting}; its machines have: {has}. Ask for fewer with --workers, for less "
                "with --worker-resources, or start more machines first"
            )
        _refuse_other_versions(ray, fitting)
        taken = {name: os.environ[name] for name in TAKEN_ALONG if name in os.environ}
        with interrupts.handling_signals(), interrupts.safe_to_stop(), interrupts.interruptible():
            yield Cluster(ray, num, resources, asked.num_restarts, Place(Path.cwd(), taken))
    except SystemExit as error:
        # Where Ray waits, it makes of ours one with another code.
        raise Terminated if interrupts.requested else error from None
    finally:
        ray.shutdown()


def _connected(address: str) -> Any:
    """The library, connected."""
    own: dict[str, Any] = {}
    if address == LOCAL:
        # Ray's name for it: off, every port is bound to the loopback address on Linux too.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        own = {"include_dashboard": False}
    else:
        _refuse_silence(address)
    try:
        ray: Any = importlib.import_module("ray")
        importlib.import_module("ray.train")
    except ImportError as error:
        raise ConfigError(f"--ray needs Ray ({error}); pip install 'rcsd[ray]'") from error
    try:
        ray.init(address=address, logging_level="ERROR", log_to_driver=False, **own)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise RunError(
            f"--ray {address}: no cluster can be had there: {error}. One that asks for a token "
            "needs RAY_AUTH_MODE=token, and the token in RAY_AUTH_TOKEN or ~/.ray/auth_token"
        ) from error
    if address == LOCAL:
        host = ray.nodes()[0]["NodeManagerAddress"]
        if not ipaddress.ip_address(host).is_loopback:
            ray.shutdown()
            raise RunError(
                f"--ray local: Ray was imported before, and listens on {host}; set "
                "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 before the first import of ray"
            )
    return ray


def _refuse_silence(address: str) -> None:
    """Refuse an address where nobody listens.

    Raises:
        ConfigError: If it is none.
        RunError: If nobody does.
    """
    if address == "auto":
        return
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (host and colon and port.isdecimal()):
        raise ConfigError(
            f"--ray {address}: expected local, auto, HOST:PORT or ray://HOST:PORT, such as "
            "127.0.0.1:6379"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise RunError(
            f"--ray {address}: nobody listens there ({error}); 'ray start --head' prints the "
            "address of a cluster, and --ray local starts one for this command"
        ) from error


def _room(node: Mapping[str, Any], resources: Mapping[str, float]) -> int:
    """How many workers fit on a machine."""
    has = node["Resources"]
    return int(min(has.get(name, 0) // value for name, value in resources.items() if value))


def _words(resources: Mapping[str, float]) -> str:
    # Ray counts addresses and its own store among them.
    own = {name for name in resources if ":" in name or name == "object_store_memory"}
    return ", ".join(f"{name}={resources[name]:g}" for name in sorted(resources.keys() - own))


def _refuse_other_versions(ray: Any, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Refuse machines that have no package, or another version of it than the driver.

    Raises:
        RunError: Naming one.
    """

    # In here, since it must run where the package is not: Ray sends it as code, not by its name.
    def installed() -> str | None:
        from importlib import metadata  # noqa: PLC0415

        try:
            return metadata.version("rcsd")
        except metadata.PackageNotFoundError:
            return None

    strategies = importlib.import_module("ray.util.scheduling_strategies")
    asking = ray.remote(installed)
    answers = [
        asking.options(
            num_cpus=0,
            scheduling_strategy=strategies.NodeAffinitySchedulingStrategy(
                node["NodeID"], soft=False
            ),
        ).remote()
        for node in nodes
    ]
    own = version("rcsd")
    try:
        found = ray.get(answers)
    except ray.exceptions.RayError as error:
        raise RunError(f"a machine of the cluster cannot start a task: {error}") from error
    for node, other in zip(nodes, found, strict=True):
        if other != own:
            what = "rcsd is not installed" if other is None else f"rcsd is {other}"
            raise RunError(
                f"on the cluster's machine {node['NodeManagerAddress']} {what}, and here it is "
                f"{own}; install the same version in the environment that its Ray was started in"
            )
