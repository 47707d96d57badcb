"""Memory that may run out: limits that shrink, and the bytes that tensors hold."""

import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

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


@dataclass
class AdaptiveLimit:
    """A size that is lowered where memory runs out, and never raised again.

    All who go by it share the object; a checkpoint keeps its value. The names are of metrics.
    """

    value: int
    name: str
    failures_name: str
    num_failures: int = 0

    def lower(self, value: int) -> None:
        """Count a failure, and go on with a smaller size."""
        self.value = value
        self.num_failures += 1

    def follow(self, other: "AdaptiveLimit") -> None:
        """Take over the value and the failures of a limit of the same kind, which forgets them."""
        self.value = min(self.value, other.value)
        self.num_failures += other.num_failures
        other.num_failures = 0

    def metrics(self, ranks: Ranks) -> dict[str, float]:
        """Smallest size and all failures of the ranks since the last call; empty without any."""
        failures, self.num_failures = self.num_failures, 0
        values, counts = zip(*ranks.all_gather((self.value, failures)), strict=True)
        if sum(counts) == 0:
            return {}
        return {self.name: float(min(values)), self.failures_name: float(sum(counts))}


def microbatch_limit(max_tokens_per_microbatch: int) -> AdaptiveLimit:
    """Tokens of one forward and backward pass."""
    names = "memory/max_tokens_per_microbatch", "memory/out_of_memory_count"
    return AdaptiveLimit(max_tokens_per_microbatch, *names)


def batch_limit(batch_size: int) -> AdaptiveLimit:
    """Prompts that are generated together."""
    names = "memory/sampling_batch_size", "memory/sampling_out_of_memory_count"
    return AdaptiveLimit(batch_size, *names)


def is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """True if a device or the host ran out of memory, for which oneDNN has words of its own."""
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or str(error) == "could not create a primitive"
        or should_reduce_batch_size(error)
    )


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

    Processes with fewer micro-batches visit the filler instead, as small as there is; ``visit`` is
    given False for it, and it does not count. Raises RunError if memory runs out: no process can
    learn a micro-batch anew without the others.
    """
    try:
        results = [
            (visit(microbatch, counts), counts)
            for microbatch, counts in ranks.padded(microbatches, filler)
        ]
    except (RuntimeError, MemoryError) as error:
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

    The limit is halved until there is no micro-batch like the one that failed. ``split`` divides
    into micro-batches of at most so many tokens; ``begin`` is called before each try, and undoes
    what a failed one has left behind. Raises RunError if memory runs out in a micro-batch that
    cannot be divided any further.
    """
    while True:
        begin()
        results: list[Result] = []
        failed: list[Rollout] | None = None
        for microbatch in split(max_tokens_per_microbatch.value):
            try:
                results.append(visit(microbatch))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                failed = microbatch
                break
        if failed is None:
            return results
        results.clear()
        free_memory()
        if failed in split(1):
            rollout = failed[0]
            raise RunError(
                "out of memory on a single completion, which no smaller max_tokens_per_microbatch "
                f"divides: example {rollout.example.id!r}, {len(rollout.completion.token_ids)} "
                f"tokens after a prompt of {len(rollout.student_ids)} for the student and "
                f"{len(rollout.teacher_ids)} for the teacher. Lower sampling.max_tokens or "
                "sampling.max_prompt_tokens, or set model.activation_checkpointing: true, or with "
                "LoRA model.dtype: bfloat16"
            )
        smaller = max_tokens_per_microbatch.value
        while failed in split(smaller):
            smaller //= 2
        max_tokens_per_microbatch.lower(smaller)


def random_state(device: torch.device) -> Callable[[], None]:
    """Note where torch's random numbers are; calling what comes back goes back there."""
    state = torch.get_rng_state()
    on_gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def restore() -> None:
        torch.set_rng_state(state)
        if on_gpu is not None:
            torch.cuda.set_rng_state(on_gpu, device)

    return restore


class TensorBytes(TorchDispatchMode):
    """Bytes of the tensors made inside, those that autograd saves included: ``now`` and ``peak``.

    Counted by storage, so views count once; one that is first seen as an input was there before.
    Without what an operation needs inside itself.
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
                self._seen[storage] = True
                self._add(storage.nbytes())
                weakref.finalize(storage, self._add, -storage.nbytes())
        return made

    def _add(self, num_bytes: int) -> None:
        self.now += num_bytes
        self.peak = max(self.peak, self.now)


def _storages(values: object) -> Iterator[torch.UntypedStorage]:
    return (value.untyped_storage() for value in tree_iter(values) if isinstance(value, Tensor))
