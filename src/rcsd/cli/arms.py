"""The options of commands that compare arms."""

from pathlib import Path
from typing import Annotated, Literal

import typer

ArmWords = Annotated[
    list[str], typer.Argument(help="[NAME=]FOLDER[,FOLDER...] of 'rcsd eval'; see above.")
]
Format = Annotated[
    Literal["text", "markdown", "json"], typer.Option(help="Of what is shown or written.")
]
Against = Annotated[
    str | None, typer.Option(help="Arm that the others are compared with. Default: the first.")
]
ClusterBy = Annotated[
    str | None, typer.Option(help="Tag to resample by, such as template. Default: by question.")
]
Seed = Annotated[int, typer.Option(min=0, help="Of the resampling.")]
Out = Annotated[Path | None, typer.Option(help="Write to this file instead.")]
