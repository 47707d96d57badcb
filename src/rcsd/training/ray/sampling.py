"""An engine whose prompts are shared out among the workers of a cluster."""

import functools
import hashlib
import queue
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers.utils import logging

from rcsd import config
from rcsd.engines.base import PolicyEngine
from rcsd.engines.build import default_engine
from rcsd.errors import RunError
from rcsd.models.policy import Policy
from rcsd.models.save import load_trained
from rcsd.runs import RunFolder
from rcsd.training.ray import Cluster, Place
from rcsd.types import Completion, Decoding

# A worker that is faster than others takes more parts; one that is lost loses no more than one.
_PARTS_PER_WORKER = 4


class _Sampler:
    """One worker: loads the model when it is first asked, also after it was started again."""

    def __init__(
        self, place: Place, section: config.Model, batch_size: int, model_sha256: str
    ) -> None:
        self._place, self._section = place, section
        self._batch_size, self._model_sha256 = batch_size, model_sha256

    @functools.cached_property
    def _engine(self) -> PolicyEngine:
        logging.disable_progress_bar()
        self._place.enter()
        policy, name = load_trained(self._section)
        if _model_sha256(self._section, policy) != self._model_sha256:
            raise RunError(
                f"{name}: the Ray worker on {socket.gethostname()} loads another model than the "
                "command; put it on storage that all machines share, at the same path"
            )
        return default_engine(policy, self._batch_size)

    def sample(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, seed: int, first: int
    ) -> list[Completion]:
        return self._engine.sample(prompts, decoding, seed, first)


class ClusterEngine:
    """Each worker samples for parts of the prompts, in the order in which workers become free.

    A worker that is lost is started again, and samples for its part anew; other parts are not.
    Where the engine draws for each prompt by itself (`rcsd.engines.local`), what is sampled does
    not depend on how many workers there are, but for the rounding of the model's own sums.
    Calls may come from several threads.

    Args:
        cluster: Whose workers.
        section: The model that each loads.
        batch_size: Prompts that a worker takes together.
        policy: The same model, loaded here; workers that load another one say so.
    """

    def __init__(
        self, cluster: Cluster, section: config.Model, batch_size: int, policy: Policy
    ) -> None:
        self._ray, self._num_workers = cluster.ray, cluster.num_workers
        self._num_restarts, self._batch_size = cluster.num_restarts, batch_size
        self._free = queue.SimpleQueue[Any]()
        self._threads = ThreadPoolExecutor(cluster.num_workers, "rcsd-cluster")
        own = dict(cluster.resources)
        worker = cluster.ray.remote(_Sampler).options(
            num_cpus=own.pop("CPU", 0),
            num_gpus=own.pop("GPU", 0),
            memory=own.pop("memory", None),
            resources=own,
            max_restarts=cluster.num_restarts,
            max_task_retries=cluster.num_restarts,
        )
        given = (cluster.place, section, batch_size, _model_sha256(section, policy))
        for _ in range(cluster.num_workers):
            self._free.put(worker.remote(*given))

    def sample(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, seed: int, first: int = 0
    ) -> list[Completion]:
        """One completion for each prompt, in the same order; the same for the same seed.

        Raises:
            RunError: If a worker is lost too often.
        """
        num = max(self._batch_size, -(-len(prompts) // (self._num_workers * _PARTS_PER_WORKER)))

        def part(start: int) -> list[Completion]:
            return self._sampled(prompts[start : start + num], decoding, seed, first + start)

        parts = self._threads.map(part, range(0, len(prompts), num))
        return [completion for completions in parts for completion in completions]

    def _sampled(self, *request: Any) -> list[Completion]:
        """By whichever worker is free."""
        worker = self._free.get()
        errors = self._ray.exceptions
        try:
            return self._ray.get(worker.sample.remote(*request))
        except errors.RayTaskError as error:
            raise error.cause from None  # what the engine raised
        except errors.RayActorError as error:
            raise RunError(
                f"a Ray worker was lost {self._num_restarts + 1} times: {error}"
            ) from error
        finally:
            self._free.put(worker)


def engine_maker(cluster: Cluster, section: config.Model) -> Callable[[Policy, int], ClusterEngine]:
    """What makes a cluster's engine of a policy and a batch size, as `default_engine` does here.

    From now on this process loads models into the host's memory: it needs their tokens and prompts
    alone, and the devices are the workers'.

    Args:
        cluster: Whose workers sample.
        section: What the policy is loaded from.
    """
    PartialState(cpu=True)
    return lambda policy, batch_size: ClusterEngine(cluster, section, batch_size, policy)


def _model_sha256(section: config.Model, policy: Policy) -> str:
    """What tells models apart that were loaded from the same path on several machines.

    Of a run's adapter it is the file: merged into its base, it is rounded as each device does.
    """
    adapter = RunFolder(Path(section.path)).model / "adapter_model.safetensors"
    if adapter.is_file():
        return hashlib.sha256(adapter.read_bytes()).hexdigest()
    return policy.weights_sha256
