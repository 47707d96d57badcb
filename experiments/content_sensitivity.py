"""Does content sensitivity tell what is gained over shuffled rubrics? Over several studies' models.

python experiments/content_sensitivity.py runs/presence-0.0 runs/presence-0.5 runs/presence-1.0
"""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer


def main(
    studies: Annotated[list[Path], typer.Argument(help="Folders of 'rcsd study'.")],
) -> None:
    """Print sensitivity and gain of each study's arms, and their correlation."""
    found = {path.name: json.loads((path / "study.json").read_text()) for path in studies}
    sets = dict.fromkeys(o["held_out"] for study in found.values() for o in study["comparisons"])
    for held_out in sets:
        points = []
        for name, study in found.items():
            for one in study["comparisons"]:
                if (one["held_out"], one["metric"]) != (held_out, "score"):
                    continue
                score = {of["arm"]: of["interval"]["mean"] for of in one["compared"]["means"]}
                gold, shuffled = score["teacher of rcsd"], score["teacher of rcsd, shuffled"]
                sensitivity = (gold - shuffled) / (gold - score["base"])
                gain = score["rcsd"] - score["rcsd, shuffled"]
                typer.echo(
                    f"{held_out}, {name}: sensitivity {sensitivity:.2f}, gain over shuffled "
                    f"{gain:.2f}"
                )
                points.append((name, sensitivity, gain))
        if len(points) > 2:
            r = np.corrcoef(np.array([point[1:] for point in points]).T)[0, 1]
            typer.echo(f"{held_out}: r = {r:.2f} over {len(points)} models")


if __name__ == "__main__":
    typer.run(main)
