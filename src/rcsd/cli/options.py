"""Arguments and options that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

RunFile = Annotated[Path, typer.Argument(help="YAML file of the run.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Changed settings, such as seed=1.")]
Rows = Annotated[Path, typer.Argument(help="JSONL file of rows.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint.")]
Quick = Annotated[bool, typer.Option("--quick", help="Minutes, for a first look.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite existing files.")]
Strict = Annotated[bool, typer.Option("--strict", help="Treat warnings as errors.")]
Json = Annotated[Path | None, typer.Option(help="JSON file to write everything to.")]
JudgeFile = Annotated[Path | None, typer.Option("--judge", help="YAML file with a section judge.")]
