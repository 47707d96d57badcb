r"""The process in which mathematics is done: it may be killed at any time.

One JSON object a line comes in, one goes out: ``{"task": "equal", "reference": ..., "answer": ...,
"seconds": ...}`` is answered by ``{"verdict": true, false or null, "reason": ...}``, and
``{"task": "value", "text": ..., "seconds": ...}`` by ``{"value": number or null, "reason": ...}``.

Its address space is bounded, so what eats memory ends in an error here, not in a machine that
swaps; each task has a budget of seconds of the processor, since a computation in C hears nothing
else. It ends when its input does: with its parent, however that ends.
"""

import json
import math
import os
import queue
import resource
import sys
import threading
from collections.abc import Mapping
from typing import Any, TextIO

MAX_BYTES = 2 * 2**30
"""Of address space."""

MAX_NUMBER = 10**10_000
"""Numbers beyond it are not told apart."""


def _bound(kind: int, limit: int) -> None:
    hard = resource.getrlimit(kind)[1]
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(kind, (limit, hard))


def _allow_seconds(seconds: float) -> None:
    """Let the process live for so many more seconds of the processor."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _bound(resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime + seconds) + 1)


def answer_to(task: Mapping[str, Any]) -> dict[str, Any]:
    """What a task comes to; errors of the mathematics are reasons, not verdicts."""
    try:
        if task["task"] == "value":
            return _value(task["text"])
        return _equal(task["reference"], task["answer"])
    except MemoryError:
        return {"reason": "it takes too much memory to work out", "broken": True}
    except RecursionError:
        return {"reason": "it is nested too deeply to work out"}
    except Exception as error:  # sympy raises whatever it stumbles over
        return {"reason": f"it cannot be worked out ({type(error).__name__})"}


def _parsed(text: str) -> list[Any]:
    """Expressions of a text; empty: it is no mathematics that can be read."""
    from math_verify import parse  # noqa: PLC0415

    shown = text if "$" in text or "\\[" in text else f"${text}$"
    found = parse(shown, fallback_mode="no_fallback", parsing_timeout=0, raise_on_error=True)
    return [one for one in found if not isinstance(one, str)]


def _equal(reference: str, answer: str) -> dict[str, Any]:
    from math_verify import verify  # noqa: PLC0415

    expected, given = _parsed(reference), _parsed(answer)
    if not expected:
        return {"verdict": None, "reason": "the reference cannot be read as mathematics"}
    if not given:
        return {"verdict": None, "reason": "the answer cannot be read as mathematics"}
    same = verify(expected, given, timeout_seconds=0, raise_on_error=True)
    if not same and _has_i(expected) != _has_i(given):
        return {"verdict": None, "reason": "i may be a variable, or the imaginary unit"}
    if not same and any(map(_is_beyond_reach, expected + given)):
        return {"verdict": None, "reason": "it is too large a number to work out"}
    return {"verdict": same, "reason": "equal" if same else "not equal"}


def _has_i(expressions: list[Any]) -> bool:
    """Whether a variable of them is called i."""
    return any("i" in map(str, getattr(one, "free_symbols", ())) for one in expressions)


def _is_beyond_reach(expression: Any) -> bool:
    """Whether a number is so large that math-verify, which passes over errors, calls it unequal."""
    if not getattr(expression, "is_number", False) or expression.is_infinite:
        return False
    try:
        return not bool(abs(expression.evalf(15)) < MAX_NUMBER)
    except (TypeError, ValueError, OverflowError):
        return True


def _value(text: str) -> dict[str, Any]:
    found = _parsed(text)
    if len(found) != 1:
        return {"value": None, "reason": "it is no single expression"}
    expression = found[0]
    if not getattr(expression, "is_number", False):
        return {"value": None, "reason": "it is an expression, not a number"}
    value = complex(expression.evalf())
    if value.imag or not math.isfinite(value.real):
        return {"value": None, "reason": "it is no finite real number"}
    return {"value": value.real, "reason": "worked out"}


def serve(source: TextIO, sink: TextIO) -> None:
    """Answer the tasks of a stream until it ends; then end the process, whatever it is doing."""
    tasks: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in source:
            tasks.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    sink.write("{}\n")  # here
    sink.flush()
    while True:
        task = json.loads(tasks.get())
        _allow_seconds(task["seconds"])
        answer = answer_to(task)
        sink.write(json.dumps(answer) + "\n")
        sink.flush()
        if answer.get("broken"):
            os._exit(1)  # what is left of it after a want of memory is not to be trusted


def main() -> None:
    """Serve standard input; nothing else may be written to standard output."""
    import math_verify  # noqa: F401, PLC0415 (not in the time of the first task)

    _bound(resource.RLIMIT_AS, MAX_BYTES)
    sink = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, sink)


if __name__ == "__main__":
    main()
