"""PubMedQA (arXiv 1909.06146), the questions that experts labelled."""

from collections.abc import Mapping

from rcsd.data.benchmarks.base import CHOICE, Problem, Row, Task, choice, text_of
from rcsd.data.sources import Hub
from rcsd.errors import DataError

_ANSWERS = ("yes", "no", "maybe")


def _read(row: Row, id: str) -> Problem:
    """Of ``ori_pqal.json``, whose names are in capitals, or of the hub's rows."""
    published = "QUESTION" in row
    context = row.get("context")
    parts = row.get("CONTEXTS") if published else None
    if isinstance(context, Mapping):
        parts = context.get("contexts")
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        name = "CONTEXTS" if published else "context.contexts"
        raise DataError(f"expected a list of texts, got {parts!r}", field=name)
    decision = text_of(row, "final_decision")
    if decision not in _ANSWERS:
        allowed = ", ".join(_ANSWERS)
        raise DataError(f"expected one of {allowed}, got {decision!r}", field="final_decision")
    problem = Problem(
        str(row.get("id") or row.get("pubid") or id),
        text_of(row, "QUESTION" if published else "question"),
        support="\n".join(parts),
        solution=row.get("LONG_ANSWER" if published else "long_answer"),
    )
    return choice(problem, _ANSWERS, _ANSWERS.index(decision))


TASK = Task(
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
    read=_read,
    instruction=CHOICE,
    shuffles=False,
    files={"train": ("ori_pqal.json",)},
)
