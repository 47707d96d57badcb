"""``rcsd grade``."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from rcsd.cli.terminal import console, say


def grade_file(
    file: Annotated[Path, typer.Argument(help="JSONL file of answers; see above.")],
    out: Annotated[Path, typer.Option(help="JSONL file to write.")],
) -> None:
    """Grade final answers against references: one JSON row an answer.

    A row has the texts completion and reference, and a kind: choice, number, math or text. It may
    have options (of a choice), unit and tolerance (of a number; relative, 0.01 if left out), and
    finished (false if the completion was cut off).

    OUT gets the rows with extracted (the final answer), verdict (true, false, or null: ungraded)
    and reason; other keys stay as they are.
    """
    from rcsd.graders.grade_file import count_reasons  # noqa: PLC0415
    from rcsd.graders.grade_file import grade_file as grade_rows  # noqa: PLC0415

    grades = grade_rows(file, out)
    counts = Counter(grade.verdict for grade in grades)
    console.print(f"right {counts[True]}, wrong {counts[False]}, ungraded {counts[None]}")
    for reason, count in count_reasons(grades).items():
        console.print(f"  ungraded {count}: {reason}", markup=False, soft_wrap=True)
    say(f"Grades: {out}")
