"""Files and folders that are complete or not there, and rows that are complete.

What is written is on the disk when a function returns: a run that goes on from a checkpoint must
find the rows that were there when it was saved, after a power cut too.
"""

import dataclasses
import errno
import glob
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rcsd.errors import DataError, RunError
from rcsd.types import Example

_LIBRARIES = ("rcsd", "torch", "transformers", "peft", "accelerate", "numpy")

_FREE = "free some space, and run the same command again: what was written before is kept"
_ELSEWHERE = "write to another folder, or have this one opened to you, and run the command again"
FAULTS = {errno.ENOSPC: _FREE, errno.EDQUOT: _FREE, errno.EFBIG: _FREE} | dict.fromkeys(
    (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG),
    _ELSEWHERE,
)
"""What to do about faults of the machine, by the system's number."""


def cache_folder() -> Path:
    """Folder of fetched models and of what is cached: ``$RCSD_CACHE`` or ``~/.cache/rcsd``."""
    return Path(os.environ.get("RCSD_CACHE") or Path.home() / ".cache" / "rcsd")


def disk_error(error: BaseException) -> OSError | None:
    """The `OSError` behind an error of the machine, or None.

    safetensors and tokenizers are written in Rust, and raise errors of their own.
    """
    number = re.search(r"\(os error (\d+)\)", str(error))
    if number and not isinstance(error, OSError):
        error = OSError(int(number[1]), os.strerror(int(number[1])))
    return error if isinstance(error, OSError) and error.errno in FAULTS else None


def reason(error: OSError) -> str:
    """The system's message, and the remedy."""
    remedy = FAULTS.get(error.errno or 0)
    return f"{error.strerror or error}" + (f"; {remedy}" if remedy else "")


def write_text(path: Path, text: str) -> None:
    """Write a file that is whole or not there; its folder is made.

    Raises DataError if it cannot be written.
    """
    _replace(path, [text])


def write_json(path: Path, value: object) -> None:
    """Write a JSON file, as `write_text`."""
    _replace(path, [json.dumps(value, indent=2, ensure_ascii=False)])


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a file of JSON rows, as `write_text`; ValueError if a number is not finite."""
    _replace(path, map(_line, rows))


def append_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append JSON rows, all or none, to a file whose last line is whole (`drop_cut_row`), or new.

    Raises errors as `write_rows`.
    """
    left = memoryview("".join(map(_line, rows)).encode())
    make_folder(path)
    with _named_errors(path), path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                file.truncate(before)
            raise


def check_new(path: Path, remedy: str = "choose another name") -> None:
    """Refuse a file, folder or link that exists; RunError if it does, with what to do."""
    if os.path.lexists(path):
        raise RunError(f"{path} exists; {remedy}")


@contextmanager
def new_folder(path: Path, replace: bool = False) -> Iterator[Path]:
    """Folder to fill, which takes its name when the block ends: it is complete or absent.

    With ``replace`` a folder of that name is replaced, or a link to one; else RunError if the name
    is taken. Files get the permissions that the umask gives, whatever the library that writes them
    thinks. Raises DataError if the disk is full or the like.
    """
    if not replace:
        check_new(path)
    unfinished, former = (path.with_name(f".{path.name}.{end}") for end in ("unfinished", "former"))
    with _named_errors(path):
        for left in (unfinished, former):
            remove_left(left)
        unfinished.mkdir(parents=True)
    try:
        yield unfinished
        _set_modes(unfinished)
    except BaseException as error:
        shutil.rmtree(unfinished, ignore_errors=True)  # the disk may be full
        if fault := disk_error(error):
            raise DataError(f"cannot be written: {reason(fault)}", path) from error
        raise
    sync_folder(unfinished)
    if os.path.lexists(path):
        path.rename(former)  # half a folder must not have the name
        if former.is_symlink():
            former.unlink()
    unfinished.rename(path)
    sync_folder(path.parent)
    shutil.rmtree(former, ignore_errors=True)


def _set_modes(folder: Path) -> None:
    """Give files the permissions that the umask gave their folder, and folders all of them."""
    mode = folder.stat().st_mode & 0o777
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(mode if path.is_dir() else mode & 0o666)


def remove_left(path: Path) -> None:
    """Remove what a killed process left at the name of something unfinished.

    Raises DataError if it is a symbolic link, which someone else may have put there.
    """
    refuse_link(path)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def refuse_link(path: Path) -> None:
    """Raise DataError if the name of an unfinished file or a lock is a symbolic link."""
    if path.is_symlink():
        raise DataError("is a symbolic link, which would be written through; delete it", path)


@contextmanager
def one_owner(path: Path) -> Iterator[None]:
    """Hold a folder that this process writes, even before it exists.

    The lock ends with the process. RunError if another process holds it, by whatever path.
    """
    folder = path.resolve()
    lock = folder.with_name(f".{folder.name}.lock")
    make_folder(lock)
    refuse_link(lock)
    try:
        with FileLock(lock, timeout=0):
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
    except Timeout:
        raise RunError(
            f"{path}: another process writes there; wait for it, or take another name"
        ) from None


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def check_writable(path: Path, read: Sequence[Path] = ()) -> None:
    """Refuse a path that a command could not write to, before its work is done and lost.

    Nor may it be one of the files that the command reads. Raises DataError if the path is a folder,
    its folder is not there, or it is one of those files.
    """
    with _named_errors(path):
        if path.exists() and not path.is_file():
            raise DataError("cannot be written: expected a file, it is a folder or device", path)
        if not path.parent.is_dir():
            raise DataError("cannot be written: there is no such folder", path)
        if path.exists() and any(other.exists() and path.samefile(other) for other in read):
            raise DataError("is read too, and would be overwritten; take another name", path)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a file; a last line without its end was cut off by a kill, and is not one.

    Raises DataError if another line is no JSON object, or the file cannot be read.
    """
    return rows_from(path, 0)[0]


def rows_from(path: Path, start: int) -> tuple[list[dict[str, Any]], int]:
    """Whole rows from a byte position on, and the position after them; errors as `read_rows`."""
    if not path.is_file():
        return [], start
    with _named_errors(path, "read"), path.open("rb") as file:
        file.seek(start)
        content = file.read()
    # In bytes: what is cut off may end within a character. Not splitlines: it also cuts at
    # separators that JSON leaves inside texts.
    *complete, cut = content.split(b"\n")
    rows = []
    for index, line in enumerate(complete):
        try:
            row = json.loads(line.decode())
            if not isinstance(row, dict):
                raise ValueError(f"expected an object, got {type(row).__name__}")
            rows.append(row)
        except (ValueError, RecursionError) as error:
            number = path.read_bytes()[:start].count(b"\n") + index + 1
            raise DataError(
                f"the row is broken ({error}); delete that line, and run the command again",
                path,
                number,
            ) from error
    return rows, start + len(content) - len(cut)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file that `write_json` wrote.

    Raises DataError if the file cannot be read, or holds none.
    """
    try:
        with _named_errors(path, "read"):
            value = json.loads(path.read_bytes())
        if not isinstance(value, dict):
            raise ValueError(f"expected an object, got {type(value).__name__}")
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"the file is broken ({error}); bring back a copy, or make its folder anew", path
        ) from error
    return value


def drop_cut_row(path: Path) -> None:
    """Drop a last line that a kill cut off, so that rows can be appended."""
    if path.is_file():
        with _named_errors(path), path.open("rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def make_folder(path: Path) -> None:
    """Make the folder that a file is to lie in; DataError if it cannot be made."""
    with _named_errors(path):
        # A file of the folder's name is left to the opening of the path to complain of.
        if not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)


def _replace(path: Path, lines: Iterable[str]) -> None:
    make_folder(path)
    check_writable(path)
    # Its own name for each process: several may write the same file at the same time.
    unfinished = path.with_name(f"{path.name}.{platform.node()}-{os.getpid()}.unfinished")
    with _named_errors(path):
        _remove_of_killed(path)
        try:
            with unfinished.open("x", encoding="utf-8", newline="\n") as file:
                file.writelines(lines)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            with suppress(OSError):  # it is in place, or was never there
                unfinished.unlink()


def _remove_of_killed(path: Path) -> None:
    """Remove what earlier processes of this machine that were killed left of a file."""
    start = f"{path.name}.{platform.node()}-"
    for left in path.parent.glob(f"{glob.escape(start)}*.unfinished"):
        number = left.name.removeprefix(start).removesuffix(".unfinished")
        if number.isdecimal() and (int(number) == os.getpid() or not _is_alive(int(number))):
            remove_left(left)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # another user's
    return True


@contextmanager
def _named_errors(path: Path, what: str = "written") -> Iterator[None]:
    """Turn an `OSError` into an error that names the path."""
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot be {what}: {reason(error)}", path) from error


def surroundings() -> dict[str, Any]:
    """Versions of libraries and the package's git revision, for a record."""
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    checkout, revision = Path(__file__).parents[2], None
    if (checkout / ".git").exists():  # else it is installed
        command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
        with suppress(OSError):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            revision = done.stdout.strip() or None
    versions["python"] = platform.python_version()
    return {"versions": versions, "git_revision": revision}


def digest(content: str | bytes) -> str:
    """SHA-256 of a text or of bytes, in hexadecimal."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def fingerprint(examples: Sequence[Example]) -> str:
    """SHA-256 of the examples' content, in order; turns count where there are any."""
    rows = map(dataclasses.asdict, examples)
    rows = ({k: v for k, v in row.items() if k != "turns" or v} for row in rows)
    return digest("".join(json.dumps(row, sort_keys=True, default=dict) for row in rows))
