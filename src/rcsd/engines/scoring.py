"""The engine that scores, behind those that stand before it."""

from rcsd.engines.base import Engine, TopKScorer
from rcsd.errors import ConfigError


def scorer_of(engine: Engine) -> TopKScorer:
    """The scorer that an engine is, whatever stands before it.

    Raises:
        ConfigError: If it scores nothing.
    """
    while (inner := getattr(engine, "engine", None)) is not None:
        engine = inner
    if not isinstance(engine, TopKScorer):
        raise ConfigError("teacher.scored_by: engine needs engine vllm or vllm_server")
    return engine
