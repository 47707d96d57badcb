"""Benchmarks of multiple-choice questions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rcsd.data.benchmarks.base import Row, Rows, Task, UnusableError, read_text, text_or_none
from rcsd.data.importers.formats import text_tags
from rcsd.data.importers.notes import Notes
from rcsd.data.rows import read_bytes
from rcsd.data.sources import Hub
from rcsd.errors import DataError
from rcsd.types import LETTERS, Example, Grading

INSTRUCTION = r"Reason step by step, then put the letter of the right option within \boxed{}."


def _choice(
    id: str,
    question: str,
    options: Sequence[object],
    right: int | None,
    support: str = "",
    solution: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Example:
    """Example of a multiple-choice question.

    Args:
        id: Id of the row.
        question: Question as the benchmark words it.
        options: Options in the file's order.
        right: Index of the right one, or None for a row without a label.
        support: Text to read before the question, or empty.
        solution: Worked solution or explanation.
        tags: Tags of the example.

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
    parts = [part for part in (support.strip(), question.strip()) if part]
    grading = Grading("choice", texts)
    return Example(
        id, "\n\n".join(parts), LETTERS[right], solution, tags=tags or {}, grading=grading
    )


# GPQA-Diamond (arXiv 2311.12022); its authors ask that no question appear in the open

_GPQA = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


def _read_gpqa(row: Row, id: str, notes: Notes) -> Example:
    return _choice(
        str(row.get("Record ID") or id),
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


GPQA_DIAMOND = Task(
    name="gpqa-diamond",
    description="questions of experts in biology, physics and chemistry that search cannot answer",
    hub_id="Idavidrein/gpqa",
    hub=Hub(split="train", config="gpqa_diamond"),
    num_rows={"train": 198},
    licence="CC-BY-4.0; do not publish the questions",
    differences="The paper's words, order of options and number of samples are unknown.",
    grading="choice",
    columns=(("Question",), *((name,) for name in _GPQA)),
    read=_read_gpqa,
    instruction=INSTRUCTION,
    has_fixed_place=True,
    files={"train": ("gpqa_diamond.csv",)},
    access=(
        "GPQA is gated: accept its terms at https://huggingface.co/datasets/Idavidrein/gpqa, then "
        "'hf auth login'"
    ),
)


# PIQA (arXiv 1911.11641)


def _read_piqa(row: Row, id: str, notes: Notes) -> Example:
    label = row.get("label")
    if not isinstance(label, int) or isinstance(label, bool) or label not in (-1, 0, 1):
        raise DataError(f"expected 0, 1, or -1 for none, got {label!r}", field="label")
    options = [row.get("sol1"), row.get("sol2")]
    return _choice(id, read_text(row, "goal"), options, None if label < 0 else label)


def _with_labels(rows: Rows, path: Path | None) -> Rows:
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


PIQA = Task(
    name="piqa",
    description="physical common sense: which of two ways reaches a goal",
    hub_id="baber/piqa",
    hub=Hub(split="validation"),
    num_rows={"train": 16113, "validation": 1838},
    licence="unknown (its card says so)",
    differences=(
        "Which split the paper takes, and how it asks, is unknown; the labels of the test split "
        "are not published."
    ),
    grading="choice",
    columns=(("goal",), ("sol1",), ("sol2",), ("label",)),
    read=_read_piqa,
    instruction=INSTRUCTION,
    files={"train": ("train.jsonl",), "validation": ("valid.jsonl",)},
    arrange=_with_labels,
)


# MedMCQA (arXiv 2203.14371)

_MEDMCQA = ("opa", "opb", "opc", "opd")


def _read_medmcqa(row: Row, id: str, notes: Notes) -> Example:
    return _choice(
        str(row.get("id") or id),
        read_text(row, "question"),
        [row.get(name) for name in _MEDMCQA],
        row["cop"],
        solution=text_or_none(row, "exp"),
        tags=text_tags(row, "subject_name", "choice_type"),
    )


def _counted_from_0(rows: Rows, path: Path | None) -> Rows:
    """Rows whose label counts from 0; published files count from 1, the hub from 0."""
    labels = {row.get("cop") for _, row in rows} - {None, -1}
    if not labels <= {0, 1, 2, 3, 4} or {0, 4} <= labels:
        got = ", ".join(sorted(map(repr, labels)))
        raise DataError(f"expected 1 to 4, or 0 to 3, got {got}", path, field="cop")
    if labels and not labels & {0, 4}:
        raise DataError(
            "neither 0 nor 4 is the right option of any row, so nobody can tell whether the file "
            "counts from 0 or from 1; take more rows",
            path,
            field="cop",
        )
    first = 1 if 4 in labels else 0
    return [
        (n, {**row, "cop": None if row.get("cop") in (None, -1) else row["cop"] - first})
        for n, row in rows
    ]


MEDMCQA = Task(
    name="medmcqa",
    description="questions of Indian medical entrance exams",
    hub_id="openlifescienceai/medmcqa",
    hub=Hub(split="validation"),
    num_rows={"train": 182822, "validation": 4183},
    licence="Apache-2.0",
    differences="Not among the paper's benchmarks. The labels of the test split are not published.",
    grading="choice",
    columns=(("question",), ("cop",), *((name,) for name in _MEDMCQA)),
    read=_read_medmcqa,
    instruction=INSTRUCTION,
    files={"train": ("train.json",), "validation": ("dev.json",)},
    arrange=_counted_from_0,
)


# PubMedQA (arXiv 1909.06146), the questions that experts labelled

_DECISIONS = ("yes", "no", "maybe")


def _read_pubmedqa(row: Row, id: str, notes: Notes) -> Example:
    """Example of a row of ``ori_pqal.json``, whose names are in capitals, or of the hub."""
    is_published = "QUESTION" in row
    context = row.get("context")
    parts = row.get("CONTEXTS") if is_published else None
    if isinstance(context, Mapping):
        parts = context.get("contexts")
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        name = "CONTEXTS" if is_published else "context.contexts"
        raise DataError(f"expected a list of texts, got {parts!r}", field=name)
    decision = read_text(row, "final_decision")
    if decision not in _DECISIONS:
        allowed = ", ".join(_DECISIONS)
        raise DataError(f"expected one of {allowed}, got {decision!r}", field="final_decision")
    return _choice(
        str(row.get("id") or row.get("pubid") or id),
        read_text(row, "QUESTION" if is_published else "question"),
        _DECISIONS,
        _DECISIONS.index(decision),
        support="\n".join(parts),
        solution=row.get("LONG_ANSWER" if is_published else "long_answer"),
    )


PUBMEDQA = Task(
    name="pubmedqa",
    description="whether an abstract answers its title's question with yes, no or maybe",
    hub_id="qiaojin/PubMedQA",
    hub=Hub(split="train", config="pqa_labeled"),
    num_rows={"train": 1000},
    licence="MIT",
    differences=(
        "Not among the paper's benchmarks. All 1,000 labelled questions; the authors' test half, "
        "and lm-evaluation-harness, take 500 of them."
    ),
    grading="choice",
    columns=(("QUESTION", "question"), ("CONTEXTS", "context"), ("final_decision",)),
    read=_read_pubmedqa,
    instruction=INSTRUCTION,
    shuffles=False,
    files={"train": ("ori_pqal.json",)},
)


# ARC-Challenge (arXiv 1803.05457) and OpenBookQA (arXiv 1809.02789), without its book


def _read_labelled(row: Row, id: str, notes: Notes) -> Example:
    """Example of a row in AI2's layout, as published or as on the hub.

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
    labels, texts = _labels_and_texts(choices)
    key = str(row.get("answerKey") or "").strip()
    if key and key not in labels:
        raise DataError(f"{key!r} is none of the labels {labels}", field="answerKey")
    return _choice(str(row.get("id") or id), question, texts, labels.index(key) if key else None)


def _labels_and_texts(choices: object) -> tuple[list[str], list[object]]:
    labels = texts = None
    if isinstance(choices, Mapping):
        labels, texts = choices.get("label"), choices.get("text")
    elif isinstance(choices, list) and all(isinstance(one, Mapping) for one in choices):
        labels = [one.get("label") for one in choices]
        texts = [one.get("text") for one in choices]
    if not isinstance(labels, list) or not isinstance(texts, list) or len(labels) != len(texts):
        raise DataError(f"expected labels and texts of options, got {choices!r}", field="choices")
    return [str(label) for label in labels], texts


ARC_CHALLENGE = Task(
    name="arc-challenge",
    description="grade-school science questions that retrieval and word statistics get wrong",
    hub_id="allenai/ai2_arc",
    hub=Hub(split="test", config="ARC-Challenge"),
    num_rows={"train": 1119, "validation": 299, "test": 1172},
    licence="CC-BY-SA-4.0",
    differences="Not among the paper's benchmarks.",
    grading="choice",
    columns=(("question",), ("answerKey",)),
    read=_read_labelled,
    instruction=INSTRUCTION,
    files={
        "train": ("ARC-Challenge-Train.jsonl",),
        "validation": ("ARC-Challenge-Dev.jsonl",),
        "test": ("ARC-Challenge-Test.jsonl",),
    },
)

OPENBOOKQA = Task(
    name="openbookqa",
    description="elementary science questions that need a fact and common knowledge",
    hub_id="allenai/openbookqa",
    hub=Hub(split="test", config="main"),
    num_rows={"train": 4957, "validation": 500, "test": 500},
    licence="unknown (its card says so)",
    differences="Not among the paper's benchmarks.",
    grading="choice",
    columns=(("question", "question_stem"), ("answerKey",)),
    read=_read_labelled,
    instruction=INSTRUCTION,
    files={"train": ("train.jsonl",), "validation": ("dev.jsonl",), "test": ("test.jsonl",)},
)


# SciQ (arXiv 1707.06209)

_SCIQ = ("distractor1", "distractor2", "distractor3", "correct_answer")


def _read_sciq(row: Row, id: str, notes: Notes) -> Example:
    question, options = read_text(row, "question"), [row.get(name) for name in _SCIQ]
    return _choice(id, question, options, len(_SCIQ) - 1, support=read_text(row, "support"))


SCIQ = Task(
    name="sciq",
    description="science exam questions, most with a paragraph that supports the answer",
    hub_id="allenai/sciq",
    hub=Hub(split="test"),
    num_rows={"train": 11679, "validation": 1000, "test": 1000},
    licence="CC-BY-NC-3.0",
    differences="Not among the paper's benchmarks. The paragraph is shown.",
    grading="choice",
    columns=(("question",), ("support",), *((name,) for name in _SCIQ)),
    read=_read_sciq,
    instruction=INSTRUCTION,
    has_fixed_place=True,
    files={"train": ("train.json",), "validation": ("valid.json",), "test": ("test.json",)},
)
