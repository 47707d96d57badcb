"""The processes of one run: rank, world size, collectives that propagate a failure, and SIGTERM."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from rcsd.errors import LostRankError, OtherRankError, RunError

GRACE_SECONDS = 600
"""Time to save a checkpoint after SIGTERM; a scheduler's patience may be less."""

_PARENT_POLL_SECONDS = 0.5


class Terminated(SystemExit):
    """The run was asked to end by a signal; what it has done so far is saved."""

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__(128 + number)


class Interrupts:
    """SIGTERM, SIGHUP and Ctrl-C set a flag, which is acted on only between optimizer steps.

    Inside `safe_to_stop` the weights are those of a whole number of steps. There the request is
    acted on by `check`, such as before each micro-batch, and at once inside `interruptible`, where
    nothing has to be put back, as while completions are sampled. ``only_at_collectives``: only
    where all processes meet, for passes that take all processes, and that none may leave half-way.
    """

    def __init__(self, only_at_collectives: bool = False) -> None:
        self.requested = False
        self.signal: int = signal.SIGTERM
        self._is_safe = self._is_interruptible = False
        self._only_at_collectives = only_at_collectives

    @contextmanager
    def handling_signals(self) -> Iterator[None]:
        """Inside, signals set the flag; Python lets only a main thread handle signals."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
        heeded = [n for n in numbers if signal.getsignal(n) != signal.SIG_IGN]  # nohup ignores one
        before: dict[int, Any] = {n: signal.signal(n, self._on_signal) for n in heeded}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            outer = getattr(before.get(self.signal), "__self__", None)
            if self.requested and isinstance(outer, Interrupts):  # a pipeline around the run
                outer._on_signal(self.signal, None)

    @contextmanager
    def safe_to_stop(self, is_safe: bool = True) -> Iterator[None]:
        """Inside, the request may be acted on."""
        before, self._is_safe = self._is_safe, is_safe
        try:
            yield
        finally:
            self._is_safe = before

    @contextmanager
    def interruptible(self, is_allowed: bool = True) -> Iterator[None]:
        """Act on the request between any two instructions, where it is safe to stop.

        Raises Terminated when the request is made, or if it was made before.
        """
        before, self._is_interruptible = self._is_interruptible, is_allowed
        try:
            if is_allowed:
                self.check()
            yield
        finally:
            self._is_interruptible = before

    def check(self, at_collective: bool = False) -> None:
        """Act on a request, where it is safe to stop; Terminated if a request was made."""
        if self.requested and self._is_safe and (at_collective or not self._only_at_collectives):
            raise Terminated(self.signal)

    def _on_signal(self, number: int, _: object) -> None:
        if self.requested and number == signal.SIGINT:  # a second Ctrl-C does not wait
            raise KeyboardInterrupt
        is_first, self.requested = not self.requested, True
        self.signal = number if is_first else self.signal
        if self._is_interruptible and is_first:
            self.check()


def end_with_parent(parent: int) -> None:
    """Kill this process once its parent is gone, however that ended.

    An orphan gets another parent. ``parent`` is the parent's process id.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="rcsd-parent", daemon=True).start()


def exit_in_words(code: int) -> str:
    """End of a process by its exit code: "was ended by signal 9 (SIGKILL), ..."."""
    number = -code if code < 0 else code - 128  # of a shell, and of `Terminated`
    if number not in set(signal.Signals):
        return f"ended with exit code {code}"
    why = ", probably for want of memory" if number == signal.SIGKILL else ""
    return f"was ended by signal {number} ({signal.Signals(number).name}){why}"


Result = TypeVar("Result")


class Ranks:
    """Rank and world size, with collectives that propagate a failure on one rank to all others.

    All ranks call the same collectives in the same order, whatever the data. A rank that fails
    sends its error in place of its result at the next collective, so nobody waits for it, and every
    process ends; so does a request to end. ``lockstep``: each pass of the model takes all
    processes, as over sharded weights.
    """

    def __init__(
        self,
        rank: int = 0,
        world_size: int = 1,
        interrupts: Interrupts | None = None,
        lockstep: bool = False,
    ) -> None:
        self.rank, self.world_size, self.lockstep = rank, world_size, lockstep
        self.interrupts = interrupts or Interrupts()
        self.is_broken = False
        """True if a rank left amid a collective; closing the process group would wait for it."""
        self._announced: BaseException | None = None

    @property
    def is_main(self) -> bool:
        """True on the process that writes the files and talks to the user."""
        return self.rank == 0

    def share(self, num_items: int) -> slice:
        """This rank's items: consecutive, of sizes that differ by one at most."""
        return slice(*(num_items * r // self.world_size for r in (self.rank, self.rank + 1)))

    def padded(self, items: Sequence[Result], filler: Result) -> list[tuple[Result, bool]]:
        """Items padded to the largest number on any rank, and a flag for those that count."""
        num = max(self.all_gather(len(items)))
        return [*((item, True) for item in items), *[(filler, False)] * (num - len(items))]

    def all_gather_results(
        self, work: Callable[[], Result], has_collectives: bool = False
    ) -> list[Result]:
        """Run the work on every rank; returns all results, by rank.

        Where the work has collectives of its own, as passes over sharded weights do, a failure
        cannot be sent: others learn of it by the process's end.

        Raises:
            OtherRankError: If another rank failed. An error of this rank is raised as it is.
            Terminated: If a rank was asked to end.
            LostRankError: If a rank does not answer.
        """
        if self.world_size == 1:
            return [work()]
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:
            if self._announced is not None:
                raise  # the others know already
            if has_collectives:
                self._announced, self.is_broken = error, True  # the others are amid the work
                raise (_lost(error) if _is_lost(error) else error) from error
            failure = error
        try:
            self.interrupts.check(at_collective=True)
        except Terminated as request:
            failure = failure or request
        with self.interrupts.interruptible(False):
            answers = self._exchange((result, _message(failure)), failure)
        failed = {rank: message for rank, (_, message) in enumerate(answers) if message is not None}
        if not failed:
            return [value for value, _ in answers]
        if failure is None or (self.rank > 0 and failed.get(0) == _message(failure)):
            rank, message = next(((r, m) for r, m in failed.items() if m), (0, ""))
            text = f"process {rank} failed, so this one ends too: {message}"
            self._announced = OtherRankError(text) if message else Terminated()
            raise self._announced from failure
        self._announced = failure
        raise failure

    def all_gather(self, value: Result) -> list[Result]:
        """Each rank's value, by rank."""
        return self.all_gather_results(lambda: value)

    def on_main(self, work: Callable[[], Result]) -> Result:
        """Run the work on the main rank alone; returns its result on every rank."""
        return self.all_gather_results(lambda: work() if self.is_main else None)[0]  # pyright: ignore[reportReturnType]

    def assert_same_on_all_ranks(self, facts: Mapping[str, object]) -> None:
        """Refuse to go on where ranks have different data, templates or weights.

        Raises RunError naming what differs.
        """
        all_facts = self.all_gather(facts)
        for name in facts:
            other = next((r for r, f in enumerate(all_facts) if f[name] != all_facts[0][name]), 0)
            if other:
                raise RunError(
                    f"{name}: processes 0 and {other} have different ones; all must read the same "
                    "files, so check that every machine has the same versions of them"
                )

    def all_reduce_sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor, which must be contiguous, by its sum over all ranks.

        Raises LostRankError if a rank does not answer.
        """
        if self.world_size == 1:
            return
        try:
            for begun in [dist.all_reduce(tensor, async_op=True) for tensor in tensors]:
                assert begun is not None  # it is for processes outside of the group
                begun.wait()
        except RuntimeError as error:
            raise _lost(error) from error

    def barrier(self) -> None:
        """Wait until all ranks are here, also those that end."""
        if self.world_size > 1:
            self._exchange(None, None)

    def _exchange(self, value: Any, failure: BaseException | None) -> list[Any]:
        answers: list[Any] = [None] * self.world_size
        try:
            dist.all_gather_object(answers, value)
        except RuntimeError as error:
            self.is_broken = True
            # Where the others are gone already, what failed here is what the user must know.
            raise failure or _lost(error) from error
        return answers


def _message(failure: BaseException | None) -> str | None:
    """The failure as other ranks get it: None: there is none; empty: a request to end."""
    if failure is None or isinstance(failure, Terminated):
        return None if failure is None else ""
    return f"{type(failure).__name__}: {failure}"


def _is_lost(error: BaseException) -> bool:
    """True if a process went away: NCCL's errors have a type, gloo's a word."""
    is_gloo = isinstance(error, RuntimeError) and "gloo" in str(error).lower()
    return is_gloo or isinstance(error, dist.DistError)


def _lost(error: BaseException) -> LostRankError:
    return LostRankError(
        "another process does not answer: it ended, or took longer than "
        f"processes.timeout_seconds; its own output says why ({error})"
    )


def local(tensor: Tensor) -> Tensor:
    """The rows of a tensor that this process has: all, where it is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
