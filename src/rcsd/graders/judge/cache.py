"""Replies on disk, so that no process pays for the same request twice, and the tokens spent."""

import json
import os
import re
import sqlite3
import threading
import warnings
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock

from rcsd.errors import DataError
from rcsd.graders.judge.server import ChatReply
from rcsd.io import make_folder

LOCK_SECONDS = 60.0
"""Maximum wait for another process's write."""

_TABLES = (
    "CREATE TABLE IF NOT EXISTS reply_by_request "
    "(key TEXT PRIMARY KEY, reply TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS spent_by_job (job TEXT PRIMARY KEY, calls INTEGER DEFAULT 0, "
    "prompt_tokens INTEGER DEFAULT 0, completion_tokens INTEGER DEFAULT 0)",
)
_DAMAGE = re.compile(r"malformed|not a database|could not decode|corrupt", re.IGNORECASE)
_SUFFIXES = (".sqlite", ".sqlite3", ".db")
"""Names of files that are set aside where they are no databases; others may be a user's own."""


class ReplyCache:
    """Replies in one SQLite file, by the key of their request; holds no addresses and no API keys.

    Threads and processes may share it: with a write-ahead log all read while one writes. An
    unreadable row counts as missing. A file with a damaged page is set aside, and its readable rows
    are copied to a new one.

    Raises:
        DataError: If it cannot be opened, read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, threading.Lock()
        self._connections: list[sqlite3.Connection] = []
        weakref.finalize(self, _close, self._connections)
        make_folder(path)
        self._file_lock = FileLock(f"{path}.lock", timeout=LOCK_SECONDS)
        with self._named_errors(), self._file_lock:
            self._open()

    def read(self, key: str) -> ChatReply | None:
        """The reply to a request, or None."""
        query = "SELECT reply FROM reply_by_request WHERE key = ?"
        with self._lock, self._named_errors():
            rows = self._execute(query, (key,))
            try:
                return ChatReply(**json.loads(rows[0][0])) if rows else None
            except (ValueError, TypeError):
                self._warn("replies that cannot be read are requested again")
                return None

    def write(self, key: str, reply: ChatReply) -> None:
        """Store a reply in place of an earlier one."""
        row = asdict(reply)
        del row["num_attempts"]
        query = "INSERT OR REPLACE INTO reply_by_request VALUES (?, ?)"
        with self._lock, self._named_errors():
            self._execute(query, (key, json.dumps(row)))

    def begin_call(self, job: str, condition: str = "TRUE") -> bool:
        """Count one more call of a job, if what it has spent meets an SQL condition."""
        with self._lock, self._named_errors():
            self._execute("INSERT OR IGNORE INTO spent_by_job (job) VALUES (?)", (job,))
            query = f"UPDATE spent_by_job SET calls = calls + 1 WHERE job = ? AND {condition}"
            self._execute(query, (job,))
            return self._execute("SELECT changes()", ()) == [(1,)]

    def spend(self, job: str, prompt_tokens: int, completion_tokens: int) -> None:
        """Add a reply's tokens to what a job has spent."""
        query = (
            "UPDATE spent_by_job SET prompt_tokens = prompt_tokens + ?, "
            "completion_tokens = completion_tokens + ? WHERE job = ?"
        )
        with self._lock, self._named_errors():
            self._execute(query, (prompt_tokens, completion_tokens, job))

    def _execute(self, query: str, values: Sequence[Any]) -> list[Any]:
        """Rows of a statement, which runs again after a damaged file is mended."""
        try:
            if self._identity() != self._opened:  # another process mended it, or this is a fork
                with self._file_lock:
                    self._open()
            return self._connection.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            if not _DAMAGE.search(str(error)):
                raise
            with self._file_lock:
                self._mend(error)
            return self._connection.execute(query, values).fetchall()

    def _open(self) -> None:
        try:
            self._connect()
        except sqlite3.DatabaseError as error:
            if not _DAMAGE.search(str(error)) or self.path.suffix not in _SUFFIXES:
                raise
            self._opened = self._identity()
            self._mend(error)

    def _connect(self) -> None:
        """Open the file, and make its tables."""
        # Statements are their own transactions. The lock stands in for SQLite's thread check.
        self._connection = sqlite3.connect(
            self.path, LOCK_SECONDS, isolation_level=None, check_same_thread=False
        )
        self._connections.append(self._connection)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        for table in _TABLES:
            self._connection.execute(table)
        self._opened = self._identity()

    def _identity(self) -> tuple[int, int]:
        """This process and the file: a connection holds to both."""
        with suppress(FileNotFoundError):
            return os.getpid(), self.path.stat().st_ino
        return os.getpid(), 0

    def _mend(self, error: Exception) -> None:
        """Set a damaged file aside, and copy its readable rows to a new one."""
        if self._identity() != self._opened:  # another process did
            self._connect()
            return
        number, rows, spent = 1, dict[str, str](), list[Any]()
        while (aside := self.path.with_name(f"{self.path.name}.damaged-{number}")).exists():
            number += 1
        with suppress(sqlite3.Error):
            rows.update(_readable_replies(self._connection))
            spent += self._connection.execute("SELECT * FROM spent_by_job")
        self._connections.remove(self._connection)
        self._connection.close()
        for end in ("", "-wal", "-shm"):
            if (part := Path(f"{self.path}{end}")).exists():
                part.rename(f"{aside}{end}")
        self._connect()
        with self._connection:
            self._connection.execute("BEGIN")
            self._connection.executemany(
                "INSERT OR REPLACE INTO reply_by_request VALUES (?, ?)", rows.items()
            )
            self._connection.executemany("INSERT INTO spent_by_job VALUES (?, ?, ?, ?)", spent)
        self._warn(
            f"damaged ({error}), and set aside as {aside.name}; {len(rows)} of its replies are "
            "kept, and the others are requested again"
        )

    def _warn(self, message: str) -> None:
        warnings.warn(f"the judge's cache, {self.path}: {message}", stacklevel=2)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise DataError(
                f"the judge's cache: {error}; free its disk or folder, delete a damaged file, or "
                "name another in judge.cache",
                self.path,
            ) from error


def _close(connections: Sequence[sqlite3.Connection]) -> None:
    for connection in connections:
        connection.close()


def _readable_replies(connection: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Rows outside of damaged pages, some twice: from both ends of each range of keys."""
    query = "SELECT key, reply FROM reply_by_request WHERE key >= ? AND key < ? ORDER BY key"
    for number in range(256):
        prefix = f"{number:02x}"
        for order in ("ASC", "DESC"):
            try:
                yield from connection.execute(f"{query} {order}", (prefix, prefix + "g"))
                break
            except sqlite3.DatabaseError:
                continue
