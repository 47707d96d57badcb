"""Steps that depend on each other, run in order, several at a time in separate processes."""

import graphlib
import multiprocessing
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers.utils import logging

from rcsd.errors import RunError
from rcsd.types import Progress

StepProgress = Callable[[int, int, str], None]
"""Callback of one step: number done, total, note."""

_messages: Any = None  # in a worker: the queue to the main process


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
    module anew, so a script needs its ``__main__`` guard.

    Raises:
        UserError: The first that a step raises, after the running ones have ended; finished steps
            stay. A RunError where a process was killed, such as for lack of memory.
    """
    if jobs == 1:
        _run_all(steps, 1, progress, partial(_run_here, progress))
        return
    spawn = multiprocessing.get_context("spawn")
    messages = spawn.SimpleQueue()

    def forward() -> None:
        while (message := messages.get()) is not None:
            progress(*message)

    listener = threading.Thread(target=forward, daemon=True)
    listener.start()
    with ProcessPoolExecutor(jobs, spawn, _start_worker, (messages,)) as pool:
        try:
            _run_all(
                steps, jobs, lambda *row: messages.put(row), partial(pool.submit, _run_in_worker)
            )
        except BrokenExecutor as error:
            raise RunError(
                "a process was killed, perhaps for lack of memory; with jobs: 1 steps run one at a "
                "time, and finished ones are not run again"
            ) from error
        finally:
            # After an error, steps that have not begun are dropped.
            pool.shutdown(cancel_futures=True)
            messages.put(None)
            listener.join()


def _run_all(
    steps: Sequence[Step], jobs: int, progress: Progress, start: Callable[[Step], Future[None]]
) -> None:
    by_name = {step.name: step for step in steps}
    preference = list(by_name)
    graph = graphlib.TopologicalSorter({step.name: step.needs for step in steps})
    graph.prepare()
    ready: list[str] = []
    running: dict[Future[None], str] = {}
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
        while ready and len(running) < jobs:
            name = ready.pop(0)
            running[start(by_name[name])] = name
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            future.result()
            graph.done(running.pop(future))


def _run_here(progress: Progress, step: Step) -> Future[None]:
    step.call(partial(progress, step.name), *step.arguments)
    done: Future[None] = Future()
    done.set_result(None)
    return done


def _start_worker(messages: Any) -> None:
    global _messages
    _messages = messages
    torch.set_num_threads(1)
    # A worker's progress bars would tear the main process's apart.
    logging.disable_progress_bar()


def _run_in_worker(step: Step) -> None:
    step.call(lambda *message: _messages.put((step.name, *message)), *step.arguments)
