"""The teacher's weights: frozen, a moving average, or the student's own."""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from rcsd import config
from rcsd.models import Policy


@runtime_checkable
class Teacher(Protocol):
    """What says with which weights the teacher's part is played."""

    moves_within_a_step: bool
    """Whether it says something else after each update of the student, not only after `update`."""

    def weights(self) -> AbstractContextManager[None]:
        """Inside, the policy's model has the teacher's weights."""
        ...

    def update(self) -> None:
        """Follow the student after an optimizer step."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must keep."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what a checkpoint kept."""
        ...


class LiveTeacher:
    """The student's present weights."""

    moves_within_a_step = True

    def weights(self) -> AbstractContextManager[None]:
        """The model as it is."""
        return contextlib.nullcontext()

    def update(self) -> None:
        """Nothing follows: teacher and student share their weights."""

    def state_dict(self) -> dict[str, Any]:
        """Empty."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to take up."""


class AdaptersOffTeacher(LiveTeacher):
    """The initial weights of a LoRA run: the same model with its adapters off."""

    moves_within_a_step = False

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    @contextlib.contextmanager
    def weights(self) -> Iterator[None]:
        """The model without its adapters."""
        with self.policy.model.disable_adapter():
            yield


class ShadowTeacher:
    """A copy of the trained parameters, swapped in when the teacher speaks.

    Args:
        policy: Whose present weights are the copy's first.
        decay: Each update sets ``copy <- decay copy + (1 - decay) student``; None keeps the copy.
    """

    moves_within_a_step = False

    def __init__(self, policy: Policy, decay: float | None) -> None:
        self.policy, self.decay = policy, decay
        self._copy: dict[str, Tensor] = {
            name: parameter.detach().clone() for name, parameter in policy.trainable.items()
        }

    @contextlib.contextmanager
    def weights(self) -> Iterator[None]:
        """The copy's values in the model's parameters; the student's are put back afterwards."""
        student = {name: p.data for name, p in self.policy.trainable.items()}
        try:
            for name, parameter in self.policy.trainable.items():
                parameter.data = self._copy[name]
            yield
        finally:
            for name, parameter in self.policy.trainable.items():
                parameter.data = student[name]

    @torch.no_grad()
    def update(self) -> None:
        """Follow the student by one step of the moving average."""
        if self.decay is not None:
            for name, parameter in self.policy.trainable.items():
                self._copy[name].lerp_(parameter.data, 1 - self.decay)

    def state_dict(self) -> dict[str, Any]:
        """The copy; nothing where it is kept, since a resumed run makes it again."""
        return dict(self._copy) if self.decay is not None else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a copy."""
        for name, value in state.items():
            self._copy[name].copy_(value)


def teacher_of(
    section: config.FrozenTeacher | config.EmaTeacher | config.LiveTeacher, policy: Policy
) -> Teacher:
    """The teacher that a configuration asks for."""
    match section:
        case config.LiveTeacher():
            return LiveTeacher()
        case config.EmaTeacher(decay=decay):
            return ShadowTeacher(policy, decay)
        case config.FrozenTeacher() if policy.has_adapters:
            return AdaptersOffTeacher(policy)
        case _:
            return ShadowTeacher(policy, decay=None)
