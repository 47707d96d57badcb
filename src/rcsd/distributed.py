"""The processes of one run: rank, world size, collectives that propagate a failure, and SIGTERM."""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from rcsd.errors import LostRankError, OtherRankError, RunError

EXIT_CODE = 128 + signal.SIGTERM
"""143, as of a program that SIGTERM ended."""


class Terminated(SystemExit):
    """The run was asked to end; what it has done so far is saved."""

    def __init__(self) -> None:
        super().__init__(EXIT_CODE)


class Interrupts:
    """When the request to end is heard.

    Only in a window, where the weights are those of a whole number of steps: there by whoever calls
    `refuse`, such as before each part that is learned from, and at once within `anywhere`, where
    nothing has to be put back, as while completions are sampled. Else by who looks at `asked`.

    Args:
        at_exchanges: Only where all processes meet, also in a window: for passes that take all
            processes, and that none may leave half-way.
    """

    def __init__(self, at_exchanges: bool = False) -> None:
        self.asked = False
        self._is_open = self._is_anywhere = False
        self._at_exchanges = at_exchanges

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Inside, SIGTERM is heard; only a process's main thread can be told of signals."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self._hear)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    @contextmanager
    def window(self, is_open: bool = True) -> Iterator[None]:
        """Inside, the request may be answered."""
        before, self._is_open = self._is_open, is_open
        try:
            yield
        finally:
            self._is_open = before

    @contextmanager
    def anywhere(self, is_allowed: bool = True) -> Iterator[None]:
        """Inside a window, the request is answered between any two instructions, or is not.

        Raises:
            Terminated: When it is made, or if it was made before.
        """
        before, self._is_anywhere = self._is_anywhere, is_allowed
        try:
            if is_allowed:
                self.refuse()
            yield
        finally:
            self._is_anywhere = before

    def refuse(self, at_exchange: bool = False) -> None:
        """Do not go on where a request was made, in a window.

        Args:
            at_exchange: Whether all processes meet here.

        Raises:
            Terminated: If so.
        """
        if self.asked and self._is_open and (at_exchange or not self._at_exchanges):
            raise Terminated

    def _hear(self, *_: object) -> None:
        is_first, self.asked = not self.asked, True
        if self._is_anywhere and is_first:
            self.refuse()


Found = TypeVar("Found")


class Ranks:
    """Who takes which share, and how all learn what each has found.

    All processes make the same exchanges in the same order, whatever the data. Where something
    fails in one of them, it tells so in place of what it found, at whichever exchange comes next;
    so nobody waits for it, and every process ends.

    Args:
        rank: Of this process, counted from 0.
        num: Of processes.
        interrupts: Asked to end in one process, all end.
        lockstep: Whether each pass of the model takes all processes, as over sharded weights.
    """

    def __init__(
        self,
        rank: int = 0,
        num: int = 1,
        interrupts: Interrupts | None = None,
        lockstep: bool = False,
    ) -> None:
        self.rank, self.num, self.lockstep = rank, num, lockstep
        self.interrupts = interrupts or Interrupts()
        self.is_broken = False
        """Whether one left the others amid an exchange; to close the group would wait for it."""
        self._told: BaseException | None = None

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and talks to the user."""
        return self.rank == 0

    def share(self, num_items: int) -> slice:
        """This process's items: consecutive, of sizes that differ by one at most."""
        return slice(num_items * self.rank // self.num, num_items * (self.rank + 1) // self.num)

    def padded(self, parts: Sequence[Found], filler: Found) -> list[tuple[Found, bool]]:
        """As many parts in every process as the one with the most has, and whether each counts.

        For passes in which all processes take part.
        """
        num = max(self.gather(len(parts)))
        fillers = [(filler, False)] * (num - len(parts))
        return [*((part, True) for part in parts), *fillers]

    def together(self, work: Callable[[], Found], meets: bool = False) -> list[Found]:
        """What the work gives in each process, by rank.

        Args:
            work: Done in every process.
            meets: Whether the work itself has exchanges, as passes over sharded weights do. The
                others cannot be told then of a failure, and learn of it by the process's end.

        Raises:
            OtherRankError: If it failed in another one. What failed here is raised as it is.
            Terminated: If a process was asked to end.
            LostRankError: If a process does not answer.
        """
        if self.num == 1:
            return [work()]
        found, failure = None, None
        try:
            found = work()
        except BaseException as error:
            if self._told is not None:
                raise  # the others know already
            if meets:
                self._told, self.is_broken = error, True  # the others are amid the work
                raise (_lost(error) if _is_lost(error) else error) from error
            failure = error
        try:
            self.interrupts.refuse(at_exchange=True)
        except Terminated as request:
            failure = failure or request
        with self.interrupts.anywhere(False):
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
        """Put the sum over all ranks in the place of each tensor, which must be contiguous.

        Raises:
            LostRankError: If a process does not answer.
        """
        if self.num == 1:
            return
        try:
            for begun in [dist.all_reduce(tensor, async_op=True) for tensor in tensors]:
                assert begun is not None  # it is for processes outside of the group
                begun.wait()
        except RuntimeError as error:
            raise _lost(error) from error

    def wait(self) -> None:
        """Until all are here, also those that end."""
        if self.num > 1:
            self._exchanged(None, None)

    def _exchanged(self, own: Any, failure: BaseException | None) -> list[Any]:
        answers: list[Any] = [None] * self.num
        try:
            dist.all_gather_object(answers, own)
        except RuntimeError as error:
            self.is_broken = True
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


def _is_lost(error: BaseException) -> bool:
    """Whether a process went away: NCCL's errors have a type, gloo's a word."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error).lower()
    )


def _lost(error: BaseException) -> LostRankError:
    return LostRankError(
        "another process does not answer: it ended, or took longer than "
        f"processes.timeout_seconds; its own output says why ({error})"
    )


def local(tensor: Tensor) -> Tensor:
    """The rows of a tensor that this process has: all, where it is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
