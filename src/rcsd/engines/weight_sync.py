"""Weights pushed to an engine that holds its own copy, in process or through a shared folder."""

import hashlib
import shutil
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout
from torch import Tensor

from rcsd.engines.vllm_requests import Models, WeightInfo
from rcsd.errors import RunError
from rcsd.http import Server
from rcsd.models.policy import Policy
from rcsd.models.scorer import causal_lm


def save_adapter(policy: Policy, folder: Path) -> None:
    """Write the adapter alone, in the type that it is trained in."""
    # Never the embeddings: peft would ask the hub whether they have grown.
    policy.model.save_pretrained(folder, save_embedding_layers=False)


def has_tied_head(policy: Policy) -> bool:
    """True if the head is the embedding."""
    model = causal_lm(policy.model)
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


def all_weights(policy: Policy) -> Iterator[tuple[str, Tensor]]:
    """All weights by their names in a checkpoint; a head that is the embedding only once."""
    is_tied = has_tied_head(policy)
    for name, value in causal_lm(policy.model).state_dict().items():
        if not (is_tied and name == "lm_head.weight"):
            yield name, value.detach()


NUM_KEPT_VERSIONS = 2
"""Versions that stay: other processes may still sample from the one before the last."""


class WeightSync(Protocol):
    """Pushes weights to a server. Names of versions are the same in all processes of a run."""

    def push(self, version: int | None) -> None:
        """Push the policy's present weights; on the main process alone."""
        ...

    def model_name(self, version: int | None) -> str:
        """The server's name of these weights in a request."""
        ...

    def has(self, version: int | None) -> bool:
        """True if the server has these weights."""
        ...

    def repush(self, version: int | None) -> None:
        """Push again what the server has lost."""
        ...


class SharedFolder:
    """Versions of a run's weights, one folder each; the oldest go.

    Args:
        folder: One run at a time has it.
        is_main: Whether this process writes there.

    Raises:
        RunError: If another run has it.
    """

    def __init__(self, folder: Path, is_main: bool) -> None:
        self._folder = folder.absolute()
        self.prefix = f"rcsd-{hashlib.sha256(str(self._folder).encode()).hexdigest()[:8]}"
        self._versions: list[int | None] = []
        if not is_main:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self._folder / ".lock", is_singleton=True, thread_local=False)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise RunError(
                f"engine.shared_folder: another run has {self._folder}; give each its own"
            ) from error
        for left in self._folder.glob(f"{self.prefix}-*"):
            shutil.rmtree(left)

    def name(self, version: int | None) -> str:
        """Name of a version; None: before the first."""
        return f"{self.prefix}-{'start' if version is None else version}"

    def path(self, version: int | None) -> Path:
        """Folder of a version."""
        return self._folder / self.name(version)

    def begin(self, version: int | None) -> Path:
        """An empty place for a version."""
        path = self.path(version)
        if path.exists():
            shutil.rmtree(path)
        self._versions = [*(v for v in self._versions if v != version), version]
        return path

    def drop_oldest(self) -> list[str]:
        """Delete what is too old; returns the names."""
        old, self._versions = (
            self._versions[:-NUM_KEPT_VERSIONS],
            self._versions[-NUM_KEPT_VERSIONS:],
        )
        for version in old:
            shutil.rmtree(self.path(version))
        return [self.name(version) for version in old]


class AdapterSync:
    """Pushes adapters alone, each version under its own name; the base stays."""

    def __init__(self, server: Server, policy: Policy, folder: SharedFolder) -> None:
        self._server, self._policy, self._folder = server, policy, folder
        self._lock = threading.Lock()

    def push(self, version: int | None) -> None:
        """Write the adapter, and have the server load it."""
        path = self._folder.begin(version)
        save_adapter(self._policy, path)
        if self._folder.name(version) in self._served():  # an earlier run's of this folder
            self._unload(self._folder.name(version))
        self._load(version)
        for name in self._folder.drop_oldest():
            self._unload(name)

    def model_name(self, version: int | None) -> str:
        """The adapter's name."""
        return self._folder.name(version)

    def has(self, version: int | None) -> bool:
        """True: a server without the adapter refuses its name."""
        return True

    def repush(self, version: int | None) -> None:
        """Load it again, in one of all threads that miss it."""
        with self._lock:
            if self.model_name(version) not in self._served():
                warnings.warn(
                    f"{self._server.url} has lost {self.model_name(version)} (has it started "
                    "again?); it is loaded again",
                    RuntimeWarning,
                    stacklevel=2,
                )
                self._load(version)

    def _served(self) -> set[str]:
        return {card.id for card in self._server.request("/v1/models").read(Models).data}

    def _load(self, version: int | None) -> None:
        name, path = self._folder.name(version), self._folder.path(version)
        body = {"lora_name": name, "lora_path": str(path)}
        reply = self._server.request("/v1/load_lora_adapter", body, retries_500=False)
        if reply.status != 200 and name not in self._served():
            raise RunError(
                f"{reply.source}: cannot load the adapter in {path} ({reply.status}: "
                f"{reply.text[:300]}). Start the server with --enable-lora, --max-lora-rank of at "
                "least model.training.rank, VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 in its environment, "
                "and engine.shared_folder in its sight at the same path"
            )

    def _unload(self, name: str) -> None:
        # 404: it has started again meanwhile, and knows no adapters.
        reply = self._server.request(
            "/v1/unload_lora_adapter", {"lora_name": name}, retries_500=False
        )
        if reply.status not in (200, 404):
            raise RunError(f"{reply.source}: cannot unload {name}: {reply.text[:300]}")


class FullSync:
    """Pushes all weights by vLLM's ``reload_weights``, with the server's weight version."""

    def __init__(self, server: Server, policy: Policy, folder: SharedFolder, base: str) -> None:
        self._server, self._policy, self._folder, self._base = server, policy, folder, base
        self._check_head()

    def _check_head(self) -> None:
        """Products on processors take a packed copy of the head, made once where it is tied."""
        info = self._server.request("/server_info")
        if has_tied_head(self._policy) and "device_config=cpu" in info.text:
            raise RunError(
                f"{self._server.url} computes on a processor, where vLLM keeps the first head of a "
                "model whose head is its embedding; take engine vllm, model.training {type: lora}, "
                "or a server with a GPU"
            )

    def push(self, version: int | None) -> None:
        """Write the model, and have the server read it."""
        causal_lm(self._policy.model).save_pretrained(self._folder.begin(version))
        self._load(version)
        self._folder.drop_oldest()

    def model_name(self, version: int | None) -> str:
        """The base's name: its weights are these."""
        return self._base

    def has(self, version: int | None) -> bool:
        """True if the server holds these weights; a restarted one holds its initial weights."""
        info = self._server.request("/weight_info").read(WeightInfo)
        return info.weight_version == self._folder.name(version)

    def repush(self, version: int | None) -> None:
        """Have it read them again."""
        warnings.warn(
            f"{self._server.url} has lost {self._folder.name(version)} (has it started again?); it "
            "is loaded again",
            RuntimeWarning,
            stacklevel=2,
        )
        self._load(version)

    def _load(self, version: int | None) -> None:
        path = str(self._folder.path(version))
        for route, body in (
            ("/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": path}}),
            ("/reset_prefix_cache", {}),
            ("/update_weight_version", {"new_version": self._folder.name(version)}),
        ):
            reply = self._server.request(route, body, retries_500=False)
            if reply.status != 200:
                raise RunError(
                    f"{reply.source}: cannot load the weights in {path} ({reply.status}: "
                    f"{reply.text[:300]}). Full fine-tuning needs a server with "
                    "VLLM_SERVER_DEV_MODE=1 in its environment and engine.shared_folder in its "
                    "sight at the same path; model.training: {type: lora} needs neither"
                )
