"""Does headroom before training tell the gain? Over the arms of a study that share a loss.

python experiments/headroom.py runs/paper-table
"""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer


def main(
    study: Annotated[Path, typer.Argument(help="Folder of 'rcsd study'.")],
) -> None:
    """Print Pearson's r of headroom before training and gain for each set."""
    found = json.loads((study / "study.json").read_text())
    arms = found["config"]["arms"]

    def loss(label: str) -> list[Any]:
        run = arms[label.partition(",")[0]]["run"]
        return [run.get("method"), run.get("sampling")]

    alike = [arm for arm in found["taught_by"] if loss(arm) == loss(found["config"]["against"])]
    for one in found["comparisons"]:
        if one["metric"] != "score":
            continue
        mean = {of["arm"]: of["interval"]["mean"] for of in one["compared"]["means"]}
        gain = {arm: value - mean["base"] for arm, value in mean.items()}
        points = [(arm, gain[found["taught_by"][arm]], gain[arm]) for arm in alike]
        r = np.corrcoef(np.array([point[1:] for point in points]).T)[0, 1]
        typer.echo(f"{one['held_out']}: r = {r:.2f} over {len(points)} arms, the same loss")


if __name__ == "__main__":
    typer.run(main)
