"""A real HTTP server on loopback that fails on demand."""

import json
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FaultyServer(ABC):
    """A server whose next requests meet ``faults``, in place of an answer.

    A fault is a status with a body (and headers), ``"drop"`` (the connection breaks off),
    ``"hang"`` (no answer for half a second), ``"silence"`` (none until the server is closed),
    ``"drip"`` (a byte now and then), bytes (sent as they are, then the connection ends), or a
    function that changes the answer. ``fault_of`` gives the fault of a body where none waits.
    """

    def __init__(self, prefix: str = "") -> None:
        self.faults: deque[Any] = deque()
        self.fault_of: Callable[[Any], Any] = lambda body: None
        self.closed = threading.Event()
        self.requests: list[tuple[str, Any, str | None]] = []  # path, body and authorization
        self.headers: list[dict[str, str]] = []
        self.delay_seconds, self.most_at_once = 0.0, 0
        self._at_once, self._lock = 0, threading.Lock()
        handler = type("Handler", (_Handler,), {"served": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.handle_error = lambda request, client_address: None  # the client is gone
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_port}{prefix}"

    def close(self) -> None:
        self.closed.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @abstractmethod
    def answer(self, path: str, body: Any) -> tuple[int, Any]:
        """Status and body of an answer."""

    def meet(self, fault: Any, path: str, body: Any) -> tuple[int, Any, dict[str, str]]:
        """Status, body and headers under a fault, or without one."""
        if isinstance(fault, tuple):
            status, said, *rest = fault
            return status, said, rest[0] if rest else {}
        if fault == "hang":
            time.sleep(0.5)
        status, said = self.answer(path, body)
        return status, fault(said) if callable(fault) else said, {}

    def begin(self, *request: Any) -> Any:
        with self._lock:
            self.requests.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            return self.faults.popleft() if self.faults else self.fault_of(request[1])

    def end(self) -> None:
        with self._lock:
            self._at_once -= 1


class _Handler(BaseHTTPRequestHandler):
    served: FaultyServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""

    def do_GET(self) -> None:
        size = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(size)) if size else None
        self.served.headers.append(dict(self.headers))
        fault = self.served.begin(self.path, body, self.headers.get("Authorization"))
        if fault in ("drop", "silence", "drip") or isinstance(fault, bytes):
            self._break_off(fault)
            return
        time.sleep(self.served.delay_seconds)
        status, said, headers = self.served.meet(fault, self.path, body)
        self.served.end()
        text = said if isinstance(said, bytes) else _text(said).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(text))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def _break_off(self, fault: Any) -> None:
        self.served.end()
        self.close_connection = True
        with suppress(OSError):  # the client is gone
            if isinstance(fault, bytes):
                self.wfile.write(fault)
            if fault == "drip":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while fault in ("silence", "drip") and not self.served.closed.wait(0.05):
                if fault == "drip":
                    self.wfile.write(b" ")

    do_POST = do_GET


def _text(said: Any) -> str:
    return said if isinstance(said, str) else json.dumps(said)
