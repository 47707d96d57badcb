"""Readers of published formats: a row of a data set becomes a row of ours.

A row of another layout is a DataError that names the field; a criterion that cannot be read is left
out and noted.
"""

import datetime
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from rcsd.config.data import Format
from rcsd.data.fields import shortened
from rcsd.data.json_files import parse_json
from rcsd.data.rows import FIELDS
from rcsd.errors import DataError


@dataclass
class Notes:
    """Log of one row; its reader writes here.

    Args:
        rules: Rule that decided each criterion or field.
        dropped: Place and reason of each criterion that was left out.
    """

    rules: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)


def _row(source: Mapping[str, Any], origin: str, id: str = "id", **fields: Any) -> dict[str, Any]:
    """Row of ours; an id that is null or empty is left to the line number."""
    tags = {"rubric_source": origin, **fields.pop("tags", {})}
    there = {} if source.get(id) in (None, "") else {"id": source[id]}
    return {**there, **fields, "tags": tags}


def text_tags(source: Mapping[str, Any], *names: str) -> dict[str, str]:
    """Fields that are texts, as tags; what is null or empty is left out."""
    return {
        name: source[name] for name in names if isinstance(source.get(name), str) and source[name]
    }


def _criteria(
    items: object, field: str, notes: Notes, read: Callable[[Any], tuple[dict[str, Any], str]]
) -> list[dict[str, Any]]:
    """Criteria of a list, each with the name of the rule that decided its points."""
    if not isinstance(items, list) or not items:
        raise DataError(f"expected a list of criteria, got {shortened(items)}", field=field)
    criteria = []
    for index, item in enumerate(items):
        try:
            criterion, rule = read(item)
        except DataError as error:
            name = f".{error.field}" if error.field else ""
            notes.dropped.append(f"rubric[{index}]{name}: {error.message}")
        except ValueError as error:
            notes.dropped.append(f"rubric[{index}]: {error}")
        else:
            criteria.append(criterion)
            notes.rules.append(rule)
    return criteria


def _with_words(text: object, field: str = "") -> str:
    if not isinstance(text, str) or not any(map(str.isalnum, text)):
        raise DataError(f"expected a text with words, got {text!r}", field=field)
    return text


def _none_if_blank(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _question(prompt: object, field: str, notes: Notes) -> str:
    """Question of a prompt: a text, or a list of one user message; several turns are refused."""
    if isinstance(prompt, str):
        return prompt
    if not isinstance(prompt, list) or not prompt:
        message = f"expected a text or a list of messages, got {shortened(prompt)}"
        raise DataError(message, field=field)
    roles = ("system", "user", "assistant")
    for index, message in enumerate(prompt):
        turn = message if isinstance(message, Mapping) else {}
        content = turn.get("content")
        if turn.get("role") not in roles or not isinstance(content, str) or not content.strip():
            raise DataError(
                f"expected a message with role ({', '.join(roles)}) and content, "
                f"got {shortened(message)}",
                field=f"{field}[{index}]",
            )
    if [message["role"] for message in prompt] != ["user"]:
        turns = ", ".join(message["role"] for message in prompt)
        raise DataError(f"several turns, and an example holds one question: {turns}", field=field)
    notes.rules.append("prompt: a single user turn")
    return prompt[0]["content"]


def _pointed(item: Any) -> tuple[dict[str, Any], str]:
    """Criterion of ``{"criterion": str, "points": number}``, as in HealthBench.

    A criterion of negative points names a mistake by the definition of these data sets, so points
    are our weight as they are.
    """
    if not isinstance(item, Mapping):
        raise DataError(f"expected an object, got {item!r}")
    text, points = _with_words(item.get("criterion"), "criterion"), item.get("points")
    if not _is_number(points) or points == 0:
        raise DataError(f"expected a number, not 0, got {points!r}", field="points")
    rule = "points below 0: a mistake" if points < 0 else "points above 0: a demand"
    return {"criterion": text, "weight": points}, rule


# Our own rows


def jsonl_row(source: Mapping[str, Any], notes: Notes) -> dict[str, Any]:
    """Row of ours as it is; in a table, rubric, tags and grading may be JSON texts."""
    row = dict(source)
    for name in ("rubric", "tags", "grading"):
        value = row.get(name)
        if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
            row[name] = _parse_field(value, name)
            notes.rules.append(f"{name}: read from a JSON text")
    notes.rules.append("row taken as it is")
    return row


def _parse_field(text: str, field: str) -> Any:
    try:
        return parse_json(text.encode("utf-8", "surrogatepass"))
    except DataError as error:
        raise DataError(error.message, field=field) from error


# RaR (Rubrics as Rewards, arXiv 2507.17746)

WEIGHTS: Mapping[str, float] = {"Essential": 1.0, "Important": 0.7, "Optional": 0.3, "Pitfall": 0.9}
"""Points of each category, as in the paper's explicit aggregation."""

_CATEGORY = re.compile(rf"({'|'.join(WEIGHTS)})(?: Criteria| Criterion)?:\s*(\S.*)", re.DOTALL)


def rar_row(source: Mapping[str, Any], notes: Notes) -> dict[str, Any]:
    """Row of a RaR row, with its gold rubric.

    Criteria as texts, ``{"rubrics": {"GT": ["Essential Criteria: ..."]}}``, get the points of
    `WEIGHTS`. Criteria as objects, ``{"rubric": [{"title", "description", "weight"}]}``, keep
    theirs. The category's name is cut from a criterion. The sign of a pitfall, and of what has
    negative points, follows from its phrasing (`polarity`): what a good answer avoids is worth
    positive points, what a bad answer does costs them.
    """
    rubrics = source.get("rubrics")
    items = rubrics.get("GT") if isinstance(rubrics, Mapping) else source.get("rubric")
    if not isinstance(items, list):
        raise DataError(
            "no gold rubric: expected rubrics.GT or rubric to be a list", field="rubric"
        )
    return _row(
        source,
        "rar:GT",
        question=source.get("question"),
        reference_answer=_none_if_blank(source.get("reference_answer")),
        rubric=_criteria(items, "rubric", notes, _rar),
        tags=text_tags(source, "question_source"),
    )


def _rar(item: object) -> tuple[dict[str, Any], str]:
    title, points, text = "", None, item
    if isinstance(item, Mapping):
        title, text, points = item.get("title") or "", item.get("description"), item.get("weight")
        if not _is_number(points) or points == 0:
            raise ValueError(f"expected a weight that is a number and not 0, got {points!r}")
    text = _with_words(text)
    match = _CATEGORY.fullmatch(text.strip())
    if match is not None:
        category, text = match.groups()
    elif points is not None:
        category = "Pitfall" if points < 0 else "no category"
    else:
        raise ValueError(f"expected '{', '.join(WEIGHTS)} Criteria: ...', got {item!r}")
    weight, rule = WEIGHTS[category] if points is None else abs(points), category
    if category == "Pitfall" or (points is not None and points < 0):
        sign, phrasing = polarity(text)
        weight, rule = sign * weight, f"{category}, {phrasing}"
    return {"criterion": text, "weight": weight, "title": title or category}, rule


# Polarity of a pitfall from its phrasing

_SUBJECT = r"^(?:(?:the |an? )?(?:answer|response|solution|explanation)s? (?:that |which )?)?"
_VIOLATION = (  # it fails, omits, gets wrong, lacks, takes one thing for another, is penalised
    _SUBJECT + r"(?:merely |wrongly |incorrectly )?(?:fail|flag|omit|ignor|neglect|overlook|confus"
    r"|mistak|misinterpret|misappl|state)\w*\b",
    _SUBJECT + r"(?:(?:incorrect|wrong|mis(?:use|misrepresent|misattribut|stat|assign))\w*"
    r"|missing|lack(?:s|ing)|omission of|us(?:es?|ing|e of) (?:wrong|incorrect|non-standard))\b",
    _SUBJECT + r"(?:us|present|provid|select|giv|treat)(?:es|ing)\b.*\binstead of\b",
    r"^penali[sz]es?\b",
    r"^(?!.*\b(?:must|should)\b).*\b(?:penali[sz]ed|invalid|(?:indicates|is|results in) (?:an? )?"
    r"(?:major |severe )?(?:violation|flaw|penalty))\b",
    r"^(?:the \w+ )?(?:does|do) not (?:(?:mention|state|note|indicate|acknowledge) that"
    r"|(?:address|discuss|explain|consider|clarify|specify|provide|account for)\b)",
)
_AVOIDANCE = (  # it avoids, does not, warns against, must ignore what is incorrect
    r"\b(?:avoid|refrain)(?:s|ing)?\b|\b(?:should|must|may|can) ?not\b",
    r"\b(?:does|do) not\b(?! mention\b)",
    r"\b(?:warn|caution|alert|guard)(?:s|ing)?(?: \w+)? against\b",
    r"\b(?:must|should) (?:ignore|omit)\b.*\b(?:incorrect|irrelevant)\b",
)
_DEMAND = (  # it ensures, advises; the answer must
    r"^(?:ensure|advise|require|verif)\w*\b",
    _SUBJECT + r"(?:must|should) (?!(?:incorrect|wrong|fail|omit|ignor|neglect)\w*\b)\w+",
)

# The sign that a phrasing gives; the first rule that matches decides. Data sets write pitfalls both
# as what a good answer avoids and as what a bad answer does.
_RULES = tuple(
    (rule, sign, re.compile("|".join(patterns), re.IGNORECASE))
    for rule, sign, patterns in (
        ("violation", -1, _VIOLATION),
        ("avoidance", +1, _AVOIDANCE),
        ("demand", +1, _DEMAND),
    )
)

# "Critical: ...", "Major violation: ...": what stands before the sentence itself.
_LABEL = re.compile(r"^[A-Z][\w' -]{0,40}:\s+(?=\S)")


def polarity(pitfall: str) -> tuple[int, str]:
    """Sign of a pitfall's points, -1 for a mistake, +1 for its avoidance, and the rule.

    Raises ValueError if no rule understands it.
    """
    sentence = pitfall.strip()
    while label := _LABEL.match(sentence):
        sentence = sentence[label.end() :]
    for rule, sign, pattern in _RULES:
        if pattern.search(sentence):
            return sign, rule
    raise ValueError(f"unclear whether it names a mistake or its avoidance: {pitfall!r}")


# RubricHub (arXiv 2601.08430): the files under RuRL, and what its code exports

_PROMPTS = ("prompt", "messages", "question")
_RUBRICS = ("Rubrics", "rubrics")


def rubrichub_row(source: Mapping[str, Any], notes: Notes) -> dict[str, Any]:
    """Row of ``{"prompt": [messages], "Rubrics": [{"criterion", "points", "tags"}]}``.

    Also read: ``messages`` or a text ``question`` in place of ``prompt``; ``rubrics``, or
    ``reward_model.rubrics`` where there is neither. A criterion that the data set decides by one of
    its own functions keeps its text alone, and is counted: our checks are others.
    """
    if "query" in source and "answer" in source:
        raise DataError(
            "a row of sft_RuFT, which holds answers to learn from; import the files under RuRL",
            field="query",
        )
    reward = source.get("reward_model")
    reward = {} if reward is None else reward
    if isinstance(reward, str):
        reward = _parse_field(reward, "reward_model")
    if not isinstance(reward, Mapping):
        raise DataError(f"expected an object, got {type(reward).__name__}", field="reward_model")
    prompt = _only(source, _PROMPTS)
    name = _only(source, _RUBRICS, required="rubrics" not in reward)
    items = source[name] if name else reward["rubrics"]
    criteria = _criteria(items, name or "reward_model.rubrics", notes, _pointed)
    notes.rules += ["criterion with a function of RubricHub: text alone"] * sum(
        isinstance(item, Mapping)
        and isinstance(tags := item.get("tags"), Mapping)
        and bool(tags.get("function"))
        for item in items
    )
    answer = _none_if_blank(reward.get("ground_truth"))
    if answer is not None:
        notes.rules.append("reference answer: reward_model.ground_truth")
    return _row(
        source,
        "rubrichub",
        question=_question(source[prompt], prompt, notes),
        reference_answer=answer,
        rubric=criteria,
        tags=text_tags(source, "ability", "data_source"),
    )


def _only(source: Mapping[str, Any], names: Sequence[str], required: bool = True) -> str:
    """The one of the names that stands in the row, or '' where none must."""
    there = [name for name in names if source.get(name) is not None]
    if len(there) > 1 or (required and not there):
        got = " and ".join(there) or "none"
        raise DataError(f"expected one of {', '.join(names)}, got {got}", field=names[0])
    return there[0] if there else ""


# HealthBench (arXiv 2505.08775; openai/simple-evals)


def healthbench_row(source: Mapping[str, Any], notes: Notes) -> dict[str, Any]:
    """Row of ``{"prompt": [messages], "prompt_id", "rubrics": [{"criterion", "points"}]}``.

    The physicians' ideal completion, where there is one, becomes the solution.
    """
    ideal, tags = source.get("ideal_completions_data"), source.get("example_tags")
    ideal, tags = {} if ideal is None else ideal, [] if tags is None else tags
    if not isinstance(ideal, Mapping):
        message = f"expected an object, got {shortened(ideal)}"
        raise DataError(message, field="ideal_completions_data")
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise DataError(f"expected a list of texts, got {shortened(tags)}", field="example_tags")
    solution = _none_if_blank(ideal.get("ideal_completion"))
    if solution is not None:
        notes.rules.append("solution: the physicians' ideal completion")
    themes = [tag.removeprefix("theme:") for tag in tags if tag.startswith("theme:")]
    others = [tag for tag in tags if not tag.startswith("theme:")]
    joined = {"theme": ", ".join(themes), "example_tags": ", ".join(others)}
    return _row(
        source,
        "healthbench",
        id="prompt_id",
        question=_question(source.get("prompt"), "prompt", notes),
        solution=solution,
        rubric=_criteria(source.get("rubrics"), "rubrics", notes, _pointed),
        tags=text_tags(joined, *joined),
    )


# ResearchQA (arXiv 2509.00496)


def researchqa_row(source: Mapping[str, Any], notes: Notes) -> dict[str, Any]:
    """Row of ``{"id", "query", "rubric": [{"rubric_item": str, "type": [str]}]}``.

    An item is a question about the answer and has no weight in the data set, whose score is the
    mean over the items: each is worth one point. Its types become its title.
    """
    criteria = _criteria(source.get("rubric"), "rubric", notes, _item)
    if source.get("query") is None:
        raise DataError("the question is missing", field="query")
    date = source.get("date")
    if isinstance(date, datetime.date):  # a datetime is one too
        date = date.isoformat()
    names = ("general_domain", "subdomain", "field", "date")
    return _row(
        source,
        "researchqa",
        question=source["query"],
        rubric=criteria,
        tags=text_tags({**source, "date": date}, *names),
    )


def _item(item: Any) -> tuple[dict[str, Any], str]:
    item = item if isinstance(item, Mapping) else {}
    text, types = _with_words(item.get("rubric_item"), "rubric_item"), item.get("type") or []
    names = [types] if isinstance(types, str) else [t for t in types if isinstance(t, str)]
    criterion = {"criterion": text, "weight": 1.0, "title": ", ".join(names)}
    return criterion, "rubric item: one point, as the data set's mean over items"


# OpenRubrics (arXiv 2510.07743)

_ITEM = re.compile(r"^[ \t]*(\d+)[.)][ \t]+", re.MULTILINE)
_KIND = re.compile(r"\[(Hard Rule|Principle)s?\]", re.IGNORECASE)


def openrubrics_row(source: Mapping[str, Any], notes: Notes) -> dict[str, Any]:
    """Row of ``{"instruction": str, "rubric": str}``, the rubric as a numbered list.

    Its items end with their kind: ``1. The response names five artefacts. [Hard Rule]``. The data
    set has no weights: each criterion is worth one point, and its kind becomes its title.
    """
    text = source.get("rubric")
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"expected a text that is not empty, got {text!r}", field="rubric")
    if source.get("instruction") is None:
        raise DataError("the question is missing", field="instruction")
    before, *parts = _ITEM.split(text)
    if not parts or before.strip():
        raise DataError(f"expected a numbered list, got {text[:60]!r}", field="rubric")
    numbers = [int(number) for number in parts[::2]]
    if numbers != list(range(1, len(numbers) + 1)):
        raise DataError(f"expected the numbers 1, 2, ... in order, got {numbers}", field="rubric")
    return _row(
        source,
        "openrubrics",
        question=_question(source["instruction"], "instruction", notes),
        rubric=_criteria(parts[1::2], "rubric", notes, _numbered),
        tags=text_tags(source, "source"),
    )


def _numbered(item: str) -> tuple[dict[str, Any], str]:
    kinds = _KIND.findall(item)
    if len(kinds) != 1:
        raise ValueError(f"expected one of [Hard Rule], [Principle], got {item.strip()!r}")
    kind, text = kinds[0].title(), _KIND.sub("", item).strip()
    criterion = {"criterion": text, "weight": 1.0, "title": kind}
    return criterion, f"{kind}: one point, the data set has no weights"


Reader = Callable[[Mapping[str, Any], Notes], dict[str, Any]]
"""Function from a row of a data set to a row of ours; it raises a DataError for what it refuses."""

FORMATS: Mapping[Format, tuple[Reader, Sequence[str]]] = {
    "rar": (
        rar_row,
        ("id", "question", "reference_answer", "question_source", "rubric", "rubrics"),
    ),
    "rubrichub": (
        rubrichub_row,
        (*_PROMPTS, *_RUBRICS, "id", "ability", "data_source", "reward_model"),
    ),
    "healthbench": (
        healthbench_row,
        ("prompt", "prompt_id", "rubrics", "example_tags", "ideal_completions_data"),
    ),
    "researchqa": (
        researchqa_row,
        ("id", "general_domain", "subdomain", "field", "query", "date", "rubric"),
    ),
    "openrubrics": (openrubrics_row, ("id", "instruction", "rubric", "source")),
    "jsonl": (jsonl_row, FIELDS),
}
"""Reader of each format, and the fields that it reads."""
