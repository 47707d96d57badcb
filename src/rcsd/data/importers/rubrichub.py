"""Reader of RubricHub rows (arXiv 2601.08430): the files under RuRL, and what its code exports."""

from collections.abc import Mapping
from typing import Any

from rcsd.data.importers.dialogue import pointed_criteria, question_of, text_tags
from rcsd.data.importers.notes import Notes, Options
from rcsd.data.lines import strict_json
from rcsd.errors import DataError

_PROMPTS = ("prompt", "messages", "question")
_RUBRICS = ("Rubrics", "rubrics")
FIELDS = frozenset({*_PROMPTS, *_RUBRICS, "id", "ability", "data_source", "reward_model"})


def rubrichub_row(row: Mapping[str, Any], options: Options, notes: Notes) -> dict[str, Any]:
    """Our row of ``{"prompt": [messages], "Rubrics": [{"criterion", "points", "tags"}]}``.

    Also read: ``messages`` or a text ``question`` in place of ``prompt``; ``rubrics``, or
    ``reward_model.rubrics`` where there is neither. A criterion that the data set decides by one of
    its own functions keeps its text alone, and is counted: our checks are others.

    Raises:
        DataError: Naming the field that is not as in RubricHub.
    """
    if "query" in row and "answer" in row:
        raise DataError(
            "a row of sft_RuFT, which holds answers to learn from; import the files under RuRL",
            field="query",
        )
    prompt = _only(row, _PROMPTS)
    reward = _reward(row.get("reward_model"))
    rubrics = _only(row, _RUBRICS, required="rubrics" not in reward)
    given = row[rubrics] if rubrics else reward["rubrics"]
    criteria = pointed_criteria(given, rubrics or "reward_model.rubrics", notes)
    num_functions = sum(_has_function(item) for item in given)
    notes.rules += ["criterion with a function of RubricHub: text alone"] * num_functions
    answer = reward.get("ground_truth") or None
    if answer is not None:
        notes.rules.append("reference answer: reward_model.ground_truth")
    return {
        **({} if row.get("id") in (None, "") else {"id": row["id"]}),
        "question": question_of(row[prompt], prompt, options, notes),
        "reference_answer": answer,
        "rubric": criteria,
        "tags": {"rubric_source": "rubrichub", **text_tags(row, "ability", "data_source")},
    }


def _only(row: Mapping[str, Any], names: tuple[str, ...], required: bool = True) -> str:
    """The one of the names that stands in the row, or '' where none must."""
    there = [name for name in names if row.get(name) is not None]
    if len(there) > 1 or (required and not there):
        found = " and ".join(there) or "none"
        raise DataError(f"expected one of {', '.join(names)}, got {found}", field=names[0])
    return there[0] if there else ""


def _reward(given: object) -> Mapping[str, Any]:
    """The field reward_model: an object, or its JSON."""
    if given is None:
        return {}
    if isinstance(given, str):
        try:
            given = strict_json(given.encode("utf-8", "surrogatepass"))
        except DataError as error:
            raise DataError(str(error), field="reward_model") from error
    if not isinstance(given, Mapping):
        raise DataError(f"expected an object, got {type(given).__name__}", field="reward_model")
    return given


def _has_function(item: object) -> bool:
    tags = item.get("tags") if isinstance(item, Mapping) else None
    return isinstance(tags, Mapping) and bool(tags.get("function"))
