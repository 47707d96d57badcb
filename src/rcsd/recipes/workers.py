"""Steps that depend on each other, run in order, several at a time in separate processes."""

import graphlib
import multiprocessing
import os
import select
import signal
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import torch
from transformers.utils import logging

from rcsd.distributed import GRACE_SECONDS, Interrupts, end_with_parent, exit_in_words
from rcsd.errors import RunError, UserError
from rcsd.io import FAULTS
from rcsd.types import Progress

StepProgress = Callable[[int, int, str], None]
"""Callback of one step: number done, total, note."""


class Step(NamedTuple):
    """A call whose results are on disk, after the steps that it needs by name.

    It leaves the files and folders ``makes`` atomically; where all exist, it is skipped. The call
    is a module-level function of a `StepProgress` and the arguments.
    """

    name: str
    needs: Sequence[str]
    makes: Sequence[Path]
    call: Callable[..., None]
    arguments: Sequence[Any] = ()


def run_steps(steps: Sequence[Step], jobs: int, progress: Progress) -> None:
    """Run all steps, each after those that it needs, the first of those that can run first.

    One job runs in this process; several, in processes of one thread each, which import the main
    module anew, so a script needs its ``__main__`` guard. They end with this process, however it
    ends: on a signal or an error they get SIGTERM, at which a training saves, and after
    `GRACE_SECONDS` SIGKILL.

    Raises:
        UserError: The first that a step raises; finished steps stay. A RunError that names the step
            and the signal where its process was killed.
        Terminated: After SIGTERM, SIGHUP or Ctrl-C.
    """
    interrupts = Interrupts()
    with interrupts.handling_signals(), interrupts.safe_to_stop():
        if jobs == 1:
            waiting: list[Step] = []
            with interrupts.interruptible():
                _run_all(steps, 1, progress, waiting.append, partial(_run_here, waiting, progress))
            return
        workers = _Workers(progress, interrupts)
        try:
            _run_all(steps, jobs, progress, workers.start, workers.wait)
        finally:
            workers.end()


def _run_all(
    steps: Sequence[Step],
    jobs: int,
    progress: Progress,
    start: Callable[[Step], None],
    wait: Callable[[], Sequence[str]],
) -> None:
    """Start steps as they become ready; ``wait`` returns the names of some that have ended."""
    by_name = {step.name: step for step in steps}
    preference = list(by_name)
    graph = graphlib.TopologicalSorter({step.name: step.needs for step in steps})
    graph.prepare()
    ready: list[str] = []
    num_running = 0
    while graph.is_active():
        for name in sorted(graph.get_ready(), key=preference.index):
            makes = by_name[name].makes
            if makes and all(path.exists() for path in makes):
                progress(name, 1, 1, "done before")
                graph.done(name)
            else:
                ready.append(name)
        ready.sort(key=preference.index)
        # No more than can run: a step that becomes ready later may be preferred to a waiting one.
        while ready and num_running < jobs:
            start(by_name[ready.pop(0)])
            num_running += 1
        ended = wait() if num_running else ()
        graph.done(*ended)
        num_running -= len(ended)


def _run_here(waiting: list[Step], progress: Progress) -> Sequence[str]:
    step = waiting.pop()
    step.call(partial(progress, step.name), *step.arguments)
    return [step.name]


class _Workers:
    """Processes that run steps, each with its own pipe: none waits for a lock of another.

    `concurrent.futures.ProcessPoolExecutor` leaves its processes behind when this one is killed,
    and waits for ever where one is killed that holds the lock of their queue.
    """

    def __init__(self, progress: Progress, interrupts: Interrupts) -> None:
        self._progress, self._interrupts = progress, interrupts
        self._processes: dict[Connection, BaseProcess] = {}
        self._steps: dict[Connection, Step] = {}

    def start(self, step: Step) -> None:
        """Run a step in a process that has none, or in a new one."""
        idle = next((of for of in self._processes if of not in self._steps), None)
        worker = idle or self._launch()
        self._steps[worker] = step
        with suppress(OSError):  # it was killed, which `wait` notices
            worker.send(step)

    def _launch(self) -> Connection:
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=_work, args=(theirs, os.getpid()))
        # Signals of a terminal go to its whole group; a worker hears of them from this process.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP))
        try:
            process.start()
            self._processes[ours] = process
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        return ours

    def wait(self) -> Sequence[str]:
        """Forward progress; names of the steps that have ended. Raises the error of a step."""
        with self._interrupts.interruptible():
            heard = wait(list(self._processes))
        ended = []
        for worker in heard:
            assert isinstance(worker, Connection)
            try:
                message = worker.recv()
            except (EOFError, OSError):
                raise self._killed(worker) from None
            if isinstance(message, Exception):
                raise message
            if message is None:
                ended.append(self._steps.pop(worker).name)
            else:
                self._progress(self._steps[worker].name, *message)
        return ended

    def _killed(self, worker: Connection) -> RunError:
        process = self._processes[worker]
        process.join(1)  # its pipe is closed, so it has ended or is about to
        step = f"step {self._steps[worker].name!r}" if worker in self._steps else "a waiting step"
        return RunError(
            f"the process of {step} {exit_in_words(process.exitcode or 0)}; run the same command "
            "again: finished steps are kept, and with jobs: 1 they run one at a time"
        )

    def end(self) -> None:
        """SIGTERM to all processes, and SIGKILL to those that stay; afterwards there are none."""
        ends = monotonic() + GRACE_SECONDS
        for worker, process in self._processes.items():
            worker.close()
            process.terminate()
        try:
            for process in self._processes.values():
                process.join(max(0.0, ends - monotonic()))
        finally:
            for process in self._processes.values():
                process.kill()
                process.join()


def _work(main: Connection, parent: int) -> None:
    """Run the steps that the main process sends, until it closes the pipe."""
    end_with_parent(parent)
    torch.set_num_threads(1)
    # A worker's progress bars would tear the main process's apart.
    logging.disable_progress_bar()

    has_room = select.poll()
    has_room.register(main, select.POLLOUT)

    def progress(*message: object) -> None:
        # Where the main process does not read, or ends, training goes on.
        if has_room.poll(0):
            with suppress(OSError):
                main.send(message)

    with suppress(EOFError, OSError):
        while True:
            step: Step = main.recv()
            try:
                step.call(progress, *step.arguments)
            except Exception as error:
                main.send(_portable(error))
            else:
                main.send(None)


def _portable(error: Exception) -> Exception:
    """An error that can be pickled; of one that is no `UserError` the traceback as text."""
    if isinstance(error, UserError) or (isinstance(error, OSError) and error.errno in FAULTS):
        return error
    return RuntimeError(f"in a worker:\n{traceback.format_exc()}")
