"""Answers that are there already, judged anew."""

from pathlib import Path
from typing import Any

from rcsd import config
from rcsd.evaluation.journal import kept_in
from rcsd.evaluation.record import (
    Answers,
    Evaluation,
    check_new,
    read_evaluation,
    summary_of,
    unfinished,
    write_evaluation,
)
from rcsd.evaluation.sets import asked_set
from rcsd.graders.base import Judge, judge_metrics
from rcsd.graders.grade import judged
from rcsd.types import Example


def asked_of_judge(evaluation: Evaluation) -> list[tuple[Example, str]]:
    """The texts of an evaluation that a judge is asked of: those whose example has a rubric."""
    return [
        (example, row.text)
        for answers in evaluation.sets.values()
        for rows, number in ((answers.greedy, 1), (answers.sampled, answers.num_samples))
        for place, row in enumerate(rows)
        if (example := answers.examples[place // number]).rubric is not None
    ]


def unwritten_answers(settings: config.Evaluating) -> dict[str, list[tuple[Example, str]]]:
    """What an evaluation will answer: of each set its examples with what holds an answer's place.

    Sets whose options are compared are left out. Places differ, as answers would.

    Raises:
        DataError: If a set is malformed.
        ConfigError: If it cannot be had.
    """
    return {
        name: [
            (example, f"({n})")
            for example in asked_set(section).examples
            for n in range(sum(settings.num_answers(name)))
        ]
        for name, section in settings.data.items()
        if not settings.compares(name)
    }


def judge_again(path: Path, section: config.Judge, judge: Judge, out: Path) -> dict[str, Any]:
    """Write an evaluation with the same answers, and the verdicts of another judge.

    Args:
        path: Folder of the evaluation.
        section: Who judges, for the record.
        judge: The same.
        out: Folder of the new evaluation; must not exist.

    Returns:
        Its summary.

    Raises:
        DataError: If the evaluation is broken.
        RunError: If the new folder exists.
    """
    check_new(out)
    before = read_evaluation(path)
    sets = {
        name: Answers(
            answers.examples,
            judged(answers.greedy, answers.examples, judge) if answers.greedy else [],
            judged(
                answers.sampled,
                [e for e in answers.examples for _ in range(answers.num_samples)],
                judge,
            ),
        )
        for name, answers in before.sets.items()
    }
    settings = before.config.model_copy(update={"judge": section, "out": out})
    record = {**before.record, "judging": judge_metrics(judge), "judged_again": str(path)}
    summary = summary_of(sets, settings.seed)
    with kept_in(unfinished(out), {"judged_again": str(path)}):
        write_evaluation(Evaluation(out, before.model, sets, settings, record), summary)
    return summary
