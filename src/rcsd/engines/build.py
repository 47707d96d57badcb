"""The engine that a section asks for."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager

from rcsd import config
from rcsd.engines.fitting import Batched, FittingEngine
from rcsd.engines.local import LocalEngine
from rcsd.errors import ModelError
from rcsd.models.memory import batch_limit
from rcsd.models.policy import Policy


def engine_of(
    section: config.AnyEngine,
    policy: Policy,
    precision: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
    longest: int | None = None,
    is_main: bool = True,
) -> FittingEngine:
    """What samples from a policy, in smaller batches where memory runs out.

    Args:
        section: Which engine, and how many prompts it takes together.
        policy: What is sampled from.
        precision: Context in which the model runs, as it does in training.
        longest: Tokens of the longest prompt with its completion, for engines that set room aside;
            None: what the model takes.
        is_main: Whether this process hands weights to an engine that several share.

    Raises:
        ConfigError: If a library or a variable is missing.
        ModelError: If the engine cannot run the model.
        RunError: If a server does not answer, or has another model.
    """
    engine: Batched
    # Each engine is imported where it is chosen: others do without vLLM and a server's client.
    match section:
        case config.HfEngine():
            from rcsd.engines.hf import HfEngine  # noqa: PLC0415

            engine = HfEngine(policy, section.batch_size, precision)
        case config.VllmEngine():
            from rcsd.engines.vllm import VllmEngine  # noqa: PLC0415

            engine = VllmEngine(policy, section, longest, precision)
        case config.VllmServer():
            from rcsd.engines.vllm_server import VllmServer  # noqa: PLC0415

            engine = VllmServer(policy, section, longest, precision, is_main)
        case _:
            engine = LocalEngine(policy, section.batch_size, precision)
    return FittingEngine(engine, batch_limit(section.batch_size))


def chosen_engine(
    section: config.AnyEngine | None, policy: Policy, batch_size: int, longest: int
) -> FittingEngine:
    """The engine of a section, or the default one.

    Args:
        section: None: the default one.
        policy: What is sampled from.
        batch_size: Of the default one.
        longest: As `engine_of`.
    """
    if section is None:
        return default_engine(policy, batch_size)
    return engine_of(section, policy, longest=longest)


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
