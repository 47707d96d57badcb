"""Checkpoints: all that resuming needs; a damaged or unfinished one is never loaded.

A checkpoint is a folder ``step-000050`` of safetensors files and one ``state.json``, which holds
plain values, the rows of each tensor in each file, and size and SHA-256 of each file. It takes its
name only once all of it is on the disk, so a kill leaves at most a folder of another name.
"""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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
from rcsd.io import write_json


@dataclass(frozen=True)
class State:
    """The state of a run.

    Args:
        tensors: By name. A sharded one has this rank's rows.
        values: Plain values, as JSON has them.
    """

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)


class Checkpoints:
    """The checkpoints of a run.

    Args:
        folder: Folder of all of them; every rank sees it.
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

        Raises:
            RunError: If it cannot be written; those before it are as they were.
        """
        is_sharded = any(isinstance(tensor, DTensor) for tensor in state.tensors.values())
        if not is_sharded and not self._ranks.is_main:
            return
        unfinished = self._folder / "unfinished"
        with self._reported(unfinished):
            if self._ranks.is_main:
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir(parents=True)
            if is_sharded:
                self._ranks.all_gather(None)  # the folder is there
            shard = _write_shard(unfinished, self._ranks, is_sharded, state.tensors)
            shards = self._ranks.all_gather(shard) if is_sharded else [shard]
            if self._ranks.is_main:
                content = {"step": step, "values": dict(state.values), "shards": shards}
                write_json(unfinished / "state.json", _sealed(content))
                self._take_name(unfinished, step)
            if is_sharded:
                self._ranks.all_gather(None)  # it has its name

    def load(
        self, like: Mapping[str, Tensor], on_warning: Callable[[str], object] = warnings.warn
    ) -> tuple[int, State] | None:
        """The newest undamaged checkpoint, or None where there is none at all.

        Newer ones that are damaged are set aside under another name.

        Args:
            like: Parameters by name: of a tensor whose name ends in such a name, only this rank's
                rows are read.
            on_warning: Called with a sentence for each that is set aside.

        Raises:
            RunError: If there are checkpoints, and all are damaged.
        """
        step, content = self._ranks.on_main(lambda: self._newest_undamaged(on_warning))
        if content is None:
            return None
        tensors = _read_shards(self.path(step), content["shards"], like)
        return step, State(tensors, content["values"])

    def _newest_undamaged(
        self, on_warning: Callable[[str], object]
    ) -> tuple[int, dict[str, Any] | None]:
        damages: dict[int, str] = {}
        for step in reversed(self.steps()):
            try:
                content = _read_state(self.path(step), step)
            except _DamagedError as error:
                damages[step] = str(error)
                continue
            for damaged, why in damages.items():
                path = self.path(damaged)
                aside = path.with_name(f"damaged-{path.name}")
                shutil.rmtree(aside, ignore_errors=True)
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

    def _take_name(self, unfinished: Path, step: int) -> None:
        """Make the folder a checkpoint; remove later ones, and those that are too many."""
        sync_folder(unfinished)
        self.drop_from(step)
        unfinished.rename(self.path(step))
        sync_folder(self._folder)
        self._remove(self.steps()[: -self._keep])

    def drop_from(self, step: int) -> None:
        """Remove the checkpoints of this step and later ones."""
        self._remove([later for later in self.steps() if later >= step])

    def _remove(self, steps: Sequence[int]) -> None:
        removed = self._folder / "removed"
        for step in steps:
            shutil.rmtree(removed, ignore_errors=True)
            self.path(step).rename(removed)  # half a checkpoint must not have its name
            shutil.rmtree(removed, ignore_errors=True)

    @contextmanager
    def _reported(self, unfinished: Path) -> Iterator[None]:
        """Turn an error of the disk into one that names the last checkpoint."""
        try:
            yield
        except (OSError, SafetensorError, DataError) as error:
            shutil.rmtree(unfinished, ignore_errors=True)  # the disk may be full
            steps = self.steps()
            last = f"the last one is {self.path(steps[-1])}" if steps else "there is none yet"
            raise RunError(
                f"{self._folder}: the checkpoint cannot be written: {error}; {last}. Make room or "
                "mend the disk, then go on with --resume"
            ) from error


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync_file(path: Path) -> None:
    """Flush a file to the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


class _DamagedError(Exception):
    """A checkpoint that is not as it was written."""


def _write_shard(
    folder: Path, ranks: Ranks, is_sharded: bool, tensors: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Write this rank's rows, on the main rank unsharded tensors too; returns the file's entry."""
    rows: dict[str, int] = {}
    values: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, DTensor):
            rows[name] = first_row(tensor)
        elif ranks.is_main:
            rows[name] = 0
        if name in rows and local(tensor).numel():
            values[name] = local(tensor).detach().cpu().contiguous()
    num = ranks.world_size if is_sharded else 1
    path = folder / f"shard-{ranks.rank:05d}-of-{num:05d}.safetensors"
    save_file(values, path)
    sync_file(path)
    first = {name: rows[name] for name in values}
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": _sha256(path), "rows": first}


def first_row(tensor: DTensor) -> int:
    """First of this rank's rows of a tensor that is sharded by rows, as FSDP2 shards it."""
    mesh, shape = tensor.device_mesh, tensor.shape
    num, rank = mesh.size(), mesh.get_local_rank()
    return min(shape[0], rank * -(-shape[0] // num))


def _sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    return {"sha256": _digest(content), "content": content}


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read_state(path: Path, step: int) -> dict[str, Any]:
    """The content of ``state.json``, after all files of the checkpoint were verified."""
    try:
        sealed = json.loads((path / "state.json").read_text(encoding="utf-8"))
        content = sealed["content"]
        if _digest(content) != sealed["sha256"] or content["step"] != step:
            raise _DamagedError(f"{path / 'state.json'} was changed")
        for shard in content["shards"]:
            file = path / shard["file"]
            if file.stat().st_size != shard["bytes"] or _sha256(file) != shard["sha256"]:
                raise _DamagedError(f"{file} is not as it was written")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _DamagedError(f"{path}: {error}") from error
    return content


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**24):
            digest.update(chunk)
    return digest.hexdigest()


def _read_shards(
    path: Path, shards: list[dict[str, Any]], like: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Tensors by name, of sharded ones this rank's rows, from any number of files."""
    pieces: dict[str, list[tuple[int, Path]]] = {}
    for shard in shards:
        for name, row in shard["rows"].items():
            pieces.setdefault(name, []).append((row, path / shard["file"]))
    return {
        name: _read_rows(name, sorted(files), like.get(name.rpartition("/")[2]))
        for name, files in pieces.items()
    }


def _read_rows(name: str, pieces: list[tuple[int, Path]], like: Tensor | None) -> Tensor:
    if not isinstance(like, DTensor):
        all_rows = [_read_tensor(path, name) for _, path in pieces]
        return torch.cat(all_rows) if len(all_rows) > 1 else all_rows[0]
    start = first_row(like)
    end = start + like.to_local().shape[0]
    blocks = []
    for row, path in pieces:
        with safe_open(path, "pt") as file:
            piece = file.get_slice(name)
            if not piece.get_shape():
                return file.get_tensor(name)  # a count of steps
            num = piece.get_shape()[0]
            low, high = max(start, row), min(end, row + num)
            if low < high:
                blocks.append(piece[low - row : high - row])
    return torch.cat(blocks) if blocks else like.to_local().detach().cpu()


def _read_tensor(path: Path, name: str) -> Tensor:
    with safe_open(path, "pt") as file:
        return file.get_tensor(name)
