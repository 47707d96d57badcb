"""Figures of arXiv 2606.19327 ("Rethinking Reward Supervision", Gu et al.), on Qwen3-8B.

Averages over its six science benchmarks. Figures of single benchmarks and intervals were not at
hand, and are not guessed. The abstract's "1.0 points over GRPO
and 0.9 over OPSD" agrees with these averages if its GRPO is the one with rubric reward.
"""

from collections.abc import Mapping
from dataclasses import dataclass

SOURCE = "arXiv 2606.19327, Qwen3-8B"


@dataclass(frozen=True, slots=True)
class Published:
    """A method of the paper.

    Args:
        method: Name of the method.
        average: Average over the six benchmarks, in [0, 1].
        names: Names of arms that it is compared with.
        is_placebo: Whether its rubrics do not depend on the question.
    """

    method: str
    average: float
    names: tuple[str, ...]
    is_placebo: bool = False


PUBLISHED: tuple[Published, ...] = (
    Published("base", 0.659, ("base",)),
    Published("SFT", 0.654, ("sft",)),
    Published("GRPO", 0.692, ("grpo",)),
    Published("GRPO, rubric reward", 0.696, ("grpo-rubrics", "grpo-rubric")),
    Published("OPSD", 0.697, ("opsd",)),
    Published("RCSD", 0.706, ("rcsd", "rcsd-paper")),
    Published("RCSD, random rubrics", 0.700, ("random", "rcsd-random"), is_placebo=True),
    Published("RCSD, a generic rubric", 0.699, ("generic", "rcsd-generic"), is_placebo=True),
)
"""In the paper's order, placebos last."""

SCIENCE: Mapping[str, str] = {
    "gpqa-diamond": "accuracy",
    "scibench": "accuracy",
    "piqa": "accuracy",
    "rar-science": "score",
    "researchqa": "score",
    "rubrichub-science": "score",
}
"""Benchmarks of the published averages -> metric."""

TRANSFER: Mapping[str, str] = {"medmcqa": "accuracy", "pubmedqa": "accuracy"}
"""Benchmarks of transfer to other fields -> metric; in no average."""

BENCHMARKS: Mapping[str, str] = {**SCIENCE, **TRANSFER}
"""All benchmarks -> metric."""


def published_row(arm: str) -> Published | None:
    """Published figure for an arm of that name, or None."""
    name = arm.lower().replace("_", "-").replace(" ", "-")
    return next((row for row in PUBLISHED if name in row.names), None)
