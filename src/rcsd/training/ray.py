"""``rcsd train --ray``: Ray Train starts the workers of a run, and starts them again when lost.

Each worker runs `rcsd.training.trainer.run`. When one is lost, Ray restarts all, and they resume
from the newest checkpoint. Nothing is uploaded: workers import the package that is installed on
their machine, and read files at the same paths.
"""

import importlib
import ipaddress
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers.utils import logging

from rcsd import config
from rcsd.distributed import Interrupts, Ranks, Terminated
from rcsd.errors import ConfigError, LostRankError, RunError, UserError
from rcsd.runs import RunFolder
from rcsd.training.trainer import OnStep, OnWarning, run

LOCAL = "local"
"""The address that starts a cluster on this machine, for as long as the command runs."""
CONNECT_SECONDS = 10
"""Connection timeout of the cluster's address; Ray itself would try for two minutes."""
POLL_SECONDS = 0.5
"""Seconds between two looks at the main worker's messages."""
CACHE_VARIABLE = "RCSD_CACHE"
"""The only environment variable that workers get; others, secrets among them, stay here."""


@dataclass(frozen=True)
class RayOptions:
    """Options of a cluster.

    Args:
        address: ``local``, ``auto``, ``HOST:PORT`` or ``ray://HOST:PORT``.
        num_workers: None: one per GPU of the cluster, or per machine if it has none.
        resources: Resources of a worker, by Ray's names; None: one CPU, and one GPU if there are
            any.
        num_restarts: How often lost workers are restarted.
    """

    address: str
    num_workers: int | None = None
    resources: Mapping[str, float] | None = None
    num_restarts: int = 3


@dataclass(frozen=True)
class Cluster:
    """A cluster with room for the workers: the Ray library, their number and resources."""

    ray: Any
    num_workers: int
    resources: Mapping[str, float]


@dataclass(frozen=True)
class Task:
    """Arguments of a worker.

    Args:
        settings: The run.
        resume: Whether the command resumes a run.
        folder: Folder that the command was started in: the base of relative paths.
        cache: Value of `CACHE_VARIABLE`.
        version: The package's version.
        shared: A file beside the run's folder, written by the driver.
        messages: Actor that takes the main worker's messages.
    """

    settings: config.Config
    resume: bool
    folder: Path
    cache: str | None
    version: str
    shared: Path
    messages: Any

    def enter(self) -> None:
        """Check that this machine has the driver's package and files, and change to its folder.

        Raises:
            RunError: If it does not.
        """
        host = socket.gethostname()
        if version("rcsd") != self.version:
            raise RunError(
                f"rcsd is {version('rcsd')} on the Ray worker on {host}, and {self.version} here; "
                "install the same version in the environment that its Ray was started in"
            )
        if self.cache is not None:
            os.environ[CACHE_VARIABLE] = self.cache
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise RunError(
                f"the Ray worker on {host} does not see the folder {self.folder} that the command "
                f"was started in ({error.strerror}); start it in one that all machines share, at "
                "the same path"
            ) from error
        if not self.shared.is_file():
            raise RunError(
                f"{self.settings.out}: the Ray worker on {host} does not see the same folder "
                f"{self.shared.parents[1]} as the command; set out to a folder on storage that "
                "all machines share, at the same path"
            )

    def send(self, *message: object) -> None:
        """Send a message to the driver without waiting; if nobody listens, the run goes on."""
        self.messages.send.remote(*message)


class Messages:
    """Messages of the main worker, until the driver takes them."""

    def __init__(self) -> None:
        self._queue: list[tuple[Any, ...]] = []

    def send(self, *message: object) -> None:
        """Append a message."""
        self._queue.append(message)

    def take(self) -> list[tuple[Any, ...]]:
        """Remove and return all messages."""
        taken, self._queue = self._queue, []
        return taken


def train_on(
    options: RayOptions,
    settings: config.Config,
    resume: bool,
    on_step: OnStep,
    on_warning: OnWarning,
) -> RunFolder:
    """Train on a cluster, as `rcsd.training.trainer.run` does here.

    Args:
        options: The cluster.
        settings: The run; all machines and this one must see its folder.
        resume: Resume from the newest checkpoint.
        on_step: Called with the number of steps done and the metrics, soon after each step.
        on_warning: Called with warnings, and when workers are restarted.

    Raises:
        ConfigError: If Ray is not installed, or the address is malformed.
        RunError: If no cluster answers or has room, an error of the user's ends the run, or
            workers are lost too often.
        Terminated: After SIGTERM; checkpoints stay.
    """
    folder = RunFolder(settings.out)
    (folder.check_resumable if resume else folder.check_new)()
    with _connected(options) as cluster, _shared_folder(settings.out) as shared:
        messages = cluster.ray.remote(Messages).options(num_cpus=0).remote()
        task = Task(
            settings,
            resume,
            Path.cwd(),
            os.environ.get(CACHE_VARIABLE),
            version("rcsd"),
            shared / "shared",
            messages,
        )
        listeners = {"step": on_step, "warning": on_warning}
        with _forwarded(cluster.ray, messages, listeners):
            failure = _fit(cluster, options, task)
    if failure is not None:
        raise RunError(failure)
    return folder


def _fit(cluster: Cluster, options: RayOptions, task: Task) -> str | None:
    """Run the workers; returns the user's error, which no restart would fix."""
    train: Any = importlib.import_module("ray.train")
    torch: Any = importlib.import_module("ray.train.torch")
    settings = task.settings
    trainer = torch.TorchTrainer(
        lambda: _work(task),
        torch_config=torch.TorchConfig(timeout_s=settings.processes.timeout_seconds),
        scaling_config=train.ScalingConfig(
            num_workers=cluster.num_workers,
            use_gpu=cluster.resources.get("GPU", 0) > 0,
            resources_per_worker=dict(cluster.resources),
        ),
        run_config=train.RunConfig(
            name="ray",
            storage_path=str(task.shared.parent),
            failure_config=train.FailureConfig(max_failures=options.num_restarts),
        ),
    )
    try:
        return trainer.fit().return_value
    except train.TrainingFailedError as error:
        raise RunError(
            f"{settings.out}: its workers failed, after {options.num_restarts} restarts or with an "
            f"error that none fixes; checkpoints stay, and --resume continues: {error}"
        ) from error


def _work(task: Task) -> str | None:
    """One worker; returns an error that the user must fix and no restart does."""
    logging.disable_progress_bar()
    context: Any = importlib.import_module("ray.train").get_context()
    ranks, settings = Ranks(context.get_world_rank(), context.get_world_size()), task.settings
    try:
        ranks.all_gather_results(task.enter)
        # The driver made sure that a folder existed before the command only if it resumes.
        has_begun = ranks.on_main(lambda: RunFolder(settings.out).record.is_file())
        if has_begun and not task.resume and ranks.is_main:
            task.send("warning", "the workers were started again, from the newest checkpoint")
        run(
            settings,
            has_begun,
            lambda step, metrics: task.send("step", step, dict(metrics)),
            lambda text: task.send("warning", text),
        )
    except LostRankError:
        raise
    except UserError as error:
        if settings.processes.sharding != "none":
            raise  # others may wait in a collective: the restart ends them
        return str(error)
    return None


@contextmanager
def _connected(options: RayOptions) -> Iterator[Cluster]:
    """A connection to a cluster, or to a new one on this machine."""
    ray, interrupts = _connect(options.address), Interrupts()
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        has_gpus = any(node.get("GPU") for node in nodes)
        resources = options.resources or ({"CPU": 1, "GPU": 1} if has_gpus else {"CPU": 1})
        rooms = [
            int(min(node.get(name, 0) // value for name, value in resources.items()))
            for node in nodes
        ]
        default = sum(rooms) if has_gpus else sum(map(bool, rooms))
        num = options.num_workers or default
        if not 1 <= num <= sum(rooms):
            raise RunError(
                f"--ray {options.address}: no room for {options.num_workers or 'any'} workers with "
                f"{_as_text(resources)} each, but for {sum(rooms)}; its machines have: "
                f"{'; '.join(map(_as_text, nodes))}. Lower --workers or --worker-resources, or "
                "start more machines first"
            )
        with (
            interrupts.handling_signals(),
            interrupts.safe_to_stop(),
            interrupts.interruptible(),
        ):
            yield Cluster(ray, num, resources)
    except SystemExit as error:
        # Ray replaces our exit by one with another code.
        raise Terminated if interrupts.requested else error from None
    finally:
        ray.shutdown()


def _connect(address: str) -> Any:
    """The Ray library, connected."""
    options: dict[str, Any] = {}
    if address == LOCAL:
        # Ray's name for it: off, every port is bound to the loopback address on Linux too.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options = {"include_dashboard": False}
    elif address != "auto":
        _check_address(address)
    try:
        ray: Any = importlib.import_module("ray")
        importlib.import_module("ray.train")
    except ImportError as error:
        raise ConfigError(f"--ray needs Ray ({error}); pip install 'rcsd[ray]'") from error
    try:
        ray.init(address=address, logging_level="ERROR", log_to_driver=False, **options)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise RunError(
            f"--ray {address}: cannot connect: {error}. A cluster with tokens needs "
            "RAY_AUTH_MODE=token, and the token in RAY_AUTH_TOKEN or ~/.ray/auth_token"
        ) from error
    host = ray.nodes()[0]["NodeManagerAddress"]
    if address == LOCAL and not ipaddress.ip_address(host).is_loopback:
        ray.shutdown()
        raise RunError(
            f"--ray local: Ray was imported before, and listens on {host}; set "
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 before the first import of ray"
        )
    return ray


def _check_address(address: str) -> None:
    """Refuse a malformed address, and one that does not accept connections."""
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


def _as_text(resources: Mapping[str, float]) -> str:
    # Ray counts addresses and its object store among them.
    internal = {name for name in resources if ":" in name or name == "object_store_memory"}
    return ", ".join(f"{name}={resources[name]:g}" for name in sorted(resources.keys() - internal))


@contextmanager
def _shared_folder(out: Path) -> Iterator[Path]:
    """A folder beside the run's, with a file that workers look for, and Ray's storage."""
    parent = out.resolve().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.ray-", dir=parent))
        (folder / "shared").touch()
    except OSError as error:
        raise RunError(f"{parent} cannot be written: {error.strerror}") from error
    # Workers may be other users.
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _forwarded(
    ray: Any, messages: Any, listeners: Mapping[str, Callable[..., object]]
) -> Iterator[None]:
    """Forward the main worker's messages to the listeners while the block runs."""
    ended = threading.Event()

    def listen() -> None:
        is_last = False
        while not is_last:
            is_last = ended.wait(POLL_SECONDS)
            try:
                taken = ray.get(messages.take.remote())
            except ray.exceptions.RayError:
                return  # its machine was lost; the run goes on without messages
            for name, *content in taken:
                listeners[name](*content)

    thread = threading.Thread(target=listen, name="rcsd-messages", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
