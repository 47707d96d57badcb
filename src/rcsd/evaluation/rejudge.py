"""Judge the answers of an evaluation again."""

from pathlib import Path
from typing import Any

from rcsd import config
from rcsd.evaluation.record import (
    EvalRecord,
    SetAnswers,
    check_new,
    read_record,
    summarize,
    unfinished_folder,
    write_record,
)
from rcsd.graders.base import Judge, judge_metrics
from rcsd.graders.grade import judge_rows


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
