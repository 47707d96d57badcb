"""From numbers to places on a line: linear scales with round ticks."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from rcsd.evaluation.report.text import MINUS, powered


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps [low, high] linearly onto [start, end], in user units of the drawing.

    Args:
        low: Number at the start.
        high: Number at the end, above low.
        start: Place of low.
        end: Place of high; before start for an axis that points up.
        step: Distance between ticks, which lie at its multiples.
    """

    low: float
    high: float
    start: float
    end: float
    step: float

    def __call__(self, value: float) -> float:
        """Place of a number."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> tuple[tuple[float, str], ...]:
        """Places of the round numbers on the axis, with their labels."""
        first, last = (
            math.ceil(self.low / self.step - 1e-9),
            math.floor(self.high / self.step + 1e-9),
        )
        values = [index * self.step for index in range(first, last + 1)]
        return tuple((self(value), tick_label(value, self.step)) for value in values)


def round_scale(
    values: Iterable[float], start: float, end: float, num_ticks: int = 5, from_zero: bool = True
) -> Scale:
    """Scale whose ends are round numbers around the values.

    Args:
        values: Finite numbers; none at all gives [0, 1].
        start: Place of the low end.
        end: Place of the high end.
        num_ticks: About how many steps the axis shall have.
        from_zero: Whether 0 must be on the axis; lengths can be compared only then.
    """
    numbers = list(values) or [0.0, 1.0]
    low, high = min(numbers), max(numbers)
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
        low, high = (0.0, 1.0) if low == 0 else (low - abs(low) / 2, high + abs(high) / 2)
    step = _round_step((high - low) / num_ticks)
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    return Scale(low, high, start, end, step)


def spanning_scale(values: Iterable[float], start: float, end: float, num_ticks: int = 5) -> Scale:
    """Scale from the smallest to the largest value, round ticks between: for the steps of a run."""
    numbers = list(values)
    around = round_scale(numbers, start, end, num_ticks, from_zero=False)
    if not numbers or min(numbers) == max(numbers):
        return around
    return Scale(min(numbers), max(numbers), start, end, around.step)


def share_scale(values: Iterable[float], start: float, end: float) -> Scale:
    """Scale from 0: to 1 where the largest value is a share above one half, else to a round end."""
    numbers = list(values)
    if numbers and min(numbers) >= 0 and 0.5 < max(numbers) <= 1:
        return Scale(0.0, 1.0, start, end, 0.25)
    return round_scale(numbers, start, end)


def tick_label(value: float, step: float) -> str:
    """A tick with as many decimals as its step needs."""
    if value != 0 and not 1e-4 <= step < 1e6:
        return powered(value)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if round(step * 10**decimals, 6) % 1:  # 0.25 needs one more
        decimals += 1
    return f"{value:,.{decimals}f}".replace("-", MINUS) if value else "0"


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
