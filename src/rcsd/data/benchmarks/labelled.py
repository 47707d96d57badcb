"""Questions whose options have labels: the layout that AI2's benchmarks share."""

from collections.abc import Mapping

from rcsd.data.benchmarks.base import Problem, Row, choice, text_of
from rcsd.errors import DataError


def labelled_problem(row: Row, id: str) -> Problem:
    """A problem of a row in AI2's layout, as published or as on the hub.

    ``{"question": {"stem", "choices": [{"text", "label"}]}, "answerKey"}``, or ``{"question" or
    "question_stem", "choices": {"text": [], "label": []}, "answerKey"}``. Labels are letters or
    numbers; options keep the file's order.
    """
    given = row.get("question")
    if isinstance(given, Mapping):
        question, choices = text_of(given, "stem"), given.get("choices")
    else:
        name = "question" if "question" in row else "question_stem"
        question, choices = text_of(row, name), row.get("choices")
    labels, texts = _options(choices)
    key = str(row.get("answerKey") or "").strip()
    if key and key not in labels:
        raise DataError(f"{key!r} is none of the labels {labels}", field="answerKey")
    problem = Problem(str(row.get("id") or id), question)
    return choice(problem, texts, labels.index(key) if key else None)


def _options(choices: object) -> tuple[list[str], list[object]]:
    """Labels and texts."""
    if isinstance(choices, Mapping):
        labels, texts = choices.get("label"), choices.get("text")
    elif isinstance(choices, list) and all(isinstance(one, Mapping) for one in choices):
        labels = [one.get("label") for one in choices]
        texts = [one.get("text") for one in choices]
    else:
        labels = texts = None
    if not isinstance(labels, list) or not isinstance(texts, list) or len(labels) != len(texts):
        raise DataError(f"expected labels and texts of options, got {choices!r}", field="choices")
    return [str(label) for label in labels], texts
