"""Mathematics by latex2sympy and sympy, in processes that can be killed.

A call of sympy may never return or take all memory, and no thread can be ended. So workers
(`worker`) serve the process and its threads, each one task at a time. One is started when first
needed, more while all are busy, up to `MAX_WORKERS`; one whose task takes too long is killed, and
started again when it is needed. What takes too long is ungraded.
"""

import atexit
import functools
import multiprocessing
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from rcsd.errors import RunError
from rcsd.graders.answers.normalize import MAX_CHARACTERS

MAX_SECONDS, MAX_START_SECONDS = 5.0, 120.0
"""Time limits of a task, and of importing sympy on a machine that is busy."""
MAX_WORKERS, MAX_WAIT_SECONDS = 8, 0.5
"""Processes, and how long a task waits for one that is busy before another is started."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Worker:
    """A process that does mathematics, one task at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def run(self, *task: str, seconds: float) -> tuple[Any, str]:
        """Result of a task and its reason; the result is None where it took too long, or too much.

        Raises RunError if the worker cannot be started.
        """
        for _ in range(2):  # something else may have killed it since its last task
            connection = self._connection or self._start()
            try:
                connection.send((*task, seconds))
                if connection.poll(seconds):
                    return connection.recv()
                self.stop()
                return None, f"it takes more than {seconds:g} s to work out"
            except (EOFError, OSError):
                self.stop()
        return None, "it takes too much memory or time to work out"

    def _start(self) -> Connection:
        connection, theirs = multiprocessing.Pipe()
        # The worker finds packages where this process does, however its path was set.
        paths = os.pathsep.join(path for path in sys.path if path)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "rcsd.graders.answers.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": ""},
            )
        self._connection = connection
        try:
            is_started = connection.poll(MAX_START_SECONDS) and connection.recv()
        except (EOFError, OSError):
            is_started = False
        if not is_started:
            self.stop()
            raise RunError(
                "the process that compares mathematical answers does not start; try "
                f"'{sys.executable} -m rcsd.graders.answers.worker 1' to see why"
            )
        return connection

    def stop(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self.forget()

    def forget(self) -> None:
        """Close this side's end of the pipe: the worker ends when nobody holds one."""
        if self._process is not None:
            self._process.returncode = self._process.returncode or 0  # a fork has no such child
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None


class Pool:
    """Workers for any number of threads; a task takes one that is free, the last used first."""

    def __init__(self) -> None:
        self.workers: list[Worker] = []
        self._free: queue.LifoQueue[Worker] = queue.LifoQueue()
        self._lock = threading.Lock()

    def run(self, *task: str, seconds: float) -> tuple[Any, str]:
        """Result of a task and its reason, by `Worker.run` of a free worker."""
        worker = self._take()
        try:
            return worker.run(*task, seconds=seconds)
        finally:
            self._free.put(worker)

    def _take(self) -> Worker:
        try:
            return self._free.get(timeout=MAX_WAIT_SECONDS if self.workers else 0.001)
        except queue.Empty:
            with self._lock:
                if len(self.workers) < MAX_WORKERS:
                    self.workers.append(Worker())
                    return self.workers[-1]
            return self._free.get()

    def stop(self) -> None:
        """End all processes."""
        for worker in self.workers:
            worker.stop()


_pool = Pool()


def _forget() -> None:
    """Leave the workers to the parent: a forked process must not write into their pipes."""
    global _pool
    for worker in _pool.workers:
        worker.forget()
    _pool = Pool()  # the lock of the other may be held by a thread that is not here
    _run.cache_clear()


atexit.register(lambda: _pool.stop())
os.register_at_fork(after_in_child=_forget)


def in_parallel(grade_one: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
    """Results in order of the items; some that take too long cost about as much as one."""
    with ThreadPoolExecutor(MAX_WORKERS) as threads:
        return list(threads.map(grade_one, items))


@functools.lru_cache(maxsize=4096)
def _run(task: str, first: str, second: str, seconds: float) -> tuple[Any, str]:
    if max(len(first), len(second)) > MAX_CHARACTERS:
        return None, f"it is longer than {MAX_CHARACTERS} characters"
    return _pool.run(task, first, second, seconds=seconds)


def evaluate(text: str) -> tuple[float | None, str]:
    """Value of an expression without variables, and how it came; None: it has none.

    Raises RunError if the worker cannot be started.
    """
    value, reason = _run("value", text, "", MAX_SECONDS)
    return value, reason if value is not None else f"{text.strip()[:60]!r}: {reason}"


def compare_expressions(answer: str, reference: str) -> tuple[bool | None, str]:
    """Verdict on the equality of two expressions, and why; None: it cannot be told.

    Raises RunError if the worker cannot be started.
    """
    if "".join(answer.split()) == "".join(reference.split()):
        return True, "written as the reference"
    verdict, reason = _run("equal", reference, answer, MAX_SECONDS)
    return verdict, reason if verdict is not None else f"cannot be compared: {reason}"
