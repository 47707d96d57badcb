"""What samples completions."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from rcsd.config.section import Section


class LocalEngine(Section):
    """An own decode loop: equal prompts are read once, and rows that have ended make room."""

    type: Literal["local"] = "local"
    """Selects the own loop."""
    batch_size: int = Field(default=32, ge=1)
    """Prompts in flight together, at most; changes memory and speed, not what is sampled."""


class HfEngine(Section):
    """transformers' generate: slow, exact, the yardstick."""

    type: Literal["hf"] = "hf"
    """Selects transformers."""
    batch_size: int = Field(default=32, ge=1)
    """Prompts generated together."""


AnyEngine = Annotated[
    LocalEngine | HfEngine,
    Field(discriminator="type"),
    # So that `engine.batch_size=8` alone is the local engine's.
    BeforeValidator(lambda tree: {"type": "local"} | tree if isinstance(tree, dict) else tree),
]
