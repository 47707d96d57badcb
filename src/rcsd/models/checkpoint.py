"""Checkpoints: all that resuming needs; a damaged or unfinished one is never loaded.

A checkpoint is a folder ``step-000050`` of safetensors files and one ``state.json``, which holds
plain values, the rows of each tensor in each file, and size and SHA-256 of each file.
"""

import hashlib
import json
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from rcsd.distributed import Ranks, local
from rcsd.errors import DataError, RunError
from rcsd.io import digest, disk_error, new_folder, remove_left, write_json


@dataclass(frozen=True)
class State:
    """The state of a run: tensors by name, a sharded one with this rank's rows; plain values."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)

    def part(self, owner: str) -> dict[str, Tensor]:
        """The tensors called ``owner/...``, without their owner."""
        places = {name.partition("/")[::2]: tensor for name, tensor in self.tensors.items()}
        return {name: tensor for (first, name), tensor in places.items() if first == owner}


class Checkpoints:
    """The checkpoints of a run.

    Args:
        keep: Number of the newest that stay.
        ranks: Where tensors are sharded, each rank writes its rows; else the main rank writes all.
    """

    def __init__(self, folder: Path, keep: int, ranks: Ranks) -> None:
        self._folder, self._keep, self._ranks = folder, keep, ranks

    def steps(self) -> list[int]:
        """Steps of all checkpoints, oldest first."""
        names = (path.name.removeprefix("step-") for path in self._folder.glob("step-*"))
        return sorted(int(name) for name in names if name.isdecimal())

    def path(self, step: int) -> Path:
        """A checkpoint's folder."""
        return self._folder / f"step-{step:06d}"

    def save(self, step: int, state: State) -> None:
        """Write a checkpoint, then remove those that are too many.

        Raises RunError if it cannot be written; those before it are as they were.
        """
        is_sharded = any(isinstance(tensor, DTensor) for tensor in state.tensors.values())
        ranks = self._ranks if is_sharded else Ranks()
        if not (is_sharded or self._ranks.is_main):
            return
        new = new_folder(self.path(step), replace=True) if ranks.is_main else nullcontext(None)
        with self.named_errors(self.path(step)):
            self.drop_from(step + 1)
            with new as made:
                unfinished = ranks.all_gather(made)[0]
                assert unfinished is not None
                shards = ranks.all_gather(_write_shard(unfinished, ranks, state.tensors))
                if ranks.is_main:
                    content = {"step": step, "values": dict(state.values), "shards": shards}
                    sealed = {"sha256": _digest(content), "content": content}
                    write_json(unfinished / "state.json", sealed)
            self._remove(self.steps()[: -self._keep])
            ranks.all_gather(None)  # it has its name

    def load(
        self, like: Mapping[str, Tensor], on_warning: Callable[[str], object] | None = warnings.warn
    ) -> tuple[int, State] | None:
        """The newest undamaged checkpoint, or None where there is none at all.

        Newer ones that are damaged are set aside under another name, each with a warning; without
        ``on_warning`` they stay: a run that goes on meanwhile loses no file to a reader. Of a
        tensor whose name ends in that of a parameter in ``like`` only this rank's rows are read.
        Raises RunError if all are damaged.
        """
        step, content = self._ranks.on_main(lambda: self._newest_undamaged(on_warning))
        if content is None:
            return None
        pieces: dict[str, list[tuple[int, Path]]] = {}
        for shard in content["shards"]:
            for name, row in shard["rows"].items():
                pieces.setdefault(name, []).append((row, self.path(step) / shard["file"]))
        tensors = {
            name: _read_rows(name, sorted(files), like.get(name.rpartition("/")[2]))
            for name, files in pieces.items()
        }
        return step, State(tensors, content["values"])

    def _newest_undamaged(
        self, on_warning: Callable[[str], object] | None
    ) -> tuple[int, dict[str, Any] | None]:
        damages: dict[int, str] = {}
        for step in reversed(self.steps()):
            try:
                content = _read_state(self.path(step), step)
            except (OSError, ValueError, KeyError, TypeError) as error:
                damages[step] = f"{self.path(step)}: {error}"
                continue
            for damaged, why in damages.items():
                if on_warning is None:
                    break
                path = self.path(damaged)
                aside = path.with_name(f"damaged-{path.name}")
                remove_left(aside)
                path.rename(aside)
                on_warning(
                    f"checkpoint {path.name} is damaged ({why}); it is moved to {aside}, and the "
                    f"run goes on from {self.path(step).name}"
                )
            return step, content
        if damages:
            raise RunError(
                f"no checkpoint in {self._folder} can be read: {'; '.join(damages.values())}. To "
                "begin again with the first step, delete that folder"
            )
        return 0, None

    def drop_from(self, step: int) -> None:
        """Remove the checkpoints of this step and later ones, on the main rank."""
        self._remove([later for later in self.steps() if later >= step])

    def _remove(self, steps: Sequence[int]) -> None:
        removed = self._folder / "removed"
        for step in steps if self._ranks.is_main else ():
            remove_left(removed)
            self.path(step).rename(removed)  # half a checkpoint must not have its name
            shutil.rmtree(removed, ignore_errors=True)

    @contextmanager
    def named_errors(self, path: Path) -> Iterator[None]:
        """Turn an error of the disk into one that names what is written and the last checkpoint."""
        try:
            yield
        except (OSError, SafetensorError, DataError) as error:
            steps = self.steps()
            last = f"; the last checkpoint is {self.path(steps[-1])}" if steps else ""
            fault = disk_error(error.__cause__ or error)
            raise RunError(
                f"{path} cannot be written: {fault.strerror if fault else error}{last}. "
                "Make room or mend the disk, then go on with --resume"
            ) from error


def _write_shard(folder: Path, ranks: Ranks, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Write this rank's rows, on the main rank unsharded tensors too; returns the file's entry."""
    rows = {
        name: first_row(tensor) if isinstance(tensor, DTensor) else 0
        for name, tensor in tensors.items()
        if (ranks.is_main or isinstance(tensor, DTensor)) and local(tensor).numel()
    }
    path = folder / f"shard-{ranks.rank:05d}-of-{ranks.world_size:05d}.safetensors"
    save_file({name: local(tensors[name]).detach().cpu().contiguous() for name in rows}, path)
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": _sha256(path), "rows": rows}


def first_row(tensor: DTensor) -> int:
    """First of this rank's rows of a tensor that is sharded by rows, as FSDP2 shards it."""
    mesh, shape = tensor.device_mesh, tensor.shape
    num, rank = mesh.size(), mesh.get_local_rank()
    return min(shape[0], rank * -(-shape[0] // num))


def _digest(content: object) -> str:
    return digest(json.dumps(content, sort_keys=True))


def _read_state(path: Path, step: int) -> dict[str, Any]:
    """The content of ``state.json``; refuses a checkpoint that is not as it was written."""
    sealed = json.loads((path / "state.json").read_text(encoding="utf-8"))
    content = sealed["content"]
    if _digest(content) != sealed["sha256"] or content["step"] != step:
        raise ValueError("state.json was changed")
    for shard in content["shards"]:
        file = path / shard["file"]
        if file.stat().st_size != shard["bytes"] or _sha256(file) != shard["sha256"]:
            raise ValueError(f"{file.name} is not as it was written")
    return content


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**24):
            digest.update(chunk)
    return digest.hexdigest()


def _read_rows(name: str, pieces: list[tuple[int, Path]], like: Tensor | None) -> Tensor:
    """A tensor from any number of files; this rank's rows, where ``like`` is sharded."""
    start, end = 0, sys.maxsize
    if isinstance(like, DTensor):
        start = first_row(like)
        end = start + like.to_local().shape[0]
    blocks = []
    for row, path in pieces:
        with safe_open(path, "pt") as file:
            piece = file.get_slice(name)
            if not piece.get_shape():
                return file.get_tensor(name)  # a count of steps
            low, high = max(start, row), min(end, row + piece.get_shape()[0])
            if low < high:
                blocks.append(piece[low - row : high - row])
    if not blocks:
        assert like is not None  # a rank without rows
        return local(like).detach().cpu()
    return torch.cat(blocks) if len(blocks) > 1 else blocks[0]
