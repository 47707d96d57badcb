"""Steps that need each other, run in order, several at a time in processes of their own."""

import graphlib
import multiprocessing
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from transformers.utils import logging

from rcsd.errors import RunError
from rcsd.types import Progress

Item = TypeVar("Item")
Made = TypeVar("Made")

_news: Any = None


@dataclass(frozen=True)
class Step:
    """A call whose outcome is on disk.

    Args:
        name: Shown in the progress.
        needs: Names of the steps that must be done before.
        call: A function of a module, so that another process finds it; its first argument is a
            `Progress`.
        arguments: The rest of its arguments.
    """

    name: str
    needs: tuple[str, ...]
    call: Callable[..., None]
    arguments: tuple[Any, ...]


def run_steps(steps: Sequence[Step], jobs: int, progress: Progress) -> None:
    """Run all steps, each after those that it needs.

    Args:
        steps: In the order in which they are preferred where several could run.
        jobs: 1 runs them here; more, so many at a time in processes of one thread each. Such
            processes import the main module anew, so a script needs its ``__main__`` guard.
        progress: Told of every step's progress.

    Raises:
        UserError: The first that a step raised, once the others that run have ended; what is
            finished stays. A RunError where a process was killed, as for want of memory.
    """
    graph = graphlib.TopologicalSorter({step.name: step.needs for step in steps})
    graph.prepare()
    if jobs == 1:
        _run_here(steps, graph, progress)
        return
    spawn = multiprocessing.get_context("spawn")
    news = spawn.SimpleQueue()
    teller = threading.Thread(target=_tell, args=(news, progress), daemon=True)
    teller.start()
    with ProcessPoolExecutor(jobs, spawn, _start_worker, (news,)) as pool:
        try:
            _run_in_pool(steps, graph, pool, jobs)
        except BrokenExecutor as error:
            raise RunError(
                "a process was killed, perhaps for want of memory; with jobs: 1 steps run one at a "
                "time, and what is done is not done again"
            ) from error
        finally:
            # After an error: what has not begun is not begun any more.
            pool.shutdown(cancel_futures=True)
            news.put(None)
            teller.join()


def _run_here(
    steps: Sequence[Step], graph: "graphlib.TopologicalSorter[str]", progress: Progress
) -> None:
    by_name = {step.name: step for step in steps}
    while graph.is_active():
        for name in _in_order(steps, graph.get_ready()):
            by_name[name].call(progress, *by_name[name].arguments)
            graph.done(name)


def _run_in_pool(
    steps: Sequence[Step],
    graph: "graphlib.TopologicalSorter[str]",
    pool: ProcessPoolExecutor,
    jobs: int,
) -> None:
    by_name = {step.name: step for step in steps}
    ready: list[str] = []
    running: dict[Future[None], str] = {}
    while graph.is_active():
        ready = _in_order(steps, [*ready, *graph.get_ready()])
        # No more than can run: a step that becomes ready later may be preferred to one that waits.
        while ready and len(running) < jobs:
            name = ready.pop(0)
            running[pool.submit(_run_in_worker, by_name[name])] = name
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            future.result()
            graph.done(running.pop(future))


def _in_order(steps: Sequence[Step], ready: Collection[str]) -> list[str]:
    return [step.name for step in steps if step.name in ready]


def _tell(news: Any, progress: Progress) -> None:
    while (message := news.get()) is not None:
        progress(*message)


def _start_worker(news: Any) -> None:
    global _news
    _news = news
    torch.set_num_threads(1)
    # A worker's own bars would tear the ones apart that tell of all workers.
    logging.disable_progress_bar()


def _run_in_worker(step: Step) -> None:
    def progress(stage: str, done: int, total: int, note: str) -> None:
        _news.put((stage, done, total, note))

    step.call(progress, *step.arguments)


def in_order(
    call: Callable[[Item], Made], items: Iterable[Item], num_at_once: int
) -> Iterator[tuple[Item, Made]]:
    """Each item and what the call makes of it, in order, several calls at a time.

    Args:
        call: For several at a time, a function that threads can share.
        items: Taken one by one, when there is room for another call.
        num_at_once: Calls at a time; 1 makes them in this thread.
    """
    if num_at_once == 1:
        yield from ((item, call(item)) for item in items)
        return
    with ThreadPoolExecutor(num_at_once, "rcsd-in-order") as pool:
        waiting = deque[tuple[Item, Future[Made]]]()
        for item in items:
            waiting.append((item, pool.submit(call, item)))
            # One more than can run, so that nobody idles while the oldest is waited for.
            if len(waiting) > num_at_once:
                first, made = waiting.popleft()
                yield first, made.result()
        for item, made in waiting:
            yield item, made.result()
