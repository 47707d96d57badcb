"""Figures of arXiv 2606.19327 ("Rethinking Reward Supervision", Gu et al.), on Qwen3-8B.

Averages over its six science benchmarks. What it has for each benchmark, and any interval of its
own, was not at hand when this was written: neither is guessed. The abstract's "1.0 points over GRPO
and 0.9 over OPSD" agrees with these averages if its GRPO is the one with rubric reward.
"""

from collections.abc import Mapping
from dataclasses import dataclass

SOURCE = "arXiv 2606.19327, Qwen3-8B"


@dataclass(frozen=True, slots=True)
class Published:
    """A method of the paper.

    Args:
        method: As we call it.
        average: Over the six benchmarks, in [0, 1].
        names: Of arms that it is compared with.
        is_placebo: Whether its rubrics say nothing of the question.
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
"""The benchmarks that the published averages are over, by name of the set: what is measured."""

TRANSFER: Mapping[str, str] = {"medmcqa": "accuracy", "pubmedqa": "accuracy"}
"""The benchmarks that ask whether anything is lost elsewhere; in no average."""

BENCHMARKS: Mapping[str, str] = {**SCIENCE, **TRANSFER}
"""All of them."""


def published_of(arm: str) -> Published | None:
    """The paper's figure for an arm of that name, or None: it has none."""
    name = arm.lower().replace("_", "-").replace(" ", "-")
    return next((row for row in PUBLISHED if name in row.names), None)
