"""The rubric world: science problems whose criteria are checked in code, and a micro model."""

import random
from dataclasses import replace

from rcsd.config import WorldData
from rcsd.data.world.following import DrawnRubrics
from rcsd.data.world.problems import FULL_STYLE, Style, examples, redraw_draft, written_answer
from rcsd.types import Example


def load(section: WorldData) -> tuple[list[Example], dict[str, object]]:
    """Problems of a data section (`rcsd.data.load`); there is nothing to record."""
    if section.split == "train" and section.rubrics == "drawn":
        drawn = DrawnRubrics(section.seed)
        return [drawn.example(f"drawn-{n}") for n in range(section.num_examples)], {}
    return examples(section.split, section.num_examples, section.seed), {}


def answers(section: WorldData) -> list[tuple[Example, str, str]]:
    """Example, text and quality of each answer, three to a problem, to measure judges with.

    The qualities: ``right`` and complete; wrong by the bad ``habit`` throughout; ``partial``, right
    or wrong by chance, with parts left out.
    """
    rng, written = random.Random(f"calibration {section.seed}"), []
    full = replace(FULL_STYLE, boxed=True)
    for example in examples(section.split, section.num_examples, section.seed):
        draft = redraw_draft(example)
        num_forks = len(draft.forks)
        style = Style(*(rng.random() < 0.5 for _ in range(6)))
        choices = [rng.random() < 0.5 for _ in range(num_forks)]
        written += [
            (example, written_answer(draft, [True] * num_forks, full), "right"),
            (example, written_answer(draft, [False] * num_forks, full), "habit"),
            (example, written_answer(draft, choices, style), "partial"),
        ]
    return written
