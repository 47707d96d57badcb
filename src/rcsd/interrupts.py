"""A scheduler's SIGTERM: leave where nothing is lost, with the exit code that it expects."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

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
