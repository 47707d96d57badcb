"""Memory that may run out: limits that shrink, micro-batches that fit, what is held and free."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.weak import WeakIdKeyDictionary

from rcsd.distributed import Ranks
from rcsd.errors import RunError
from rcsd.types import Rollout

Result = TypeVar("Result")


class AdaptiveLimit:
    """A size that is lowered where memory runs out, and never raised again.

    All who go by it share the object; a checkpoint keeps its value.

    Args:
        value: The size, at least 1.
        name: Name of its metric.
        failures_name: Name of the metric that counts how often memory ran out.
    """

    def __init__(self, value: int, name: str, failures_name: str) -> None:
        self.value, self.name, self._failures_name = value, name, failures_name
        self._num_failures = 0

    def lower(self, value: int) -> None:
        """Count a failure, and go on with a smaller size."""
        self.value = value
        self._num_failures += 1

    def follow(self, other: "AdaptiveLimit") -> None:
        """Take over the value and the failures of a limit of the same kind, which forgets them."""
        self.value = min(self.value, other.value)
        self._num_failures += other._num_failures
        other._num_failures = 0

    def metrics(self, ranks: Ranks) -> dict[str, float]:
        """The size and the failures since the last call; empty without failures.

        Args:
            ranks: Each has such a limit: the smallest size, and all failures.
        """
        failures, self._num_failures = self._num_failures, 0
        values, counts = zip(*ranks.all_gather((self.value, failures)), strict=True)
        if sum(counts) == 0:
            return {}
        return {self.name: float(min(values)), self._failures_name: float(sum(counts))}


def microbatch_limit(max_tokens_per_microbatch: int) -> AdaptiveLimit:
    """Tokens of one forward and backward pass."""
    return AdaptiveLimit(
        max_tokens_per_microbatch, "memory/max_tokens_per_microbatch", "memory/out_of_memory_count"
    )


def batch_limit(batch_size: int) -> AdaptiveLimit:
    """Prompts that are generated together."""
    name = "memory/sampling_batch_size"
    return AdaptiveLimit(batch_size, name, "memory/sampling_out_of_memory_count")


def is_out_of_memory(error: RuntimeError) -> bool:
    """True if a device or the host ran out of memory."""
    return isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)


def free_memory() -> None:
    """Give back what nothing refers to any more; call it outside the ``except`` of the failure.

    Inside, the error's traceback still holds every frame of the failed pass, with its tensors.
    """
    clear_device_cache(garbage_collection=True)


def in_lockstep(
    microbatches: Sequence[list[Rollout]],
    filler: list[Rollout],
    ranks: Ranks,
    visit: Callable[[list[Rollout], bool], Result],
) -> list[Result]:
    """Results of visiting each micro-batch, where every pass takes all processes (FSDP2).

    Processes with fewer microbatches visit the filler in their place, which does not count.

    Args:
        microbatches: Of this process.
        filler: A microbatch, as small as there is.
        ranks: The processes.
        visit: Told whether the microbatch counts.

    Raises:
        RunError: If memory runs out: no process can learn a microbatch anew without the others.
    """
    try:
        results = [
            (visit(microbatch, counts), counts)
            for microbatch, counts in ranks.padded(microbatches, filler)
        ]
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise RunError(
            "out of memory in a pass over sharded weights, which takes all processes and is not "
            "tried again in smaller microbatches: lower max_tokens_per_microbatch, or set "
            "model.activation_checkpointing: true"
        ) from error
    return [result for result, counts in results if counts]


def in_microbatches(
    split: Callable[[int], list[list[Rollout]]],
    max_tokens_per_microbatch: AdaptiveLimit,
    visit: Callable[[list[Rollout]], Result],
    begin: Callable[[], None] = lambda: None,
) -> list[Result]:
    """Results of visiting each micro-batch; all again in smaller ones if memory runs out.

    The limit is halved until there is no microbatch like the one that failed.

    Args:
        split: Divides what is visited into micro-batches of at most so many tokens.
        max_tokens_per_microbatch: The limit.
        visit: Forward, and backward where something is learned.
        begin: Called before each try, undoes what a failed one has left behind.

    Raises:
        RunError: If memory runs out in a microbatch that cannot be divided any further.
    """
    while True:
        begin()
        results, failed = _tried(split(max_tokens_per_microbatch.value), visit)
        if failed is None:
            return results
        free_memory()
        if failed in split(1):
            raise _too_large(failed[0])
        smaller = max_tokens_per_microbatch.value
        while failed in split(smaller):
            smaller //= 2
        max_tokens_per_microbatch.lower(smaller)


def _tried(
    microbatches: Sequence[list[Rollout]], visit: Callable[[list[Rollout]], Result]
) -> tuple[list[Result], list[Rollout] | None]:
    """Results of the visits, and the micro-batch that ran out of memory, if any."""
    results: list[Result] = []
    for microbatch in microbatches:
        try:
            results.append(visit(microbatch))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return [], microbatch
    return results, None


def _too_large(rollout: Rollout) -> RunError:
    return RunError(
        "out of memory on a single completion, which no smaller max_tokens_per_microbatch divides: "
        f"example {rollout.example.id!r}, {len(rollout.completion.token_ids)} tokens after a "
        f"prompt of {len(rollout.student_ids)} for the student and {len(rollout.teacher_ids)} for "
        "the teacher. Lower sampling.max_tokens or sampling.max_prompt_tokens, or set "
        "model.activation_checkpointing: true, or with LoRA model.dtype: bfloat16"
    )


def random_state(device: torch.device) -> Callable[[], None]:
    """Note where torch's random numbers are; calling what comes back goes back there."""
    state = torch.get_rng_state()
    on_gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def restore() -> None:
        torch.set_rng_state(state)
        if on_gpu is not None:
            torch.cuda.set_rng_state(on_gpu, device)

    return restore


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Bytes that tensors made by the work hold at most at a time.

    On a GPU the allocator's own count. Elsewhere each operation's outcomes are followed until they
    are gone, which leaves out what an operation needs inside itself.
    """
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    with TensorBytes() as held:
        work()
    return held.peak


class TensorBytes(TorchDispatchMode):
    """Bytes of the tensors made inside, those that autograd saves included: ``now`` and ``peak``.

    Counted by storage, so views count once; a storage that is first seen as an input was there
    before.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = self.now = 0
        self._seen: Any = WeakIdKeyDictionary()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        for storage in _storages((args, kwargs)):
            self._seen.setdefault(storage, None)
        made = func(*args, **(kwargs or {}))
        for storage in _storages(made):
            if storage not in self._seen:
                self._seen[storage] = _Counted(self, storage.nbytes())
        return made

    def add(self, num_bytes: int) -> None:
        """Tensors were made, or are gone."""
        self.now += num_bytes
        self.peak = max(self.peak, self.now)


class _Counted:
    """A storage's bytes, counted as long as this object lives."""

    def __init__(self, held: TensorBytes, num_bytes: int) -> None:
        self._held, self._num_bytes = held, num_bytes
        held.add(num_bytes)

    def __del__(self) -> None:
        self._held.add(-self._num_bytes)


def _storages(values: object) -> Iterator[torch.UntypedStorage]:
    for value in tree_iter(values):
        if isinstance(value, Tensor):
            yield value.untyped_storage()


def free_bytes(device: torch.device) -> float:
    """Bytes that tensors on a device may still take."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = float(psutil.virtual_memory().available)
    group = Path("/proc/self/cgroup")
    for line in group.read_text().splitlines() if group.is_file() else ():
        if line.startswith("0::/"):
            free = min(free, cgroup_free_bytes(Path("/sys/fs/cgroup"), line.removeprefix("0::/")))
    return free


def cgroup_free_bytes(root: Path, group: str) -> float:
    """Bytes that a control group and those around it (cgroup v2) leave free; infinite: no limit.

    Pages of files that were read are given back when memory is short, so they count as free.

    Args:
        root: Where the groups are mounted.
        group: The group's path below it.
    """
    free = float("inf")
    for folder in (root / group, *(root / group).parents):
        if not folder.is_relative_to(root):
            break
        # A file is missing at the root, and where the group is mounted elsewhere.
        with contextlib.suppress(OSError):
            limit = (folder / "memory.max").read_text().strip()
            used = int((folder / "memory.current").read_text())
            stat = (folder / "memory.stat").read_text().split()
            pages = int(stat[stat.index("inactive_file") + 1])
            if limit != "max":
                free = min(free, int(limit) - used + pages)
    return max(0.0, free)
