"""The rubric world: science problems whose criteria are checked in code, and a micro model."""

from rcsd.config import WorldData
from rcsd.data.world.following import DrawnRubrics
from rcsd.data.world.problems import examples
from rcsd.data.world.reading import read_rubric
from rcsd.types import Example

__all__ = ["load", "read_rubric"]


def load(section: WorldData) -> tuple[list[Example], dict[str, object]]:
    """Problems of a data section (`rcsd.data.load`); there is nothing to record."""
    if section.split == "train" and section.rubrics == "drawn":
        drawn = DrawnRubrics(section.seed)
        return [drawn.example(f"drawn-{n}") for n in range(section.num_examples)], {}
    return examples(section.split, section.num_examples, section.seed), {}
