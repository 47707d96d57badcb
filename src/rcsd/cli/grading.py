"""``rcsd grade``."""

from pathlib import Path
from typing import Annotated

import typer

from rcsd.cli.terminal import console, say


def grade_file(
    file: Annotated[Path, typer.Argument(help="JSONL file of answers; see above.")],
    out: Annotated[Path, typer.Option(help="JSONL file to write.")],
) -> None:
    r"""Grade final answers against references: one JSON row an answer.

    \b
    completion, reference: texts
    kind: choice, number, math or text
    options: of a choice; unit, tolerance (a share): of a number; may be left out
    finished: false if the completion was cut off; may be left out

    OUT gets the rows with extracted (the final answer), verdict (true, false, or null: ungraded)
    and reason; other keys stay as they are.
    """
    from rcsd.graders.grade_file import graded_file  # noqa: PLC0415

    counts = graded_file(file, out)
    ungraded = sum(counts.ungraded.values())
    console.print(f"right {counts.right}, wrong {counts.wrong}, ungraded {ungraded}")
    for reason, count in counts.ungraded.items():
        console.print(f"  ungraded {count}: {reason}", markup=False, soft_wrap=True)
    say(f"Grades: {out}")
