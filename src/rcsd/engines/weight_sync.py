"""Weights pushed to an engine that holds its own copy, in process or through a shared folder."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from torch import Tensor

from rcsd.errors import RunError
from rcsd.http import ResponseModel, Server
from rcsd.io import digest, new_folder, remove_left
from rcsd.models.policy import Policy
from rcsd.models.scorer import causal_lm

NUM_KEPT_VERSIONS = 2
"""Versions that stay: other processes may still sample from the one before the last."""


class ModelCard(ResponseModel):
    """A model or an adapter that a server lists."""

    id: str
    parent: str | None = None
    max_model_len: int | None = None


class Models(ResponseModel):
    """All models and adapters of a server."""

    data: list[ModelCard]


class WeightInfo(ResponseModel):
    """The version of the weights, which a server that starts again has forgotten."""

    weight_version: str | None


def save_adapter(policy: Policy, folder: Path) -> None:
    """Write the adapter alone, in the type that it is trained in."""
    # Never the embeddings: peft would ask the hub whether they have grown.
    policy.model.save_pretrained(folder, save_embedding_layers=False)


def all_weights(policy: Policy) -> Iterator[tuple[str, Tensor]]:
    """All weights by their names in a checkpoint; a head that is the embedding only once."""
    model = causal_lm(policy.model)
    head = model.get_output_embeddings()
    is_tied = head is not None and head.weight is model.get_input_embeddings().weight
    for name, value in model.state_dict().items():
        if not (is_tied and name == "lm_head.weight"):
            yield name, value.detach()


class WeightSync:
    """Pushes a run's weights to a server through a folder, one subfolder a version; the oldest go.

    Adapters go alone, each version under its own name, and the base stays; without adapters all
    weights are replaced by vLLM's ``reload_weights``, with the server's weight version. Names of
    versions are the same in all processes. One run at a time has the folder (else RunError); the
    main process writes there.
    """

    def __init__(
        self, server: Server, policy: Policy, folder: Path, base: str, is_main: bool
    ) -> None:
        self._server, self._policy, self._base = server, policy, base
        self._folder, self._versions = folder.absolute(), list[int | None]()
        self._prefix = f"rcsd-{digest(str(self._folder))[:8]}"
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
        for left in self._folder.glob(f"*{self._prefix}-*"):  # unfinished ones begin with a dot
            remove_left(left)

    def push(self, version: int | None) -> None:
        """Push the policy's present weights as a version; None: before the first step."""
        path = self._path(version)
        with new_folder(path, replace=True) as unfinished:  # the server may be another user's
            if self._policy.has_adapters:
                save_adapter(self._policy, unfinished)
            else:
                causal_lm(self._policy.model).save_pretrained(unfinished)
        self._load_adapter(path) if self._policy.has_adapters else self._load_weights(path)
        versions = [*(v for v in self._versions if v != version), version]
        for old in versions[:-NUM_KEPT_VERSIONS]:
            shutil.rmtree(self._path(old))
            if self._policy.has_adapters:
                self._unload_adapter(self._path(old).name)
        self._versions = versions[-NUM_KEPT_VERSIONS:]

    def model_name(self, version: int | None) -> str:
        """The server's name of these weights in a request."""
        return self._path(version).name if self._policy.has_adapters else self._base

    def check(self, version: int | None) -> None:
        """Raise RunError if the server has other weights, as one that was started again.

        Checked after sampling, which shows a restart before it too. An adapter that the server
        lacks needs no check: requests to its name are refused.
        """
        if self._policy.has_adapters:
            return
        reply, name = self._server.request("/weight_info"), self._path(version).name
        held = reply.read(WeightInfo).weight_version
        if held != name:
            raise RunError(
                f"{reply.source}: the server has weights {held}, not {name}, and what it sampled "
                "is dropped; if it was started again, go on with --resume, which pushes them again"
            )

    def _path(self, version: int | None) -> Path:
        return self._folder / f"{self._prefix}-{'start' if version is None else version}"

    def _load_adapter(self, path: Path) -> None:
        if path.name in self._served():  # an earlier run's of this folder
            self._unload_adapter(path.name)
        body = {"lora_name": path.name, "lora_path": str(path)}
        reply = self._server.request("/v1/load_lora_adapter", body, retries_500=False)
        if reply.status != 200 and path.name not in self._served():
            raise RunError(
                f"{reply.source}: cannot load the adapter in {path} ({reply.status}: "
                f"{reply.text[:300]}). Start the server with --enable-lora, --max-lora-rank of at "
                "least model.training.rank, VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 in its environment, "
                "and engine.shared_folder in its sight at the same path"
            )

    def _unload_adapter(self, name: str) -> None:
        body = {"lora_name": name}
        reply = self._server.request("/v1/unload_lora_adapter", body, retries_500=False)
        if reply.status not in (200, 404):  # 404: it was started again, and knows no adapters
            raise RunError(f"{reply.source}: cannot unload {name}: {reply.text[:300]}")

    def _served(self) -> set[str]:
        return {card.id for card in self._server.request("/v1/models").read(Models).data}

    def _load_weights(self, path: Path) -> None:
        reload = {"method": "reload_weights", "kwargs": {"weights_path": str(path)}}
        for route, body in (
            ("/collective_rpc", reload),
            ("/reset_prefix_cache", {}),
            ("/update_weight_version", {"new_version": path.name}),
        ):
            reply = self._server.request(route, body, retries_500=False)
            if reply.status != 200:
                raise RunError(
                    f"{reply.source}: cannot load the weights in {path} ({reply.status}: "
                    f"{reply.text[:300]}). Full fine-tuning needs a server with "
                    "VLLM_SERVER_DEV_MODE=1 in its environment and engine.shared_folder in its "
                    "sight at the same path; model.training: {type: lora} needs neither"
                )
