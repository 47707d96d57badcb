"""Questions and solutions of the data sets that hold conversations."""

from collections.abc import Mapping
from typing import Any

from rcsd.data.importers.notes import Notes, Options
from rcsd.errors import DataError

_ROLES = ("system", "user", "assistant")


def question_of(prompt: object, field: str, options: Options, notes: Notes) -> str:
    """The question that a prompt asks.

    A text, or a single user turn, is taken as it is. Several turns are refused, since an example
    holds one question; with ``options.turns = "joined"`` they become one text, in which each turn
    begins with the name of its role.

    Args:
        prompt: A text, or a list of messages with ``role`` and ``content``.
        field: The prompt's name, for errors.
        options: What becomes of several turns.
        notes: Where the rule is noted.

    Raises:
        DataError: If it is neither, or has several turns and they are not to be joined.
    """
    if isinstance(prompt, str):
        return prompt
    if not isinstance(prompt, list) or not prompt:
        raise DataError(f"expected a text or a list of messages, got {prompt!r}", field=field)
    turns = [_turn(message, f"{field}[{index}]") for index, message in enumerate(prompt)]
    if [role for role, _ in turns] == ["user"]:
        notes.rules.append("prompt: a single user turn")
        return turns[0][1]
    if options.turns == "single":
        roles = ", ".join(role for role, _ in turns)
        raise DataError(
            f"several turns, and an example holds one question: {roles}; "
            "--turns joined writes them into one text",
            field=field,
        )
    if turns[-1][0] != "user":
        raise DataError("the last turn is not the user's: nothing is asked", field=field)
    notes.rules.append("prompt: several turns, joined into one text")
    return "\n\n".join(f"{role}: {content}" for role, content in turns)


def _turn(message: object, field: str) -> tuple[str, str]:
    role, content = (
        (message.get("role"), message.get("content"))
        if isinstance(message, Mapping)
        else (None, None)
    )
    if role not in _ROLES or not isinstance(content, str) or not content.strip():
        raise DataError(
            f"expected a message with role ({', '.join(_ROLES)}) and content, got {message!r}",
            field=field,
        )
    return role, content


def text_tags(row: Mapping[str, Any], *names: str) -> dict[str, str]:
    """The fields that are texts, as tags; what is null or empty is left out."""
    values = {name: row.get(name) for name in names}
    return {name: value for name, value in values.items() if isinstance(value, str) and value}


def pointed_criteria(given: object, field: str, notes: Notes) -> list[dict[str, Any]]:
    """Criteria of ``[{"criterion": str, "points": number}]``, as HealthBench has them.

    A criterion of negative points names a mistake by the definition of these data sets: meeting it
    costs points. So the points are our weight as they are.

    Raises:
        DataError: If it is not a list of objects.
    """
    if not isinstance(given, list) or not given:
        raise DataError(f"expected a list of criteria, got {given!r}", field=field)
    criteria: list[dict[str, Any]] = []
    for index, item in enumerate(given):
        place = f"rubric[{index}]"
        if not isinstance(item, Mapping):
            notes.dropped.append(f"{place}: expected an object, got {item!r}")
            continue
        text, points = item.get("criterion"), item.get("points")
        if not isinstance(text, str) or not any(map(str.isalnum, text)):
            notes.dropped.append(f"{place}.criterion: expected a text with words, got {text!r}")
        elif isinstance(points, bool) or not isinstance(points, int | float) or points == 0:
            notes.dropped.append(f"{place}.points: expected a number, not 0, got {points!r}")
        else:
            rule = "points below 0: a mistake" if points < 0 else "points above 0: a demand"
            notes.rules.append(rule)
            criteria.append({"criterion": text, "weight": points})
    return criteria
