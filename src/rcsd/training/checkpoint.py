"""Checkpoints: everything that going on needs, whole and unharmed or not taken for one.

A checkpoint is a folder ``step-000050`` of safetensors files and one ``state.json``, which holds
plain values, the place of each tensor, and size and SHA-256 of each file. It takes its name only
once all of it is on the disk, so a kill leaves at most a folder of another name.
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
    """What a run goes on from.

    Args:
        tensors: By name. Of one that is sharded each process has its rows.
        values: What JSON holds.
    """

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)


class Checkpoints:
    """The checkpoints of a run.

    Args:
        folder: Of all of them; every process sees it.
        keep: How many of the newest stay.
        ranks: Where tensors are sharded, each process writes its own rows; else the main process
            writes everything.
    """

    def __init__(self, folder: Path, keep: int, ranks: Ranks) -> None:
        self._folder, self._keep, self._ranks = folder, keep, ranks

    def steps(self) -> list[int]:
        """Of all checkpoints, oldest first."""
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
        self, like: Mapping[str, Tensor], tell: Callable[[str], object] = warnings.warn
    ) -> tuple[int, State] | None:
        """The newest checkpoint that is unharmed, or None where there is none at all.

        Harmed ones that are newer are set aside under another name.

        Args:
            like: Parameters by name: of what is theirs, by the last part of its name, come those
                rows that this process has of them.
            tell: Called with a sentence for each that is set aside.

        Raises:
            RunError: If there are checkpoints, and all are harmed.
        """
        step, content = self._ranks.on_main(lambda: self._newest_unharmed(tell))
        if content is None:
            return None
        tensors = _read_shards(self.path(step), content["shards"], like)
        return step, State(tensors, content["values"])

    def _newest_unharmed(self, tell: Callable[[str], object]) -> tuple[int, dict[str, Any] | None]:
        harms: dict[int, str] = {}
        for step in reversed(self.steps()):
            try:
                content = _opened(self.path(step), step)
            except _HarmedError as error:
                harms[step] = str(error)
                continue
            for harmed, how in harms.items():
                path = self.path(harmed)
                aside = path.with_name(f"harmed-{path.name}")
                shutil.rmtree(aside, ignore_errors=True)
                path.rename(aside)
                tell(
                    f"checkpoint {path.name} is harmed ({how}); it is kept as {aside}, and the "
                    f"run goes on from {self.path(step).name}"
                )
            return step, content
        if harms:
            raise RunError(
                f"no checkpoint in {self._folder} can be read: {'; '.join(harms.values())}. To "
                "begin again with the first step, delete that folder"
            )
        return 0, None

    def _take_name(self, unfinished: Path, step: int) -> None:
        """From now on it is a checkpoint; older ones go."""
        sync_folder(unfinished)
        self.drop_from(step)
        unfinished.rename(self.path(step))
        sync_folder(self._folder)
        self._remove(self.steps()[: -self._keep])

    def drop_from(self, step: int) -> None:
        """Remove what a run has left behind that goes on from before this step."""
        self._remove([later for later in self.steps() if later >= step])

    def _remove(self, steps: Sequence[int]) -> None:
        removed = self._folder / "removed"
        for step in steps:
            shutil.rmtree(removed, ignore_errors=True)
            self.path(step).rename(removed)  # half a checkpoint must not have its name
            shutil.rmtree(removed, ignore_errors=True)

    @contextmanager
    def _reported(self, unfinished: Path) -> Iterator[None]:
        """What the system refuses becomes an error that says what still holds."""
        try:
            yield
        except (OSError, SafetensorError, DataError) as error:
            shutil.rmtree(unfinished, ignore_errors=True)  # its room may be what is lacking
            kept = [str(self.path(step)) for step in self.steps()]
            last = f"the last one is {kept[-1]}" if kept else "there is none yet"
            raise RunError(
                f"{self._folder}: the checkpoint cannot be written: {error}; {last}. Make room or "
                "mend the disk, then go on with --resume"
            ) from error


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync_file(path: Path) -> None:
    """Bring a file to the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


class _HarmedError(Exception):
    """A checkpoint that is not as it was written."""


def _write_shard(
    folder: Path, ranks: Ranks, is_sharded: bool, tensors: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Write this process's rows, and the main one's whole tensors; says what the file holds."""
    rows: dict[str, int] = {}
    own: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, DTensor):
            rows[name] = first_row(tensor)
        elif ranks.is_main:
            rows[name] = 0
        if name in rows and local(tensor).numel():
            own[name] = local(tensor).detach().cpu().contiguous()
    num = ranks.world_size if is_sharded else 1
    path = folder / f"shard-{ranks.rank:05d}-of-{num:05d}.safetensors"
    save_file(own, path)
    sync_file(path)
    first = {name: rows[name] for name in own}
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": _sha256(path), "rows": first}


def first_row(tensor: DTensor) -> int:
    """Of this process's rows of a tensor that is sharded by rows, as FSDP2 shards it."""
    mesh, shape = tensor.device_mesh, tensor.shape
    num, rank = mesh.size(), mesh.get_local_rank()
    return min(shape[0], rank * -(-shape[0] // num))


def _sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    return {"sha256": _digest(content), "content": content}


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _opened(path: Path, step: int) -> dict[str, Any]:
    """The content of a checkpoint's ``state.json``, all of whose files are as they were written."""
    try:
        sealed = json.loads((path / "state.json").read_text(encoding="utf-8"))
        content = sealed["content"]
        if _digest(content) != sealed["sha256"] or content["step"] != step:
            raise _HarmedError(f"{path / 'state.json'} was changed")
        for shard in content["shards"]:
            file = path / shard["file"]
            if file.stat().st_size != shard["bytes"] or _sha256(file) != shard["sha256"]:
                raise _HarmedError(f"{file} is not as it was written")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _HarmedError(f"{path}: {error}") from error
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
    """Tensors by name, of sharded ones this process's rows, from whatever number of files."""
    pieces: dict[str, list[tuple[int, Path]]] = {}
    for shard in shards:
        for name, row in shard["rows"].items():
            pieces.setdefault(name, []).append((row, path / shard["file"]))
    return {
        name: _rows(name, sorted(found), like.get(name.rpartition("/")[2]))
        for name, found in pieces.items()
    }


def _rows(name: str, pieces: list[tuple[int, Path]], like: Tensor | None) -> Tensor:
    if not isinstance(like, DTensor):
        whole = [_piece(path, name) for _, path in pieces]
        return torch.cat(whole) if len(whole) > 1 else whole[0]
    start = first_row(like)
    end = start + like.to_local().shape[0]
    found = []
    for row, path in pieces:
        with safe_open(path, "pt") as file:
            piece = file.get_slice(name)
            if not piece.get_shape():
                return file.get_tensor(name)  # a count of steps
            num = piece.get_shape()[0]
            low, high = max(start, row), min(end, row + num)
            if low < high:
                found.append(piece[low - row : high - row])
    return torch.cat(found) if found else like.to_local().detach().cpu()


def _piece(path: Path, name: str) -> Tensor:
    with safe_open(path, "pt") as file:
        return file.get_tensor(name)
