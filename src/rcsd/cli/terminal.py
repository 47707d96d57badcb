"""The terminal that all commands write to: consoles, progress bars, other libraries' noise.

The one door to the terminal: all text passes `shown_text`, so what stands in data, completions,
names and errors is looked at and never obeyed, and no string is read as rich's markup.
"""

import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich import progress as rich_progress
from rich.console import Console
from rich.segment import Segment
from rich.text import Text

from rcsd.redact import shown_text
from rcsd.types import Progress


class GuardedConsole(Console):
    """A console that shows foreign text instead of obeying it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

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


def write_out(text: str) -> None:
    """Write a finished text, such as JSON, to standard output."""
    typer.echo(shown_text(text), nl=False)


class Bars:
    """Progress bars with the time left, one a stage."""

    def __init__(self, progress: rich_progress.Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, int] = {}

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Update the bar of a stage."""
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(shown_text(stage), total=total, note="")
        task = self._progress.tasks[self._tasks[stage]]
        self._progress.update(task.id, completed=done, total=total, note=shown_text(note))


class Lines:
    """Plain lines for a log: one where a stage begins, one where it ends, one a minute between.

    Args:
        write: Writes a line.
        clock: Seconds, from any start.
    """

    def __init__(
        self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write, self._clock, self._start = write, clock, clock()
        self._began: dict[str, float] = {}
        self._wrote: dict[str, float] = {}  # the last line of each stage that has not ended

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Write a line where one is due."""
        now = self._clock()
        if stage not in self._began:
            self._began[stage] = self._wrote[stage] = now
            self._line(now, f"{stage}: {'begun' if done < total else note or 'done'}")
        elif stage in self._wrote and done >= total:
            self._line(now, f"{stage}: done in {now - self._began[stage]:.0f} s")
        elif stage in self._wrote and now - self._wrote[stage] >= 60:
            self._wrote[stage] = now
            self._line(now, f"{stage}: {done} of {total}" + (f", {note}" if note else ""))
        if done >= total:
            self._wrote.pop(stage, None)

    def _line(self, now: float, text: str) -> None:
        self._write(f"[{now - self._start:5.0f} s] {text}")


@contextmanager
def bars() -> Iterator[Progress]:
    """Progress bars on the terminal; plain lines where standard error is none."""
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
    with rich_progress.Progress(*columns, console=errors) as progress:
        yield Bars(progress)


def quieten_libraries() -> None:
    """Keep other libraries' lines from tearing our progress bars apart; downloads keep theirs."""
    from transformers.utils import logging  # noqa: PLC0415 (torch takes seconds)

    logging.disable_progress_bar()
    # PEFT 0.21 asks transformers 5.23 for an attribute by its old name: no news for a user.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
