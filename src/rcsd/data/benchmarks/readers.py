"""Readers of benchmark rows, in the layout of the hub: multiple-choice questions and SciBench."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rcsd.data.importers.notes import Notes, text_tags
from rcsd.errors import DataError
from rcsd.types import LETTERS, Example, Grading

Row = Mapping[str, Any]


class UnusableError(Exception):
    """A well-formed row that cannot be asked or graded, and the reason."""


def _text(row: Row, name: str) -> str:
    """Text of a column; a DataError if it is none."""
    value = row.get(name)
    if not isinstance(value, str):
        raise DataError(f"expected a text, got {value!r}", field=name)
    return value


def _text_or_none(row: Row, name: str) -> str | None:
    value = row.get(name)
    return value if isinstance(value, str) and value.strip() else None


def _choice(
    id: object,
    question: str,
    options: Sequence[object],
    right: int | None,
    solution: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Example:
    """Example of a multiple-choice question; ``right`` is the index of the right option.

    Raises:
        UnusableError: If there is no label, or a text is empty, or a wrong option is the same as
            the right one; wrong ones may be the same, and differ by their letters.
        DataError: If an option is no text, or the label lies beyond them.
    """
    if right is None:
        raise UnusableError("no label")
    texts = tuple(option for option in options if isinstance(option, str))
    if len(texts) < len(options) or not 2 <= len(texts) <= len(LETTERS):
        raise DataError(f"expected 2 to {len(LETTERS)} texts as options, got {options!r}")
    if not 0 <= right < len(texts):
        raise DataError(f"the label is option {right + 1} of {len(texts)}")
    if not question.strip():
        raise UnusableError("empty question")
    if any(not text.strip() for text in texts):
        raise UnusableError("empty option")
    if [text.strip() for text in texts].count(texts[right].strip()) > 1:
        raise UnusableError("options that are the same")
    grading = Grading("choice", texts)
    return Example(
        str(id), question.strip(), LETTERS[right], solution, tags=tags or {}, grading=grading
    )


_GPQA = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


def read_gpqa(row: Row, id: str, notes: Notes) -> Example:
    """Example of GPQA-Diamond (arXiv 2311.12022)."""
    return _choice(
        row.get("Record ID") or id,
        _text(row, "Question"),
        [_text(row, name).strip() for name in _GPQA],
        0,
        solution=_text_or_none(row, "Explanation"),
        tags={
            tag: row[name]
            for tag, name in (("domain", "High-level domain"), ("subdomain", "Subdomain"))
            if isinstance(row.get(name), str)
        },
    )


def read_piqa(row: Row, id: str, notes: Notes) -> Example:
    """Example of PIQA (arXiv 1911.11641)."""
    label = row.get("label")
    if not isinstance(label, int) or isinstance(label, bool) or label not in (-1, 0, 1):
        raise DataError(f"expected 0, 1, or -1 for none, got {label!r}", field="label")
    options = [row.get("sol1"), row.get("sol2")]
    return _choice(id, _text(row, "goal"), options, None if label < 0 else label)


_MEDMCQA = ("opa", "opb", "opc", "opd")


def read_medmcqa(row: Row, id: str, notes: Notes) -> Example:
    """Example of MedMCQA (arXiv 2203.14371)."""
    return _choice(
        row.get("id") or id,
        _text(row, "question"),
        [row.get(name) for name in _MEDMCQA],
        None if row["cop"] in (None, -1) else row["cop"],
        solution=_text_or_none(row, "exp"),
        tags=text_tags(row, "subject_name", "choice_type"),
    )


_DECISIONS = ("yes", "no", "maybe")


def read_pubmedqa(row: Row, id: str, notes: Notes) -> Example:
    """Example of PubMedQA (arXiv 1909.06146)."""
    context = row["context"]
    parts = context.get("contexts") if isinstance(context, Mapping) else None
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise DataError(f"expected a list of texts, got {parts!r}", field="context.contexts")
    decision = _text(row, "final_decision")
    if decision not in _DECISIONS:
        allowed = ", ".join(_DECISIONS)
        raise DataError(f"expected one of {allowed}, got {decision!r}", field="final_decision")
    return _choice(
        row.get("id") or row.get("pubid") or id,
        _supported("\n".join(parts), _text(row, "question")),
        _DECISIONS,
        _DECISIONS.index(decision),
        row.get("long_answer"),
    )


def _supported(text: str, question: str) -> str:
    """Question below a text to read before it."""
    parts = (text.strip(), question.strip())
    return "\n\n".join(part for part in parts if part) if parts[1] else ""


def read_labelled(row: Row, id: str, notes: Notes) -> Example:
    """Example of ARC-Challenge (arXiv 1803.05457) or OpenBookQA (arXiv 1809.02789, no book).

    ``{"question" or "question_stem", "choices": {"text": [], "label": []}, "answerKey"}``. Labels
    are letters or numbers; options keep the file's order.
    """
    question = _text(row, "question" if "question" in row else "question_stem")
    choices = row.get("choices")
    try:
        pairs = list(zip(choices["label"], choices["text"], strict=True))  # pyright: ignore
    except (KeyError, TypeError, ValueError) as error:
        message = f"expected labels and texts of options, got {choices!r}"
        raise DataError(message, field="choices") from error
    labels, key = [str(label) for label, _ in pairs], str(row.get("answerKey") or "").strip()
    if key and key not in labels:
        raise DataError(f"{key!r} is none of the labels {labels}", field="answerKey")
    right = labels.index(key) if key else None
    return _choice(row.get("id") or id, question, [text for _, text in pairs], right)


_SCIQ = ("distractor1", "distractor2", "distractor3", "correct_answer")


def read_sciq(row: Row, id: str, notes: Notes) -> Example:
    """Example of SciQ (arXiv 1707.06209)."""
    question = _supported(_text(row, "support"), _text(row, "question"))
    return _choice(id, question, [row.get(name) for name in _SCIQ], len(_SCIQ) - 1)


_FACTOR = re.compile(
    r"^\s*\$?\s*(?:10\^(?:\{\s*-?\d+\s*\}|-?\d+)|\\mathrm\{10\^(?:\{-?\d+\}|-?\d+)\})"
)


def read_scibench(row: Row, id: str, notes: Notes) -> Example:
    r"""Example of SciBench (arXiv 2307.10635): a number with its unit.

    Typographic minus signs and thousands commas are normalised.
    A factor in the unit, as in ``$10^{-8} \mathrm{C}$``, is part of the answer and graded with it
    (1.6 then means 1.6e-8), but not shown, as in the benchmark's own code. A unit that is nothing
    but a factor is shown, as there: 5.85 is asked for "in $10^4$", and 58500 is right too.
    """
    number = _text(row, "answer_number").strip().replace("\u2212", "-").replace(",", "")
    try:
        if not math.isfinite(float(number)):
            raise ValueError
    except ValueError as error:
        raise UnusableError("the reference is not a number") from error
    question, source = _text(row, "problem_text").strip(), _text(row, "source").strip()
    if not question:
        raise UnusableError("empty question")
    return Example(
        f"{source}:{_text(row, 'problemid').strip()}",
        question,
        number,
        _text_or_none(row, "solution"),
        tags={"book": source},
        grading=Grading("number", unit=_text(row, "unit").strip(), tolerance=0.05),
    )


def strip_factor(unit: str) -> str:
    """Unit without the power of ten that it begins with, unless nothing else is left."""
    rest = _FACTOR.sub("", unit, count=1).strip()
    if rest == unit.strip():
        return unit
    if not rest.strip("$ "):
        return unit.strip()
    if rest.startswith("$"):
        return rest[1:].strip()
    return f"${rest}" if rest.endswith("$") else rest
