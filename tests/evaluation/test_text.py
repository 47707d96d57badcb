"""Numbers as text."""

import pytest

from rcsd.evaluation.statistics import Interval
from rcsd.evaluation.text import MINUS, NOTHING, interval_text, number, p_value_text, stacked


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.00"),
        (0.825, "0.82"),
        (-0.12, f"{MINUS}0.12"),
        (12.34, "12.3"),
        (1234.5, "1,234"),
        (0.004, "0.004"),
        (0.00003, f"3e{MINUS}5"),
        (-0.0000312, f"{MINUS}3.12e{MINUS}5"),
    ],
)
def test_numbers_are_short(value: float, text: str):
    assert number(value) == text


def test_signs_intervals_and_p_values_are_written_out():
    assert number(0.12, signed=True) == "+0.12"
    assert number(0.0, signed=True) == "0.00"
    assert [p_value_text(p) for p in (0.0002, 0.034, None)] == ["< 0.001", "0.034", NOTHING]
    assert stacked(Interval(0.5, 0.4, 0.6, 9), ".2f") == "0.50\n[0.40, 0.60]"
    assert interval_text(None) == NOTHING
