"""``rcsd train --ray``: Ray Train starts the workers of a run, and starts them again when lost.

Each worker runs `rcsd.training.trainer.run`. When one is lost, Ray restarts all, and they resume
from the newest checkpoint. Nothing is uploaded: workers import the package that is installed on
their machine, and read files at the same paths.
"""

import importlib
import ipaddress
import os
import queue
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
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
"""Seconds in which the end of a run is noticed, once its messages have been read."""
CACHE_VARIABLE = "RCSD_CACHE"
"""The only environment variable that workers get; others, secrets among them, stay here."""
NUM_RESTARTS = 3
"""How often lost workers are restarted."""


@dataclass(frozen=True)
class Task:
    """Arguments of a worker.

    ``shared`` is a file beside the run's folder that the driver wrote, ``messages`` the queue of
    the main worker's messages, ``folder`` the base of relative paths, ``cache`` the value of
    `CACHE_VARIABLE`.
    """

    settings: config.Config
    resume: bool
    shared: Path
    messages: Any
    folder: Path
    cache: str | None
    version: str

    def enter(self) -> None:
        """Check that this machine has the driver's package and files, and change to its folder.

        Raises RunError if it does not.
        """
        host = socket.gethostname()
        if version("rcsd") != self.version:
            raise RunError(
                f"rcsd is {version('rcsd')} on the Ray worker on {host}, and {self.version} here; "
                "install the same version in the environment that its Ray was started in"
            )
        if self.cache is not None:
            os.environ[CACHE_VARIABLE] = self.cache
        for path in (self.folder, self.shared):
            if not path.exists():
                raise RunError(
                    f"the Ray worker on {host} does not see the same {path} as the command; start "
                    "it in a folder, and set out to one, on storage that all machines share, at "
                    "the same path"
                )
        os.chdir(self.folder)

    def send(self, *message: object) -> None:
        """Send a message to the driver without waiting; if nobody listens, the run goes on."""
        self.messages.actor.put_nowait.remote(message)


def train_on(
    address: str,
    num_workers: int | None,
    settings: config.Config,
    resume: bool,
    on_step: OnStep,
    on_warning: OnWarning,
) -> RunFolder:
    """Train on a cluster, as `rcsd.training.trainer.run` does here.

    The address is ``local``, ``auto``, ``HOST:PORT`` or ``ray://HOST:PORT``. Without a number there
    is a worker per GPU of the cluster, or per machine if it has none. Steps and warnings are told
    soon after they happen; a restart of the workers is a warning.

    Raises:
        ConfigError: If Ray is not installed.
        RunError: If no cluster answers or has room, an error of the user's ends the run, or
            workers are lost too often.
        Terminated: After SIGTERM; checkpoints stay.
    """
    folder = RunFolder(settings.out)
    (folder.check_resumable if resume else folder.check_new)()
    with _connected(address) as ray, _shared_file(settings.out) as shared:
        scaling = _scaling(ray, num_workers, address)
        messages = importlib.import_module("ray.util.queue").Queue(actor_options={"num_cpus": 0})
        here = (Path.cwd(), os.environ.get(CACHE_VARIABLE), version("rcsd"))
        task = Task(settings, resume, shared, messages, *here)
        with _forwarded(ray, messages, {"step": on_step, "warning": on_warning}):
            failure = _fit(task, scaling)
    if failure is not None:
        raise RunError(failure)
    return folder


def _fit(task: Task, scaling: Any) -> str | None:
    """Run the workers; returns the user's error, which no restart would fix."""
    train: Any = importlib.import_module("ray.train")
    torch: Any = importlib.import_module("ray.train.torch")
    settings = task.settings
    trainer = torch.TorchTrainer(
        lambda: _work(task),
        torch_config=torch.TorchConfig(timeout_s=settings.processes.timeout_seconds),
        scaling_config=scaling,
        run_config=train.RunConfig(
            name="ray",
            storage_path=str(task.shared.parent),
            failure_config=train.FailureConfig(max_failures=NUM_RESTARTS),
        ),
    )
    try:
        return trainer.fit().return_value
    except train.TrainingFailedError as error:
        raise RunError(
            f"{settings.out}: its workers failed, after {NUM_RESTARTS} restarts or with an error "
            f"that none fixes; checkpoints stay, and --resume continues: {error}"
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


def _scaling(ray: Any, num_workers: int | None, address: str) -> Any:
    """Number and resources of the workers: one CPU each, and one GPU if there are any.

    Raises RunError if there is no room for them.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    kinds = ("CPU", "GPU") if any(node.get("GPU") for node in nodes) else ("CPU",)
    rooms = [int(min(node.get(kind, 0) for kind in kinds)) for node in nodes]
    num = num_workers or (sum(rooms) if "GPU" in kinds else sum(map(bool, rooms)))
    if not 1 <= num <= sum(rooms):
        there = "; ".join(f"CPU={n.get('CPU', 0):g}, GPU={n.get('GPU', 0):g}" for n in nodes)
        raise RunError(
            f"--ray {address}: no room for {num_workers or 'any'} workers with one "
            f"{' and one '.join(kinds)} each; its machines have: {there}. Lower --workers, or "
            "start more machines first"
        )
    train: Any = importlib.import_module("ray.train")
    resources = dict.fromkeys(kinds, 1)
    return train.ScalingConfig(
        num_workers=num, use_gpu="GPU" in kinds, resources_per_worker=resources
    )


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """The Ray library, connected to a cluster, or to a new one on this machine."""
    ray, interrupts = _connect(address), Interrupts()
    try:
        with interrupts.handling_signals(), interrupts.safe_to_stop(), interrupts.interruptible():
            yield ray
    except SystemExit as error:
        # Ray replaces our exit by one with another code.
        raise Terminated(interrupts.signal) if interrupts.requested else error from None
    finally:
        ray.shutdown()


def _connect(address: str) -> Any:
    options: dict[str, Any] = {}
    if address == LOCAL:
        # Ray's name for it: off, every port is bound to the loopback address on Linux too.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options = {"include_dashboard": False}
    try:
        ray: Any = importlib.import_module("ray")
        importlib.import_module("ray.train")
    except ImportError as error:
        raise ConfigError(f"--ray needs Ray ({error}); pip install 'rcsd[ray]'") from error
    try:
        if address not in (LOCAL, "auto"):
            host, _, port = address.removeprefix("ray://").rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
        ray.init(address=address, logging_level="ERROR", log_to_driver=False, **options)
    except (OSError, OverflowError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise RunError(
            f"--ray {address}: cannot connect: {error}. Expected local, which starts a cluster for "
            "this command, auto, or the HOST:PORT or ray://HOST:PORT that 'ray start --head' "
            "prints. A cluster with tokens needs RAY_AUTH_MODE=token, and the token in "
            "RAY_AUTH_TOKEN or ~/.ray/auth_token"
        ) from error
    host = ray.nodes()[0]["NodeManagerAddress"]
    if address == LOCAL and not ipaddress.ip_address(host).is_loopback:
        ray.shutdown()
        raise RunError(
            f"--ray local: Ray was imported before, and listens on {host}; set "
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 before the first import of ray"
        )
    return ray


@contextmanager
def _shared_file(out: Path) -> Iterator[Path]:
    """A file that workers look for, in a folder beside the run's, which Ray stores its state in."""
    parent = out.resolve().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.ray-", dir=parent))
        (folder / "shared").touch()
        folder.chmod(0o755)  # workers may be other users
    except OSError as error:
        raise RunError(f"{parent} cannot be written: {error.strerror}") from error
    try:
        yield folder / "shared"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _forwarded(
    ray: Any, messages: Any, listeners: Mapping[str, Callable[..., object]]
) -> Iterator[None]:
    """Forward the main worker's messages to the listeners while the block runs."""
    ended = threading.Event()

    def listen() -> None:
        with suppress(ray.exceptions.RayError):  # its machine was lost; the run goes on without
            while not (ended.is_set() and messages.empty()):
                with suppress(queue.Empty):
                    name, *content = messages.get(timeout=POLL_SECONDS)
                    listeners[name](*content)

    thread = threading.Thread(target=listen, name="rcsd-messages", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
