"""Kinds of rubrics by which arms are named."""

from typing import Literal

PlaceboArm = Literal["generic", "shuffled", "random", "reduced", "noisy"]
"""A placebo that a reasoner is trained with, by its type in `rcsd.config.Rubrics`."""

Arm = Literal["gold", "learned", "direct", PlaceboArm]
"""Whose rubrics a reasoner is trained with."""
