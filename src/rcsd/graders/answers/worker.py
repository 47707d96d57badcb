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
from typing import Any

MAX_BYTES = 2 * 2**30
"""Bound of the address space."""


def _set_limit(kind: int, limit: int) -> None:
    hard = resource.getrlimit(kind)[1]
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(kind, (limit, hard))


def _parse(text: str) -> list[Any]:
    """Expressions of a text; empty: it is no mathematics that can be read."""
    from math_verify import parse  # noqa: PLC0415

    latex = text if "$" in text or "\\[" in text else f"${text}$"
    parsed = parse(latex, fallback_mode="no_fallback", parsing_timeout=0, raise_on_error=True)
    return [expression for expression in parsed if not isinstance(expression, str)]


def compare(reference: str, answer: str) -> tuple[bool | None, str]:
    """Verdict on the equality of two expressions, and why; None: it cannot be told."""
    from math_verify import verify  # noqa: PLC0415

    expected, actual = _parse(reference), _parse(answer)
    if not expected:
        return None, "the reference cannot be read as mathematics"
    if not actual:
        return None, "the answer cannot be read as mathematics"
    if verify(expected, actual, timeout_seconds=0, raise_on_error=True):
        return True, "equal"
    has_i = [
        any("i" in map(str, getattr(one, "free_symbols", ())) for one in side)
        for side in (expected, actual)
    ]
    if has_i[0] != has_i[1]:
        return None, "i may be a variable, or the imaginary unit"
    if any(map(_is_too_large, expected + actual)):
        return None, "it is too large a number to work out"
    return False, "not equal"


def _is_too_large(expression: Any) -> bool:
    """True if math-verify, which passes over errors, cannot tell a number from others."""
    if not getattr(expression, "is_number", False) or expression.is_infinite:
        return False
    try:
        return not bool(abs(expression.evalf(15)) < 10**10_000)
    except (TypeError, ValueError, OverflowError):
        return True


def evaluate(text: str) -> tuple[float | None, str]:
    """Value of an expression without variables, and how it came; None: it has none."""
    parsed = _parse(text)
    if len(parsed) != 1:
        return None, "it is no single expression"
    if not getattr(parsed[0], "is_number", False):
        return None, "it is an expression, not a number"
    value = complex(parsed[0].evalf())
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
    import math_verify  # noqa: F401 (not in the time of the first task)

    _set_limit(resource.RLIMIT_AS, MAX_BYTES)
    _serve(Connection(int(sys.argv[1])))
