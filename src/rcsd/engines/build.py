"""Engines built from their configuration."""

from contextlib import nullcontext
from typing import Protocol

from rcsd import config
from rcsd.engines.base import PolicyEngine
from rcsd.engines.local import LocalEngine
from rcsd.errors import ModelError
from rcsd.models.memory import AdaptiveLimit
from rcsd.models.policy import Policy
from rcsd.models.scorer import Precision


class BuiltEngine(PolicyEngine, Protocol):
    """An engine with batches."""

    batch_size: AdaptiveLimit


def build_engine(
    section: config.AnyEngine,
    policy: Policy,
    precision: Precision = nullcontext,
    longest: int | None = None,
    is_main: bool = True,
) -> BuiltEngine:
    """The engine of a section, which samples from the policy.

    ``precision`` is the context of the model's passes, as in training; ``longest`` the tokens of
    the longest prompt with its completion, for engines that reserve memory (None: the model's
    longest sequence). Where several processes share an engine, the main one pushes weights.

    Raises:
        ConfigError: If a library or a variable is missing.
        ModelError: If the engine cannot run the model.
        RunError: If a server does not answer, or has another model.
    """
    match section:  # imported where they are chosen: others do without a server's client
        case config.HfEngine():
            from rcsd.engines.hf import HfEngine  # noqa: PLC0415

            return HfEngine(policy, section.batch_size, precision)
        case config.VllmEngine():
            from rcsd.engines.vllm import VllmEngine  # noqa: PLC0415

            return VllmEngine(policy, section, longest, precision)
        case config.VllmServer():
            from rcsd.engines.vllm_server import VllmServer  # noqa: PLC0415

            return VllmServer(policy, section, longest, precision, is_main)
        case _:
            return LocalEngine(policy, section.batch_size, precision)


def chosen_engine(
    section: config.AnyEngine | None, policy: Policy, batch_size: int, longest: int
) -> BuiltEngine:
    """The engine of a section; None: local, or `generate` for models that local cannot run."""
    if section is not None:
        return build_engine(section, policy, longest=longest)
    try:
        return LocalEngine(policy, batch_size)
    except ModelError:
        return build_engine(config.HfEngine(batch_size=batch_size), policy)
