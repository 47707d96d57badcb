"""Judge the answers of an evaluation again, and forecast what judging one takes."""

from pathlib import Path
from typing import Any

from rcsd import config
from rcsd.data.load import load_examples
from rcsd.evaluation.record import (
    EvalRecord,
    SetAnswers,
    read_record,
    summarize,
    unfinished_folder,
    write_record,
)
from rcsd.graders.base import Judge, judge_metrics
from rcsd.graders.grade import judge_rows
from rcsd.io import check_new
from rcsd.types import Example


def judged_texts(record: EvalRecord) -> list[tuple[Example, str]]:
    """The texts of an evaluation that a judge reads: those whose example has a rubric."""
    return [
        (example, row.text)
        for answers in record.sets.values()
        for rows, number in ((answers.greedy, 1), (answers.sampled, answers.num_samples))
        for place, row in enumerate(rows)
        if (example := answers.examples[place // number]).rubric is not None
    ]


def placeholder_answers(settings: config.EvalConfig) -> dict[str, list[tuple[Example, str]]]:
    """Examples of each set with a placeholder for each answer; placeholders differ, as answers do.

    Raises:
        DataError: If a set is malformed.
        ConfigError: If it cannot be loaded.
    """
    return {
        name: [
            (example, f"({n})")
            for example in load_examples(section)[0]
            for n in range(sum(settings.num_answers))
        ]
        for name, section in settings.data.items()
    }


def rejudge(path: Path, section: config.Judge, judge: Judge, out: Path) -> dict[str, Any]:
    """Write an evaluation with the same answers, and the verdicts of another judge.

    Args:
        path: Folder of the evaluation.
        section: Configuration of the judge, for the record.
        judge: The judge.
        out: New folder; must not exist.

    Raises:
        DataError: If the evaluation is broken.
        RunError: If the new folder exists.
    """
    check_new(out)
    before = read_record(path)
    sets = {}
    for name, answers in before.sets.items():
        sampled = [example for example in answers.examples for _ in range(answers.num_samples)]
        sets[name] = SetAnswers(
            answers.examples,
            judge_rows(answers.greedy, answers.examples if answers.greedy else (), judge),
            judge_rows(answers.sampled, sampled, judge),
        )
    settings = before.config.model_copy(update={"judge": section, "out": out})
    about = {**before.about, "judging": judge_metrics(judge), "judged_again": str(path)}
    summary = summarize(sets, settings.seed)
    with unfinished_folder(out, {"judged_again": str(path)}) as folder:
        write_record(EvalRecord(out, before.model, sets, settings, about), summary, folder)
    return summary
