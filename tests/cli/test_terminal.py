"""Progress in a log: a plain line for each stage begun and ended, and one a minute between."""

import io
from itertools import count

import pytest

from rcsd.cli import terminal
from rcsd.cli.terminal import GuardedConsole, Lines, bars


def test_a_stage_has_a_line_where_it_begins_and_one_where_it_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[str] = []
    seconds = iter([0.0, 12.0, 13.0, 75.4, 76.0])
    monkeypatch.setattr(terminal, "monotonic", lambda: next(seconds))
    progress = Lines(lines.append)
    for done in (0, 1, 3, 3):
        progress("train gold", done, 3, f"loss {done}")
    assert lines == ["[   12 s] train gold: begun", "[   75 s] train gold: done in 63 s"]


def test_a_long_stage_has_a_line_a_minute_and_others_have_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[str] = []
    clock = count(0, 25)
    monkeypatch.setattr(terminal, "monotonic", lambda: float(next(clock)))
    progress = Lines(lines.append)
    for done in range(5):
        progress("train", done, 5, "loss 0.5")
    progress("evaluate", 0, 2, "")
    progress("train", 5, 5, "")
    assert lines == [
        "[   25 s] train: begun",
        "[  100 s] train: 3 of 5, loss 0.5",
        "[  150 s] evaluate: begun",
        "[  175 s] train: done in 150 s",
    ]


@pytest.mark.parametrize("is_terminal", [False, True])
def test_lines_are_for_a_log_and_bars_for_a_terminal(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    file = io.StringIO()
    console = GuardedConsole(file=file, force_terminal=is_terminal)
    monkeypatch.setattr(terminal, "errors", console)
    with bars() as progress:
        progress("train [bold]\x1b[2J", 0, 2, "")
        assert isinstance(progress, Lines) == (not is_terminal)
    assert "\x1b[2J" not in file.getvalue()
    if not is_terminal:
        assert file.getvalue().startswith("[    0 s] train [bold]")
        assert file.getvalue().endswith(": begun\n")
