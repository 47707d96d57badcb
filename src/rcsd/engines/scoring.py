"""The engine that scores, behind those that stand before it."""

from rcsd.engines import Engine, TopKScorer
from rcsd.engines.ahead import Ahead
from rcsd.engines.fitting import FittingEngine
from rcsd.engines.spread import Spread
from rcsd.errors import ConfigError


def scorer_of(engine: Engine) -> TopKScorer:
    """The scorer that an engine is, whatever stands before it.

    Raises:
        ConfigError: If it scores nothing.
    """
    while isinstance(engine, Ahead | FittingEngine | Spread):
        engine = engine.engine
    if not isinstance(engine, TopKScorer):
        raise ConfigError("teacher.scored_by: engine needs engine vllm or vllm_server")
    return engine
