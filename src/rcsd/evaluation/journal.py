"""What an evaluation has sampled so far, so that one that was cut off goes on."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rcsd.errors import DataError, RunError
from rcsd.io import append_rows, drop_cut_row, make_folder, read_json, read_rows, write_json
from rcsd.types import Completion, completion_of

_HEADER, _COMPLETIONS, _LOCK = "asked.json", "sampled.jsonl", ".lock"


class Journal:
    """Completions in the order in which they were asked for, kept as they come.

    Args:
        folder: Of the journal, which `kept_in` opened.
        completions: By set and whether they are greedy: those of the calls before.
    """

    def __init__(
        self, folder: Path, completions: Mapping[tuple[str, bool], Sequence[Completion]]
    ) -> None:
        self.folder = folder
        self._completions = {key: list(found) for key, found in completions.items()}

    def completions(self, name: str, greedy: bool) -> Sequence[Completion]:
        """Those of a set that are there."""
        return self._completions.get((name, greedy), ())

    def add(self, name: str, greedy: bool, completions: Sequence[Completion]) -> None:
        """Keep the next ones of a set, all or none.

        Raises:
            DataError: If they cannot be written.
        """
        rows = [{"set": name, "greedy": greedy, "completion": asdict(one)} for one in completions]
        append_rows(self.folder / _COMPLETIONS, rows)
        self._completions.setdefault((name, greedy), []).extend(completions)


@contextmanager
def kept_in(folder: Path, asked: Mapping[str, Any]) -> Iterator[Journal]:
    """The journal of a folder, which this process alone writes to.

    Args:
        folder: New, or of an evaluation that was cut off.
        asked: All that the completions depend on, as plain values by name.

    Raises:
        RunError: If another process writes there, or other things were asked for.
        DataError: If the journal is broken.
    """
    make_folder(folder / _HEADER)
    with ExitStack() as held:
        try:
            held.enter_context(FileLock(folder / _LOCK, timeout=0))
        except Timeout:
            raise RunError(
                f"{folder}: another process writes this evaluation; wait for it, or take another "
                "out"
            ) from None
        _check_asked(folder / _HEADER, asked)
        yield Journal(folder, _sampled(folder / _COMPLETIONS))


def _check_asked(path: Path, asked: Mapping[str, Any]) -> None:
    """Of a folder that holds completions, what they were sampled for."""
    if not path.is_file():
        write_json(path, dict(asked))
        return
    before = read_json(path)
    found = [name for name in {**before, **asked} if before.get(name) != asked.get(name)]
    if found:
        raise RunError(
            f"{path.parent} holds an evaluation that was cut off, and differs in "
            f"{', '.join(found)}; delete that folder, or take another out"
        )


def _sampled(path: Path) -> dict[tuple[str, bool], list[Completion]]:
    if not path.is_file():
        return {}
    drop_cut_row(path)
    found: dict[tuple[str, bool], list[Completion]] = {}
    try:
        for row in read_rows(path):
            key = row["set"], row["greedy"]
            found.setdefault(key, []).append(completion_of(row["completion"]))
    except (KeyError, TypeError) as error:
        raise DataError(f"a completion is broken ({error}); delete {path.parent}", path) from error
    return found
