"""``rcsd train --ray``: the training loop in workers that Ray starts, and starts again."""

import importlib
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.utils import logging

from rcsd import config
from rcsd.distributed import Ranks
from rcsd.errors import LostRankError, RunError, UserError
from rcsd.runs import RunFolder
from rcsd.training.ray import Cluster, Place
from rcsd.training.trainer import OnStep, OnWarning, run

# Between two looks at what the workers tell.
_LISTENING_SECONDS = 0.5


@dataclass(frozen=True)
class _Task:
    """What each worker is given.

    Args:
        settings: The run.
        resume: Whether the run had begun before the command.
        place: Where to work.
        shared: A file that the driver wrote beside the run's folder.
        news: The actor that takes what the main worker tells.
    """

    settings: config.Config
    resume: bool
    place: Place
    shared: Path
    news: Any

    def tell(self, what: str, *told: object) -> None:
        """Tell the driver; nobody waits, and if nobody listens any more the run goes on."""
        self.news.tell.remote(what, *told)


class _News:
    """What the main worker told, until the driver takes it."""

    def __init__(self) -> None:
        self._told: list[tuple[Any, ...]] = []

    def tell(self, *told: object) -> None:
        self._told.append(told)

    def take(self) -> list[tuple[Any, ...]]:
        taken, self._told = self._told, []
        return taken


def train_on(
    cluster: Cluster,
    settings: config.Config,
    resume: bool,
    on_step: OnStep,
    on_warning: OnWarning,
) -> RunFolder:
    """Train on a cluster, as `rcsd.training.trainer.run` does here.

    When a worker is lost all of them are started again, and go on from the newest checkpoint, as
    often as the cluster allows it. What a user must mend ends the run at once.

    Args:
        cluster: Where.
        settings: The run; its folder must be seen by all machines and by this one.
        resume: Go on from the newest checkpoint.
        on_step: Told the number of steps done and the metrics, soon after each step.
        on_warning: Told what `rcsd.training.trainer.run` warns of, and when workers were started
        again.

    Raises:
        RunError: If something is wrong that the user can mend, or workers are lost too often.
    """
    folder = RunFolder(settings.out)
    (folder.check_resumable if resume else folder.check_new)()
    train: Any = importlib.import_module("ray.train")
    torch: Any = importlib.import_module("ray.train.torch")
    news = cluster.ray.remote(_News).options(num_cpus=0).remote()
    with _shared_folder(settings.out) as shared, _heard(cluster, news, on_step, on_warning):
        task = _Task(settings, resume, cluster.place, shared / "shared", news)
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
                storage_path=str(shared),
                failure_config=train.FailureConfig(max_failures=cluster.num_restarts),
            ),
        )
        try:
            failure = trainer.fit().return_value
        except train.TrainingFailedError as error:
            raise RunError(
                f"{settings.out}: its workers failed, after {cluster.num_restarts} restarts or "
                f"where none helps; what was saved is kept, and --resume goes on from it: {error}"
            ) from error
    if failure is not None:
        raise RunError(failure)
    return folder


def _work(task: _Task) -> str | None:
    """One worker's part; returns what is wrong where a user must mend it, which no restart does."""
    logging.disable_progress_bar()
    context: Any = importlib.import_module("ray.train").get_context()
    ranks = Ranks(context.get_world_rank(), context.get_world_size())
    settings = task.settings
    try:
        ranks.all_gather_results(lambda: _enter(task))
        # The driver saw to it that only a run that is to be resumed was there before the command.
        has_begun = ranks.on_main(lambda: RunFolder(settings.out).record.is_file())
        if has_begun and not task.resume and ranks.is_main:
            task.tell("warning", "the workers were started again; they go on where all was saved")
        run(
            settings,
            has_begun,
            lambda step, metrics: task.tell("step", step, dict(metrics)),
            lambda text: task.tell("warning", text),
        )
    except LostRankError:
        raise
    except UserError as error:
        if settings.processes.sharding != "none":
            raise  # the others may be waiting half-way: their restart tells them
        return str(error)
    return None


def _enter(task: _Task) -> None:
    """Go where the driver is, and see that the run's folder is the same there.

    Raises:
        RunError: If it is not.
    """
    task.place.enter()
    if not task.shared.is_file():
        raise RunError(
            f"{task.settings.out}: the Ray worker on {socket.gethostname()} does not see the same "
            f"folder {task.shared.parents[1]} as the command; set out to a folder on storage that "
            "all machines share, at the same path"
        )


@contextmanager
def _shared_folder(out: Path) -> Iterator[Path]:
    """A folder beside the run's, with a file that workers look for, and room for Ray's own."""
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
def _heard(cluster: Cluster, news: Any, on_step: OnStep, on_warning: OnWarning) -> Iterator[None]:
    """What the main worker tells is passed on while the block runs."""
    hears: dict[str, Callable[..., None]] = {"step": on_step, "warning": on_warning}
    ended = threading.Event()

    def listen() -> None:
        is_last = False
        while not is_last:
            is_last = ended.wait(_LISTENING_SECONDS)
            try:
                taken = cluster.ray.get(news.take.remote())
            except cluster.ray.exceptions.RayError:
                return  # its machine was lost; the run goes on, and is not seen to
            for what, *told in taken:
                hears[what](*told)

    listener = threading.Thread(target=listen, name="rcsd-news", daemon=True)
    listener.start()
    try:
        yield
    finally:
        ended.set()
        listener.join()
