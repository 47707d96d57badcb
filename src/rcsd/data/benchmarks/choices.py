"""Benchmarks of multiple-choice questions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rcsd.data.benchmarks.base import Row, Rows, UnusableError, read_text, text_or_none
from rcsd.data.importers.formats import text_tags
from rcsd.data.importers.notes import Notes
from rcsd.data.rows import read_bytes
from rcsd.errors import DataError
from rcsd.types import LETTERS, Example, Grading


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
        UnusableError: If there is no label, or a text is empty, or two options are the same.
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
    if len({text.strip() for text in texts}) < len(texts):
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
        read_text(row, "Question"),
        [read_text(row, name).strip() for name in _GPQA],
        0,
        solution=text_or_none(row, "Explanation"),
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
    return _choice(id, read_text(row, "goal"), options, None if label < 0 else label)


def with_labels(rows: Rows, path: Path | None) -> Rows:
    """Rows with the labels that published files keep in a file of their own, one a line."""
    if path is None or not rows or "label" in rows[0][1]:
        return rows
    file = path.with_name(f"{path.stem}-labels.lst")
    if not file.is_file():
        raise DataError(f"its labels are missing; expected them in {file.name} beside it", path)
    labels = read_bytes(file).decode("utf-8-sig", "replace").split()
    if len(labels) != len(rows) or not set(labels) <= {"0", "1"}:
        raise DataError(f"expected 0 or 1 for each of the {len(rows)} rows of {path.name}", file)
    return [(n, {**row, "label": int(label)}) for (n, row), label in zip(rows, labels, strict=True)]


_MEDMCQA = ("opa", "opb", "opc", "opd")


def read_medmcqa(row: Row, id: str, notes: Notes) -> Example:
    """Example of MedMCQA (arXiv 2203.14371)."""
    return _choice(
        row.get("id") or id,
        read_text(row, "question"),
        [row.get(name) for name in _MEDMCQA],
        row["cop"],
        solution=text_or_none(row, "exp"),
        tags=text_tags(row, "subject_name", "choice_type"),
    )


def count_from_0(rows: Rows, path: Path | None) -> Rows:
    """Rows whose label counts from 0; published files count from 1, the hub from 0."""
    labels = {row.get("cop") for _, row in rows} - {None, -1}
    message = ""
    if not labels <= {0, 1, 2, 3, 4} or {0, 4} <= labels:
        message = f"expected 1 to 4, or 0 to 3, got {', '.join(sorted(map(repr, labels)))}"
    elif labels and not labels & {0, 4}:
        message = (
            "neither 0 nor 4 is the right option of any row, so nobody can tell whether the file "
            "counts from 0 or from 1; take more rows"
        )
    if message:
        raise DataError(message, path, field="cop")
    first = 1 if 4 in labels else 0
    return [
        (n, {**row, "cop": None if row.get("cop") in (None, -1) else row["cop"] - first})
        for n, row in rows
    ]


_DECISIONS = ("yes", "no", "maybe")


def read_pubmedqa(row: Row, id: str, notes: Notes) -> Example:
    """Example of PubMedQA (arXiv 1909.06146); ``ori_pqal.json`` has its names in capitals."""
    context = row.get("context")
    is_published = "QUESTION" in row
    parts = context.get("contexts") if isinstance(context, Mapping) else row.get("CONTEXTS")
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        name = "CONTEXTS" if is_published else "context.contexts"
        raise DataError(f"expected a list of texts, got {parts!r}", field=name)
    decision = read_text(row, "final_decision")
    if decision not in _DECISIONS:
        allowed = ", ".join(_DECISIONS)
        raise DataError(f"expected one of {allowed}, got {decision!r}", field="final_decision")
    return _choice(
        row.get("id") or row.get("pubid") or id,
        _supported("\n".join(parts), read_text(row, "QUESTION" if is_published else "question")),
        _DECISIONS,
        _DECISIONS.index(decision),
        row.get("LONG_ANSWER" if is_published else "long_answer"),
    )


def _supported(text: str, question: str) -> str:
    """Question below a text to read before it."""
    parts = (text.strip(), question.strip())
    return "\n\n".join(part for part in parts if part) if parts[1] else ""


def read_labelled(row: Row, id: str, notes: Notes) -> Example:
    """Example of ARC-Challenge (arXiv 1803.05457) or OpenBookQA (arXiv 1809.02789, no book).

    ``{"question": {"stem", "choices": [{"text", "label"}]}, "answerKey"}``, or ``{"question" or
    "question_stem", "choices": {"text": [], "label": []}, "answerKey"}``. Labels are letters or
    numbers; options keep the file's order.
    """
    published = row.get("question")
    if isinstance(published, Mapping):
        question, choices = read_text(published, "stem"), published.get("choices")
    else:
        name = "question" if "question" in row else "question_stem"
        question, choices = read_text(row, name), row.get("choices")
    try:
        if isinstance(choices, Mapping):
            pairs = list(zip(choices["label"], choices["text"], strict=True))
        else:
            pairs = [(one["label"], one["text"]) for one in choices]  # pyright: ignore
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
    question = _supported(read_text(row, "support"), read_text(row, "question"))
    return _choice(id, question, [row.get(name) for name in _SCIQ], len(_SCIQ) - 1)
