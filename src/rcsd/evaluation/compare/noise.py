"""How often a judge errs, from the file that says it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rcsd.errors import DataError
from rcsd.evaluation.statistics import ErrorRates
from rcsd.io import read_json


def read_rates(path: Path) -> ErrorRates:
    """The error rates that ``rcsd judge check`` measured.

    Read is one object with ``sensitivity`` and ``specificity``, and with ``num_met`` and
    ``num_unmet``: the verdicts behind each; other keys are left.

    Raises:
        DataError: If the file is not there or holds no such rates, or rates of a judge that tells
            nothing.
    """
    found = read_json(path)
    try:
        return ErrorRates(
            float(_number(found, "sensitivity")),
            int(_number(found, "num_met")),
            float(_number(found, "specificity")),
            int(_number(found, "num_unmet")),
        )
    except ValueError as error:
        raise DataError(str(error), path) from error


def measured_judge(path: Path) -> Mapping[str, Any] | None:
    """The configuration of the judge that a file of rates was measured of; None: it names none."""
    sections = read_json(path).get("sections")
    if isinstance(sections, list) and sections and isinstance(sections[0], dict):
        return sections[0]
    return None


def _number(found: Mapping[str, Any], name: str) -> float:
    value = found.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(
            f"expected a number {name}, got {value!r}; the JSON of 'rcsd judge check' has "
            "sensitivity, num_met, specificity and num_unmet"
        )
    return value
