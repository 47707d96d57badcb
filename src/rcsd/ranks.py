"""The processes of one run: each has a rank, and they meet at few points, always the same ones."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from rcsd.errors import LostRankError, OtherRankError, RunError
from rcsd.interrupts import Interrupts, Terminated

Found = TypeVar("Found")

BUCKET_ENTRIES = 2**25
"""Numbers that are summed over ranks in one exchange."""


class Ranks:
    """Who takes which share, and how all learn what each has found.

    All processes make the same exchanges in the same order, whatever the data. Where something
    fails in one of them, it tells so in place of what it found, at whichever exchange comes next;
    so nobody waits for it, and every process ends.

    Args:
        rank: Of this process, counted from 0.
        num: Of processes.
        interrupts: Asked to end in one process, all end.
        meets_within_work: Whether the work of `together` holds exchanges of its own that cannot be
            left half-way, as passes over sharded weights do. A failure there is told by the
            process's end.
    """

    def __init__(
        self,
        rank: int = 0,
        num: int = 1,
        interrupts: Interrupts | None = None,
        meets_within_work: bool = False,
    ) -> None:
        self.rank, self.num = rank, num
        self.interrupts = interrupts or Interrupts()
        self._meets_within_work = meets_within_work
        self._told: BaseException | None = None

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and talks to the user."""
        return self.rank == 0

    def share(self, num_items: int) -> slice:
        """This process's items: consecutive, of sizes that differ by one at most."""
        return slice(num_items * self.rank // self.num, num_items * (self.rank + 1) // self.num)

    def together(self, work: Callable[[], Found]) -> list[Found]:
        """What the work gives in each process, by rank.

        Raises:
            OtherRankError: If it failed in another one. What failed here is raised as it is.
            Terminated: If a process was asked to end.
            LostRankError: If a process does not answer.
        """
        if self.num == 1:
            return [work()]
        found, failure = None, None
        try:
            with self.interrupts.window(False) if self._meets_within_work else nullcontext():
                found = work()
            self.interrupts.refuse()
        except BaseException as error:
            if self._told is not None:
                raise  # the others know already
            failure = error
        if failure is not None and self._meets_within_work and not isinstance(failure, Terminated):
            raise failure
        with self.interrupts.window(False):
            answers = self._exchanged((found, _words(failure)), failure)
        failed = {rank: words for rank, (_, words) in enumerate(answers) if words is not None}
        if not failed:
            return [value for value, _ in answers]
        if failure is None or (self.rank > 0 and failed.get(0) == _words(failure)):
            self._told = _told(failed)
            raise self._told from failure
        self._told = failure
        raise failure

    def gather(self, value: Found) -> list[Found]:
        """Each process's value, by rank."""
        return self.together(lambda: value)

    def from_main(self, work: Callable[[], Found]) -> Found:
        """What the work gives in the main process, which alone does it."""
        return self.together(lambda: work() if self.is_main else None)[0]  # pyright: ignore[reportReturnType]

    def refuse_differences(self, facts: Mapping[str, object]) -> None:
        """Refuse to go on where processes do not have the same data, words or weights.

        Raises:
            RunError: Naming what differs.
        """
        all_facts = self.gather(facts)
        for name in facts:
            other = next((r for r, f in enumerate(all_facts) if f[name] != all_facts[0][name]), 0)
            if other:
                raise RunError(
                    f"{name}: processes 0 and {other} have different ones; all must read the same "
                    "files, so check that every machine has the same versions of them"
                )

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Put the sum over all ranks in the place of each tensor.

        Raises:
            LostRankError: If a process does not answer.
        """
        if self.num == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.flatten() for tensor in bucket])
            with self.interrupts.window(False):
                try:
                    dist.all_reduce(flat)
                except RuntimeError as error:
                    raise _lost(error) from error
            summed = flat.split([tensor.numel() for tensor in bucket])
            for tensor, values in zip(bucket, summed, strict=True):
                tensor.copy_(values.view_as(tensor))

    def _exchanged(self, own: Any, failure: BaseException | None) -> list[Any]:
        answers: list[Any] = [None] * self.num
        try:
            dist.all_gather_object(answers, own)
        except RuntimeError as error:
            # Where the others are gone already, what failed here is what the user must know.
            raise failure or _lost(error) from error
        return answers


def _words(failure: BaseException | None) -> str | None:
    if failure is None or isinstance(failure, Terminated):
        return None if failure is None else ""
    return f"{type(failure).__name__}: {failure}"


def _told(failed: Mapping[int, str]) -> BaseException:
    rank, words = next(((r, w) for r, w in failed.items() if w), (0, ""))
    if not words:
        return Terminated()
    return OtherRankError(f"process {rank} failed, so this one ends too: {words}")


def _lost(error: Exception) -> LostRankError:
    return LostRankError(
        "another process does not answer: it ended, or took longer than "
        f"processes.timeout_seconds; its own output says why ({error})"
    )


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors of one type, up to `BUCKET_ENTRIES` numbers; a larger one by itself."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        is_other = bool(bucket) and tensor.dtype != bucket[0].dtype
        if bucket and (is_other or size + tensor.numel() > BUCKET_ENTRIES):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.numel()
    if bucket:
        yield bucket
