"""What judges have in common."""

from typing import Protocol, runtime_checkable

from rcsd.errors import DataError
from rcsd.rubrics import Rubric
from rcsd.types import Example


@runtime_checkable
class Judge(Protocol):
    """Says which criteria of an example's rubric a text meets."""

    def verdicts(self, example: Example, text: str) -> list[bool | None]:
        """One verdict for each criterion, in order: met, not met, or None for unscored.

        Raises:
            DataError: If the example has no rubric.
        """
        ...


def rubric_of(example: Example) -> Rubric:
    """The rubric to judge by.

    Raises:
        DataError: If the example has none.
    """
    if example.rubric is None:
        raise DataError(f"example {example.id!r} has no rubric to judge by", field="rubric")
    return example.rubric
