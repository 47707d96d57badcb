"""Mathematics by math-verify and sympy, in a process that can be killed.

A call of sympy may go on for ever or take all memory, and no thread can be ended: math-verify's own
limit is an alarm signal, which only a main thread may set. So one worker (`worker`) serves the
process and all its threads, one task at a time; it starts when first needed, is killed when a task
takes too long, and then started again. What takes too long is ungraded.
"""

import atexit
import contextlib
import functools
import json
import os
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from rcsd.errors import RunError
from rcsd.graders.answers.folding import unwrapped
from rcsd.graders.answers.units import name_of

MAX_SECONDS = 5.0
"""That a task may take."""

MAX_START_SECONDS = 120.0
"""That the worker may take to import sympy, on a machine that is busy."""

MAX_CHARACTERS = 2_000
"""Of an expression: longer ones are not tried."""


class _EndedError(Exception):
    """The worker is gone."""


class _LateError(Exception):
    """The worker has not answered in time."""


class Worker:
    """The process that does the mathematics."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def answer(self, task: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """What a task comes to; ``{"reason": ...}`` alone where it took too long, or too much.

        Raises:
            RunError: If the worker cannot be started.
        """
        line = json.dumps({**task, "seconds": seconds}).encode() + b"\n"
        with self._lock:
            for _ in range(2):  # it may have been killed since its last task, by whomever
                process = self._started()
                try:
                    return self._asked(process, line, seconds)
                except _LateError:
                    self.stop()
                    return {"reason": f"it takes more than {seconds:g} s to work out"}
                except (_EndedError, OSError):
                    self.stop()
            return {"reason": "it takes too much memory or time to work out"}

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.stop()
        # It finds the packages where this process does, however its path was set.
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rcsd.graders.answers.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": ""},
        )
        try:
            _line(self._process, MAX_START_SECONDS)
        except (_EndedError, _LateError, OSError) as error:
            self.stop()
            raise RunError(
                "the process that compares mathematical answers does not start; try "
                f"'{sys.executable} -m rcsd.graders.answers.worker' to see why"
            ) from error
        return self._process

    def _asked(
        self, process: "subprocess.Popen[bytes]", line: bytes, seconds: float
    ) -> dict[str, Any]:
        assert process.stdin is not None
        process.stdin.write(line)
        process.stdin.flush()
        answer = json.loads(_line(process, seconds))
        if answer.pop("broken", False):
            self.stop()
        return answer

    @property
    def pid(self) -> int | None:
        """Of the process, if there is one."""
        return self._process and self._process.pid

    def stop(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self.forget()

    def forget(self) -> None:
        """Let go of the process, and of the pipes to it: it ends when nobody holds them."""
        process, self._process = self._process, None
        if process is None:
            return
        process.returncode = process.returncode or 0  # a forked process has no such child
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _line(process: "subprocess.Popen[bytes]", seconds: float) -> bytes:
    """The next line of the worker.

    Raises:
        _EndedError: If there will be none.
        _LateError: If there is none in time.
    """
    assert process.stdout is not None
    until = time.monotonic() + seconds
    line = b""
    while not line.endswith(b"\n"):
        left = until - time.monotonic()
        if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
            raise _LateError
        read = os.read(process.stdout.fileno(), 65_536)
        if not read:
            raise _EndedError
        line += read
    return line


_worker = Worker()


def _forget() -> None:
    """A forked process must not talk into its parent's pipes."""
    global _worker
    _worker.forget()
    _worker = Worker()  # the lock of the other may be held by a thread that is not here
    _asked.cache_clear()


atexit.register(lambda: _worker.stop())
os.register_at_fork(after_in_child=_forget)


@functools.lru_cache(maxsize=4096)
def _asked(task: str, first: str, second: str, seconds: float) -> tuple[Any, str]:
    if max(len(first), len(second)) > MAX_CHARACTERS:
        return None, f"it is longer than {MAX_CHARACTERS} characters"
    names = ("text",) if task == "value" else ("reference", "answer")
    said = _worker.answer(
        {"task": task, **dict(zip(names, (first, second), strict=False))}, seconds
    )
    return said.get("value" if task == "value" else "verdict"), said["reason"]


def equality(answer: str, reference: str, seconds: float = MAX_SECONDS) -> tuple[bool | None, str]:
    """Whether two expressions are equal, and why; None: it cannot be told.

    Args:
        answer: Of the model.
        reference: Its peer.
        seconds: That the worker may take.

    Raises:
        RunError: If the worker cannot be started.
    """
    answer, reference = (text.replace("\\$", "") for text in (answer, reference))
    if _squeezed(answer) == _squeezed(reference):
        return True, "written as the reference"
    if why := _unlike(answer, reference):
        return None, f"cannot be compared: {why}"
    verdict, reason = _asked("equal", reference, answer, seconds)
    return verdict, reason if verdict is not None else f"cannot be compared: {reason}"


_OR = re.compile(r"(?i)(?<![a-z\\])(?:or|not|wrong|incorrect|either)(?![a-z])")
_UNIT = re.compile(r"\\(?:text|mathrm|rm|operatorname)\s*\{\s*([^{}]*)\}")
_SET = re.compile(r"^[$\s]*\\(?:left\s*\\)?\{")
_LAST = re.compile(r"\d\s*([a-zA-Z]{1,3})\s*$")
_ONE_SIDED = (
    (
        re.compile(r"[<>≤≥≠]|\\(?:l|g|n)(?:e|eq|t|eqslant)(?![a-zA-Z])"),
        "one is an inequality",
    ),
    (re.compile(r"\d_\s*\{?\d"), "one names the base of its digits"),
    (re.compile(r"\d\s*(?:\||\\mid)\s*[a-z]"), "one says that it divides"),
    (
        re.compile(r"(?i)\\overline|\\[pb]?mod|\b(?:mod|about|approximately|roughly)\b"),
        "one is approximate, periodic or a residue",
    ),
)
_WORDS = re.compile(r"[^\d\\]*\b[a-zA-Z]{3,}\b[^\d\\]*$")
_TUPLE = re.compile(r"^[$\s]*(?:\\left\s*)?\(.*,.*\)[$\s]*$", re.DOTALL)


def _unlike(answer: str, reference: str) -> str:
    """What math-verify passes over and tells two expressions apart; empty: nothing."""
    if _OR.search(unwrapped(answer)) and not _OR.search(unwrapped(reference)):
        return "the answer leaves it open, or denies it"
    if ("%" in answer) != ("%" in reference) and answer.count("%") + reference.count("%") == 1:
        share, plain = (answer, reference) if "%" in answer else (reference, answer)
        if _squeezed(share).replace("\\%", "").replace("%", "") == _squeezed(plain):
            return "one is a per cent"
    units = [_units(text) for text in (answer, reference)]
    if all(units) and units[0] != units[1]:
        return "the words or units beside the expressions differ"
    for one, other in ((answer, reference), (reference, answer)):
        for pattern, reason in _ONE_SIDED:
            if pattern.search(one) and not pattern.search(other):
                return reason
        if _WORDS.match(unwrapped(one)) and not re.search(r"[^\W\d]", other):
            return "one is in words"
        if _SET.match(one) and _TUPLE.match(other):
            return "one is a set, the other a tuple or an interval"
    return ""


def _units(text: str) -> list[str]:
    """The words beside an expression, and a unit that ends it."""
    last = _LAST.search(text)
    found = [*_UNIT.findall(text), *(last.groups() if last and name_of(last[1]) else ())]
    return sorted(_squeezed(unit) for unit in found)


def value_of(text: str, seconds: float = MAX_SECONDS) -> tuple[float | None, str]:
    """The value of an expression without variables, and how it came; None: it has none.

    Raises:
        RunError: If the worker cannot be started.
    """
    value, reason = _asked("value", text, "", seconds)
    return value, reason if value is not None else f"{text.strip()[:60]!r}: {reason}"


def _squeezed(text: str) -> str:
    return "".join(unwrapped(text).replace("$", "").split())
