"""Replies on disk: what was paid for once is not asked again, by any process."""

import hashlib
import json
import os
import sqlite3
import threading
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from rcsd.errors import DataError
from rcsd.graders.judge.chat import ChatReply
from rcsd.io import make_folder

PATIENCE_SECONDS = 60.0
"""How long another process's writing is waited for."""

_TABLE = (
    "CREATE TABLE IF NOT EXISTS replies "
    "(key TEXT PRIMARY KEY, reply TEXT NOT NULL, sha256 TEXT NOT NULL) WITHOUT ROWID"
)
_COUNTED = {"text": str, "finish": str, "prompt_tokens": int, "completion_tokens": int}


class ReplyCache:
    """Replies by the key of their request, in one SQLite file.

    Threads and processes may share it: SQLite's journal (WAL) lets all read while one writes. A row
    that does not have its checksum is said, dropped, and asked anew; a file that is no database is
    set aside under another name. Neither addresses nor keys of servers stand in it.

    Args:
        path: The file; it is made, and its folder.

    Raises:
        DataError: If it cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, threading.Lock()
        make_folder(path)
        try:
            self._connection = self._opened()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise self._fault(error) from error
            self._connection = self._after(error)

    def read(self, key: str) -> ChatReply | None:
        """The reply to a request, or None."""
        with self._mended():
            row = self._connection.execute(
                "SELECT reply, sha256 FROM replies WHERE key = ?", (key,)
            ).fetchone()
            if row is None:
                return None
            reply = _parsed(key, *row)
            if reply is None:
                warnings.warn(
                    f"{self.path}: the reply {key[:12]} is damaged; it is dropped and asked anew",
                    RuntimeWarning,
                    stacklevel=3,
                )
                self._connection.execute("DELETE FROM replies WHERE key = ?", (key,))
            return reply
        return None

    def write(self, key: str, reply: ChatReply) -> None:
        """Keep a reply; another process's to the same request stays."""
        row = asdict(reply)
        del row["num_attempts"]
        text = json.dumps(row)
        with self._mended():
            self._connection.execute(
                "INSERT OR IGNORE INTO replies VALUES (?, ?, ?)", (key, text, _sha256(key, text))
            )

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _opened(self) -> sqlite3.Connection:
        # Statements are their own transactions. The lock stands in for SQLite's check of threads.
        connection = sqlite3.connect(
            self.path, PATIENCE_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(_TABLE)
        except BaseException:
            connection.close()
            raise
        weakref.finalize(self, connection.close)
        return connection

    def _after(self, error: sqlite3.DatabaseError) -> sqlite3.Connection:
        """A new file in the place of one that is no database, which is set aside."""
        aside = self.path.with_name(f"{self.path.name}.damaged-{os.getpid()}")
        warnings.warn(
            f"{self.path}: {error}; the file is set aside as {aside.name}, and a new cache begins",
            RuntimeWarning,
            stacklevel=4,
        )
        self.path.replace(aside)
        for end in ("-wal", "-shm"):
            self.path.with_name(self.path.name + end).unlink(missing_ok=True)
        return self._opened()

    @contextmanager
    def _mended(self) -> Iterator[None]:
        """One thread at a time; a file that turns out damaged is set aside, and nothing found."""
        with self._lock:
            try:
                yield
            except sqlite3.OperationalError as error:
                raise self._fault(error) from error
            except sqlite3.DatabaseError as error:
                self._connection.close()
                self._connection = self._after(error)

    def _fault(self, error: sqlite3.Error) -> DataError:
        return DataError(
            f"the judge's cache: {error}; free its disk or folder, or name another file in "
            "judge.cache",
            self.path,
        )


def _sha256(key: str, text: str) -> str:
    return hashlib.sha256(f"{key}\n{text}".encode()).hexdigest()


def _parsed(key: str, text: object, sha256: object) -> ChatReply | None:
    """The reply of a row; None if it is not what was written."""
    if not isinstance(text, str) or _sha256(key, text) != sha256:
        return None
    row = json.loads(text)
    if row.keys() != _COUNTED.keys() or any(type(row[k]) is not v for k, v in _COUNTED.items()):
        return None  # by another version
    return ChatReply(**row)
