"""Process in which mathematics is done, so that it can be killed at any time.

It receives ``("equal", reference, answer, seconds)`` over the pipe whose file descriptor is its
argument, and sends back ``(verdict or None, reason)``; or ``("value", text, "", seconds)``, and
sends back ``(number or None, reason)``. It sends True once when it is ready. Its address space is
bounded, each task has a budget of CPU seconds, since a computation in C hears nothing else, and it
ends when the pipe is closed: with its parent, however that ends.
"""

import math
import os
import queue
import resource
import sys
import threading
from multiprocessing.connection import Connection

MAX_BYTES = 2 * 2**30
"""Bound of the address space."""


def _set_limit(kind: int, limit: int) -> None:
    hard = resource.getrlimit(kind)[1]
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(kind, (limit, hard))


def evaluate(text: str) -> tuple[float | None, str]:
    """Value of an expression without variables, and how it came; None: it has none."""
    from rcsd.graders.answers.expressions import Term, UnreadableError, clean, read  # noqa: PLC0415

    try:
        term = read(clean(text))
    except UnreadableError:
        term = None
    if not isinstance(term, Term):
        return None, "it is no single expression"
    if not getattr(term.value, "is_number", False):
        return None, "it is an expression, not a number"
    value = complex(term.value.evalf())
    if value.imag or not math.isfinite(value.real):
        return None, "it is no finite real number"
    return value.real, "worked out"


def _serve(connection: Connection) -> None:
    """Do the tasks of a connection until it ends; then end the process, whatever it is doing."""
    tasks: queue.SimpleQueue[tuple[str, str, str, float]] = queue.SimpleQueue()

    def receive() -> None:
        try:
            while True:
                tasks.put(connection.recv())
        except (EOFError, OSError):
            os._exit(0)

    from rcsd.graders.answers.equality import compare  # noqa: PLC0415 (a second or two)

    threading.Thread(target=receive, daemon=True).start()
    connection.send(True)
    while True:
        task, first, second, seconds = tasks.get()
        used = resource.getrusage(resource.RUSAGE_SELF)
        _set_limit(resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime + seconds) + 1)
        try:
            result = evaluate(first) if task == "value" else compare(first, second)
        except MemoryError:
            connection.send((None, "it takes too much memory to work out"))
            os._exit(1)  # what is left of it is not to be trusted
        except RecursionError:
            result = None, "it is nested too deeply to work out"
        except Exception as error:  # sympy raises whatever it stumbles over
            result = None, f"it cannot be worked out ({type(error).__name__})"
        connection.send(result)


if __name__ == "__main__":
    _set_limit(resource.RLIMIT_AS, MAX_BYTES)
    _serve(Connection(int(sys.argv[1])))
