"""What ``rcsd train`` and ``rcsd rubrics train`` share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rcsd.cli.terminal import bars, errors, labelled, quieten_libraries, say

if TYPE_CHECKING:
    from rcsd.config import Config
    from rcsd.runs import RunFolder

RunFile = Annotated[Path, typer.Argument(help="YAML file of the run.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value, such as optim.lr=1e-5")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint.")]


def train_and_report(
    settings: Config, resume: bool, run: Callable[..., RunFolder] | None = None
) -> None:
    """Train with a progress bar, write the report, and say where everything is.

    Args:
        settings: The run.
        resume: Go on from the newest checkpoint.
        run: Takes the place of `rcsd.training.trainer.run`, to train elsewhere.
    """
    from rcsd.evaluation.run_report import write_run_report  # noqa: PLC0415 (torch takes seconds)
    from rcsd.training.launch import is_main  # noqa: PLC0415
    from rcsd.training.trainer import run as run_here  # noqa: PLC0415

    run = run or run_here
    quieten_libraries()
    if not is_main():
        run(settings, resume, on_warning=lambda text: None)
        return
    with bars() as shown:

        def on_step(num_steps: int, metrics: Mapping[str, float]) -> None:
            losses = [f"{value:.4f}" for name, value in metrics.items() if name.startswith("loss/")]
            shown("train", num_steps, settings.steps, f"loss {losses[0]}" if losses else "")

        def on_warning(text: str) -> None:
            errors.print(labelled("warning", text, "bold yellow"))

        shown("train", 0, settings.steps, "")
        folder = run(settings, resume, on_step, on_warning)
    report = write_run_report(folder)
    record = folder.read_record()
    if record["dropped"]:
        left_out = f"Left out: {len(record['dropped'])} examples; see {folder.record}"
        say(left_out)
    say(f"Model: {folder.model}")
    say(f"Report: {report}")
