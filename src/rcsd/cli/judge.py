"""``rcsd judge``."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rcsd.cli.terminal import Table, console, say
from rcsd.config import WorldData, load_judging
from rcsd.evaluation.text import NOTHING, interval_text
from rcsd.io import check_new, write_json, write_rows

if TYPE_CHECKING:
    from rcsd.evaluation.judge_check import Accuracy, Stability

_NOTES = {
    "cost": "Cost by judge.prices: {:.4g}.",
    "num_cut_prompts": "Prompts that the judge's server cut, since it counts fewer tokens than "
    "they have words: {:.0f}; raise its context length.",
    "num_cut_replies": "Replies that reached judge.max_tokens: {:.0f}.",
    "num_timeouts": "Attempts that timed out: {:.0f}; see judge.read_timeout_seconds.",
}

app = typer.Typer(help="Measure a judge.", no_args_is_help=True)


@app.callback()
def _judge() -> None:
    """Keep 'check' a command of its own."""


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="YAML file with a section judge.")],
    rows: Annotated[
        Path | None,
        typer.Option(help="JSONL of labelled answers: question, rubric, text, verdicts, quality?"),
    ] = None,
    num_problems: Annotated[
        int, typer.Option(min=1, help="Problems of the rubric world, without --rows.")
    ] = 50,
    repeats: Annotated[int, typer.Option(min=1, help="Judgements of each text.")] = 3,
    out: Annotated[
        Path | None, typer.Option(help="Folder of check.json and wrong.jsonl; must not exist.")
    ] = None,
) -> None:
    """Measure accuracy, stability and resistance to prompt injection of a judge.

    The texts are labelled rows, or three answers to each problem of the rubric world, whose
    verdicts are computed. Intervals are over questions.
    """
    from dataclasses import asdict

    from rcsd.data.load import load_answers
    from rcsd.evaluation import judge_check
    from rcsd.graders.base import build_judge

    if out is not None:
        check_new(out)
    section = load_judging(file).judge
    if rows is None:
        data = WorldData(split="new_numbers", num_examples=num_problems)
        cases = judge_check.checked_cases(load_answers(data))
    else:
        cases = judge_check.read_cases(rows)
    judge = build_judge(section)
    judgements = judge_check.judge_cases(judge, cases)
    accuracy = judge_check.measure_accuracy(cases, judgements)
    stability = judge_check.measure_stability(judge, cases, judgements, repeats)
    judging = judge.metrics() | judge.record()
    _print_accuracy(accuracy)
    if stability is not None:
        _print_stability(stability)
    for line in judging_lines(judging):
        say(line)
    if out is not None:
        about = {"judge": str(file), "section": section.model_dump(mode="json")}
        write_rows(out / "wrong.jsonl", accuracy.wrong)
        parts = {"stability": stability and asdict(stability), "metrics": judging}
        write_json(out / "check.json", about | accuracy.json() | parts)
        say(f"Numbers and wrong verdicts: {out}")


def _print_accuracy(accuracy: "Accuracy") -> None:
    if (agreement := accuracy.agreement) is None:
        say("This judge gives one score for all criteria: there are no verdicts to measure.")
    else:
        kinds = {"all": agreement} | accuracy.kinds
        rows = [
            [
                *(name, str(of.num_verdicts), str(of.num_unscored), interval_text(of.accuracy)),
                NOTHING if of.kappa is None else f"{of.kappa:.3f}",
            ]
            for name, of in kinds.items()
        ]
        for name, share in accuracy.baselines.items():
            rows.append([f"baseline: {name}", "", "", f"{share:.3f}", "0"])
        columns = ("criteria", "verdicts", "unscored", "accuracy", "kappa")
        console.print(Table(columns, rows, "Verdicts beside the truth"))
    title = f"Scores of {accuracy.num_texts} texts to {accuracy.num_questions} questions"
    rows = [
        ["mean absolute error", interval_text(accuracy.score_error)],
        ["mean error", interval_text(accuracy.score_bias, "+.3f")],
    ]
    console.print(Table(("scores", "judge - truth"), rows, title))
    if agreement is not None:
        say(f"Unmet criteria called met: {interval_text(agreement.false_met)}.")
        say(f"Met criteria called unmet: {interval_text(agreement.false_unmet)}.")
        if agreement.num_unscored:
            bounds = f"{agreement.lowest:.3f} to {agreement.highest:.3f}"
            say(f"Accuracy with the unscored verdicts all wrong or all right: {bounds}.")
    if accuracy.num_unscored_texts:
        say(f"{accuracy.num_unscored_texts} of {accuracy.num_texts} texts have no score.")


def _print_stability(stability: "Stability") -> None:
    say(
        f"Unmet criteria that a prompt injection flipped: {interval_text(stability.injections)} of "
        f"{stability.num_injected}; {stability.num_unscored} were left unscored."
    )
    if stability.repeats is not None:
        say(f"Pairs of repeats that agree: {interval_text(stability.repeats)}.")


def judging_lines(judging: Mapping[str, Any]) -> Iterator[str]:
    """Sentences on reasons, requests, models and agreement, from a judge's metrics and record."""
    counts = {name.rpartition("/")[2]: n for name, n in judging.items() if "unscored/" in name}
    if counts:
        reasons = ", ".join(f"{reason} {count:.0f}" for reason, count in counts.items())
        yield f"Unscored in all judgements, by reason: {reasons}."
    if "judge/num_calls" in judging:
        names = ("calls", "cached", "retried")
        numbers = ", ".join(f"{judging[f'judge/num_{name}']:.0f} {name}" for name in names)
        tokens = f"{judging['judge/prompt_tokens']:.0f} + {judging['judge/completion_tokens']:.0f}"
        yield f"Requests: {numbers}; {tokens} tokens."
    for name, sentence in _NOTES.items():
        if count := judging.get(f"judge/{name}"):
            yield sentence.format(count)
    if checked := judging.get("judge/num_checked"):
        yield f"Verdicts by the criteria's own checks, without the judge: {checked:.0f}."
    for of in (judging, *judging.get("judges", ())):
        if len(models := of.get("models", ())) > 1:
            replied = ", ".join(
                f"{each['model']} {each['system_fingerprint']} ({each['num_replies']})"
                for each in models
            )
            yield f"The judge's replies come from several models or versions: {replied}."
    if (agreement := judging.get("agreement")) and agreement["num_compared"]:
        kappa = agreement["fleiss_kappa"]
        yield (
            f"The judges differ on {agreement['differ_share']:.1%} of {agreement['num_compared']} "
            f"criteria; Fleiss' kappa {NOTHING if kappa is None else f'{kappa:.3f}'}."
        )
