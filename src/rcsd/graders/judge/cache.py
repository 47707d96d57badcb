"""Replies on disk, so that no process pays for the same request twice."""

import json
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from rcsd.errors import DataError
from rcsd.graders.judge.server import ChatReply
from rcsd.io import make_folder

LOCK_SECONDS = 60.0
"""Maximum wait for another process's write."""


class ReplyCache:
    """Replies in one SQLite file, by the key of their request; holds no addresses and no API keys.

    Threads and processes may share it: with a write-ahead log all read while one writes.

    Raises:
        DataError: If it cannot be opened, read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, threading.Lock()
        make_folder(path)
        with self._connected():
            # Statements are their own transactions. The lock stands in for SQLite's thread check.
            self._connection = sqlite3.connect(
                path, LOCK_SECONDS, isolation_level=None, check_same_thread=False
            )
            weakref.finalize(self, self._connection.close)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS reply_by_request "
                "(key TEXT PRIMARY KEY, reply TEXT NOT NULL) WITHOUT ROWID"
            )

    def read(self, key: str) -> ChatReply | None:
        """The reply to a request, or None."""
        query = "SELECT reply FROM reply_by_request WHERE key = ?"
        with self._connected():
            row = self._connection.execute(query, (key,)).fetchone()
            return None if row is None else ChatReply(**json.loads(row[0]))

    def write(self, key: str, reply: ChatReply) -> None:
        """Store a reply; another process's to the same request stays."""
        row = asdict(reply)
        del row["num_attempts"]
        query = "INSERT OR IGNORE INTO reply_by_request VALUES (?, ?)"
        with self._connected():
            self._connection.execute(query, (key, json.dumps(row)))

    @contextmanager
    def _connected(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except (sqlite3.Error, ValueError, TypeError) as error:
                raise DataError(
                    f"the judge's cache: {error}; free its disk or folder, delete a damaged file, "
                    "or name another in judge.cache",
                    self.path,
                ) from error
