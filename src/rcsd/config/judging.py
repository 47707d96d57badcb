"""Who judges answers by their rubrics: checks in code, or a model, also in this process."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from rcsd.config.base import Section
from rcsd.config.engines import AnyEngine
from rcsd.config.judges import AskedModel, CodeJudge, ModelJudge
from rcsd.config.model import Model


class LocalJudge(AskedModel):
    """A model in this process, on this machine's own engine."""

    type: Literal["local"]
    """Selects the model in this process."""
    model: Model
    """The model; it is not trained."""
    engine: AnyEngine | None = None
    """What samples its replies; None: the local engine."""


Judge = Annotated[
    CodeJudge | ModelJudge | LocalJudge,
    Field(discriminator="type"),
    BeforeValidator(lambda given: {"type": given} if isinstance(given, str) else given),
]
"""Who judges."""


class Judging(Section):
    """A file that says who judges, for `rcsd judge check`."""

    judge: Judge
    """The judge."""
