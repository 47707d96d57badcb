"""Steps for workers of their own, which import this file and little else."""

import os
import signal
import time
from pathlib import Path

from rcsd.recipes.workers import StepProgress


def nap(progress: StepProgress, path: Path, heeds: bool = True) -> None:
    """Leave the number of this process, and sleep."""
    if not heeds:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    path.with_suffix(".new").write_text(f"{os.getpid()} ")
    path.with_suffix(".new").rename(path)
    progress(1, 2, "")
    time.sleep(600)


def note(progress: StepProgress, path: Path) -> None:
    """Leave the number of this process, which then waits for another step."""
    path.write_text(f"{os.getpid()} ")


def talk(progress: StepProgress, path: Path) -> None:
    """More progress than any pipe holds, then a file."""
    for number in range(50_000):
        progress(number, 50_000, "x" * 20)
    path.write_text("said")
