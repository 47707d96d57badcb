"""Reader of HealthBench rows (arXiv 2505.08775; openai/simple-evals)."""

from collections.abc import Mapping
from typing import Any

from rcsd.data.importers.dialogue import pointed_criteria, question_of
from rcsd.data.importers.notes import Notes, Options
from rcsd.errors import DataError

FIELDS = frozenset({"prompt", "prompt_id", "rubrics", "example_tags", "ideal_completions_data"})


def healthbench_row(row: Mapping[str, Any], options: Options, notes: Notes) -> dict[str, Any]:
    """Our row of ``{"prompt": [messages], "prompt_id", "rubrics": [{"criterion", "points"}]}``.

    The physicians' ideal completion, where there is one, becomes the solution.

    Raises:
        DataError: Naming the field that is not as in HealthBench.
    """
    return {
        **({} if row.get("prompt_id") is None else {"id": row["prompt_id"]}),
        "question": question_of(row.get("prompt"), "prompt", options, notes),
        "solution": _ideal(row.get("ideal_completions_data"), notes),
        "rubric": pointed_criteria(row.get("rubrics"), "rubrics", notes),
        "tags": {"rubric_source": "healthbench", **_tags(row.get("example_tags"))},
    }


def _ideal(given: object, notes: Notes) -> object:
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise DataError(f"expected an object, got {given!r}", field="ideal_completions_data")
    if given.get("ideal_completion") is not None:
        notes.rules.append("solution: the physicians' ideal completion")
    return given.get("ideal_completion")


def _tags(given: object) -> dict[str, str]:
    """``theme:...`` under its own name, the others joined."""
    if given is None:
        return {}
    if not isinstance(given, list) or not all(isinstance(tag, str) for tag in given):
        raise DataError(f"expected a list of texts, got {given!r}", field="example_tags")
    themes = [tag.removeprefix("theme:") for tag in given if tag.startswith("theme:")]
    others = [tag for tag in given if not tag.startswith("theme:")]
    joined = {"theme": ", ".join(themes), "example_tags": ", ".join(others)}
    return {name: text for name, text in joined.items() if text}
