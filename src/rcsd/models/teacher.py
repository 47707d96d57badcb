"""The teacher's weights: frozen, a moving average, or the student's own."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from rcsd import config
from rcsd.distributed import local
from rcsd.models.policy import Policy


class LiveTeacher:
    """The student's present weights."""

    moves_within_a_step = True
    """True if targets change after each update of the student, not only after `update`."""

    def weights(self) -> AbstractContextManager[None]:
        """Inside, the policy's model has the teacher's weights."""
        return contextlib.nullcontext()

    def update(self) -> None:
        """Follow the student after an optimizer step."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors for a checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what a checkpoint kept."""


class AdaptersOffTeacher(LiveTeacher):
    """The initial weights of a LoRA run: the same model with its adapters off."""

    moves_within_a_step = False

    def __init__(self, policy: Policy, reshard: Callable[[], None] = lambda: None) -> None:
        self.policy, self._reshard = policy, reshard

    @contextlib.contextmanager
    def weights(self) -> Iterator[None]:
        """The model without its adapters."""
        # Whether a parameter is trained is noted at those that the optimizer knows.
        self._reshard()
        with self.policy.model.disable_adapter():
            yield
            self._reshard()


class ShadowTeacher:
    """A copy of the trained parameters, swapped in when the teacher scores.

    Each update sets ``copy <- decay copy + (1 - decay) student``; without ``decay`` the copy is
    kept. ``reshard`` is FSDP2's, before parameters are read or changed, so that they are in place.
    """

    moves_within_a_step = False

    def __init__(
        self, policy: Policy, decay: float | None, reshard: Callable[[], None] = lambda: None
    ) -> None:
        self.policy, self.decay, self._reshard = policy, decay, reshard
        self._copy = {name: p.detach().clone() for name, p in policy.trainable.items()}

    @contextlib.contextmanager
    def weights(self) -> Iterator[None]:
        """The copy's values in the model's parameters; the student's are put back afterwards."""
        student = self._put(self._copy)
        try:
            yield
        finally:
            self._put(student)

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Other values in the place of the model's; returns those that were there."""
        self._reshard()
        before: dict[str, Tensor] = {}
        for name, parameter in self.policy.trainable.items():
            if isinstance(parameter, DTensor):  # FSDP2 keeps to the memory that it knows
                before[name] = parameter.detach().clone()
                local(parameter).copy_(local(values[name]))
            else:
                before[name], parameter.data = parameter.data, values[name]
        return before

    @torch.no_grad()
    def update(self) -> None:
        """Follow the student by one step of the moving average."""
        if self.decay is not None:
            for name, parameter in self.policy.trainable.items():
                local(self._copy[name]).lerp_(local(parameter.data), 1 - self.decay)

    def state_dict(self) -> dict[str, Any]:
        """The copy; nothing where it is kept, since a resumed run makes it again."""
        return dict(self._copy) if self.decay is not None else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a copy."""
        for name, value in state.items():
            local(self._copy[name]).copy_(value)


Teacher = LiveTeacher | ShadowTeacher


def build_teacher(
    section: config.FrozenTeacher | config.EmaTeacher | config.LiveTeacher,
    policy: Policy,
    reshard: Callable[[], None] = lambda: None,
) -> Teacher:
    """The teacher of a section, with the policy's other view; ``reshard`` as `ShadowTeacher`."""
    match section:
        case config.LiveTeacher():
            return LiveTeacher()
        case config.FrozenTeacher() if policy.has_adapters:
            return AdaptersOffTeacher(policy, reshard)
        case _:
            decay = section.decay if isinstance(section, config.EmaTeacher) else None
            return ShadowTeacher(policy, decay, reshard)
