"""The terminal that all commands write to: consoles, tables, progress, other libraries' noise.

The one door to the terminal: all text passes `shown_text`, so what stands in data, completions,
names and errors is looked at and never obeyed, and no string is read as rich's markup.
"""

import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

import rich.table
from rich import progress as rich_progress
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment
from rich.text import Text

from rcsd.redact import shown_text
from rcsd.types import Progress

_NAME_WIDTH = 16
"""Least width of a name's column, where names are as long; then they are folded."""


class GuardedConsole(Console):
    """A console that shows foreign text instead of obeying it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print; a table whose numbers need more than the terminal's width is not cut off."""
        super().print(*objects, **{"crop": False, **options})

    def on_broken_pipe(self) -> None:
        """Print nothing from now on: a run outlives the reader of its log."""
        self.quiet = True
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.file.fileno())  # for what is flushed at exit

    def render_str(self, text: str, **options: Any) -> Text:
        """A string as it will be laid out; rich would drop some controls without a trace."""
        return super().render_str(shown_text(text), **options)

    def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
        """Whatever is printed, in pieces; those that move the cursor are rich's own."""
        for segment in super().render(renderable, options):
            if segment.control is None:
                segment = Segment(shown_text(segment.text), segment.style)
            yield segment


console = GuardedConsole()
errors = GuardedConsole(stderr=True)


def styled(text: str, style: str) -> Text:
    """A text in a style, with nothing in it obeyed."""
    return Text(shown_text(text), style)


def say(text: str) -> None:
    """Print a line, unbroken: a path can be copied from it."""
    console.print(text, soft_wrap=True)


def labelled(label: str, text: str, style: str = "bold") -> Text:
    """``label: text``, the label in a style, with nothing in it obeyed."""
    return Text.assemble((f"{label}: ", style), shown_text(text))


@dataclass(frozen=True)
class Table:
    """A table for the console; the first ``num_names`` columns hold names, others are numbers."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str | Text]]
    title: str = ""
    num_names: int = 1

    def __rich__(self) -> rich.table.Table:
        """For a terminal; foreign text is printed literally, never obeyed."""
        title = styled(self.title, "") if self.title else None
        table = rich.table.Table(box=SIMPLE_HEAD, title=title, title_justify="left")
        for place, column in enumerate(self.columns):
            cells = [column, *(str(row[place]) for row in self.rows)]
            widest = max(cell_len(line) for cell in cells for line in cell.split("\n"))
            is_name = place < self.num_names
            table.add_column(
                styled(column, ""),
                justify="left" if is_name else "right",
                overflow="fold",
                min_width=min(widest, _NAME_WIDTH) if is_name else widest,
            )
        for row in self.rows:
            table.add_row(*(of if isinstance(of, Text) else styled(of, "") for of in row))
        return table


class Lines:
    """Plain lines for a log: one where a stage begins, one where it ends, one a minute between."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write, self._start = write, monotonic()
        self._stages: dict[str, tuple[float, float]] = {}  # seconds of its start and its last line

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Write a line where one is due."""
        now, is_done = monotonic(), done >= total
        began, wrote = self._stages.get(stage, (now, -math.inf))
        if stage not in self._stages:
            text = (note or "done") if is_done else "begun"
        elif is_done and wrote < math.inf:
            text = f"done in {now - began:.0f} s"
        elif now - wrote >= 60:
            text = f"{done} of {total}" + (f", {note}" if note else "")
        else:
            return
        self._stages[stage] = began, math.inf if is_done else now  # done: no further line
        self._write(f"[{now - self._start:5.0f} s] {stage}: {text}")


@contextmanager
def bars() -> Iterator[Progress]:
    """Progress bars on the terminal, or `Lines` where standard error is none; libraries quiet."""
    quieten_libraries()
    if not errors.is_terminal:
        yield Lines(lambda text: errors.print(text, soft_wrap=True))
        return
    columns = (
        rich_progress.TextColumn("{task.description:<28}", markup=False),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TextColumn("left"),
        rich_progress.TimeRemainingColumn(),
        rich_progress.TextColumn("{task.fields[note]}", style="dim", markup=False),
    )
    tasks: dict[str, rich_progress.TaskID] = {}
    with rich_progress.Progress(*columns, console=errors) as progress:

        def update(stage: str, done: int, total: int, note: str = "") -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(shown_text(stage), total=total, note="")
            progress.update(tasks[stage], completed=done, total=total, note=shown_text(note))

        yield update


def quieten_libraries() -> None:
    """Keep other libraries' lines from tearing our progress bars apart; downloads keep theirs."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    # PEFT 0.21 asks transformers 5.23 for an attribute by its old name: no news for a user.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
