"""The engine that a section asks for."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager

from rcsd import config
from rcsd.engines.fitting import FittingEngine
from rcsd.engines.hf import HfEngine
from rcsd.engines.local import LocalEngine
from rcsd.errors import ModelError
from rcsd.memory import batch_limit
from rcsd.models import Policy


def engine_of(
    section: config.AnyEngine,
    policy: Policy,
    precision: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
) -> FittingEngine:
    """What samples from a policy, in smaller batches where memory runs out.

    Args:
        section: Which engine, and how many prompts it takes together.
        policy: What is sampled from.
        precision: Context in which the model runs, as it does in training.

    Raises:
        ModelError: If the engine cannot run the model.
    """
    kind = HfEngine if section.type == "hf" else LocalEngine
    engine = kind(policy, section.batch_size, precision)
    return FittingEngine(engine, batch_limit(section.batch_size))


def default_engine(policy: Policy, batch_size: int) -> FittingEngine:
    """The local engine, or transformers' generate for models that it cannot run.

    Args:
        policy: What is sampled from.
        batch_size: Prompts together.
    """
    try:
        return engine_of(config.LocalEngine(batch_size=batch_size), policy)
    except ModelError:
        return engine_of(config.HfEngine(batch_size=batch_size), policy)
