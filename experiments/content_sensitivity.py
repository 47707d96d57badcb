"""Does content sensitivity tell what is gained over shuffled rubrics? Over several studies' models.

python experiments/content_sensitivity.py runs/presence-0.0 runs/presence-0.5 runs/presence-1.0
"""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from rcsd.evaluation.report import Relation, ReportPage, write_report


def main(
    studies: Annotated[list[Path], typer.Argument(help="Folders of 'rcsd study'.")],
    out: Annotated[Path, typer.Option(help="The page.")] = Path("content-sensitivity.html"),
) -> None:
    """Print sensitivity and gain of each study's arms, their correlation, and draw them."""
    relations = []
    found = {path.name: json.loads((path / "study.json").read_text()) for path in studies}
    sets = dict.fromkeys(row["held_out"] for study in found.values() for row in study["teachers"])
    for held_out in sets:
        points = []
        for name, study in found.items():
            for row in study["teachers"]:
                if row["held_out"] != held_out or row["content_gain"] is None:
                    continue
                sensitivity, gain = row["sensitivity"], row["content_gain"]
                shown = "undefined" if sensitivity is None else _said(sensitivity)
                typer.echo(f"{held_out}, {name}, {row['arm']}: sensitivity {shown}, "
                           f"gain over shuffled {_said(gain)}")  # fmt: skip
                if sensitivity is not None:
                    points.append((name, sensitivity["mean"], gain["mean"]))
        note = ""
        if len(points) > 2:
            note = f"r = {np.corrcoef(np.array([point[1:] for point in points]).T)[0, 1]:.2f}"
            typer.echo(f"{held_out}: {note} over {len(points)} models")
        labels = ("content sensitivity", "gain over shuffled rubrics")
        relations.append(Relation(held_out.replace("_", " "), *labels, tuple(points), note))
    write_report(ReportPage("content sensitivity", relations=tuple(relations)), out)


def _said(interval: dict[str, float]) -> str:
    return f"{interval['mean']:.2f} [{interval['low']:.2f}, {interval['high']:.2f}]"


if __name__ == "__main__":
    typer.run(main)
