"""Engines built from their configuration."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from rcsd import config
from rcsd.engines.base import PolicyEngine
from rcsd.engines.hf import HfEngine
from rcsd.engines.local import LocalEngine
from rcsd.errors import ModelError
from rcsd.models.memory import AdaptiveLimit
from rcsd.models.policy import Policy


class BuiltEngine(PolicyEngine, Protocol):
    """An engine with batches."""

    batch_size: AdaptiveLimit


def build_engine(
    section: config.AnyEngine,
    policy: Policy,
    precision: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
    longest: int | None = None,
    is_main: bool = True,
) -> BuiltEngine:
    """The engine of a section.

    Args:
        section: Type and batch size.
        policy: The policy that it samples from.
        precision: Context of the model's passes, as in training.
        longest: Tokens of the longest prompt with its completion, for engines that reserve memory;
            None: the model's longest sequence.
        is_main: Whether this process pushes weights to an engine that several share.

    Raises:
        ConfigError: If a library or a variable is missing.
        ModelError: If the engine cannot run the model.
        RunError: If a server does not answer, or has another model.
    """
    match section:
        case config.HfEngine():
            return HfEngine(policy, section.batch_size, precision)
        # Imported where they are chosen: others do without vLLM and a server's client.
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
    """The engine of a section; without one, `default_engine`.

    Args:
        section: The section, or None.
        policy: The policy that it samples from.
        batch_size: Batch size of the default engine.
        longest: As `build_engine`.
    """
    if section is None:
        return default_engine(policy, batch_size)
    return build_engine(section, policy, longest=longest)


def default_engine(policy: Policy, batch_size: int) -> BuiltEngine:
    """The local engine, or transformers' `generate` for models that it cannot run."""
    try:
        return LocalEngine(policy, batch_size)
    except ModelError:
        return HfEngine(policy, batch_size)
