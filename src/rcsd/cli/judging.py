"""``rcsd judge``."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from rcsd.cli.table import interval_text
from rcsd.cli.terminal import console, say

if TYPE_CHECKING:
    from rcsd import config
    from rcsd.evaluation.judge_calibration import Agreement, Calibration
    from rcsd.graders.base import Judge
    from rcsd.types import Example

app = typer.Typer(help="Measure a judge.", no_args_is_help=True)
_MAX_FLIPS = 10


@app.callback()
def _judge() -> None:
    """Keep 'check' a command of its own."""


@app.command()
def check(  # noqa: PLR0913 (each is an option)
    file: Annotated[Path, typer.Argument(help="YAML file with a section judge.")],
    against: Annotated[
        Path | None, typer.Option(help="YAML file of another judge, compared with the first.")
    ] = None,
    num_problems: Annotated[
        int, typer.Option(min=1, help="Of the rubric world; three answers to each.")
    ] = 50,
    repeats: Annotated[int, typer.Option(min=1, help="How often each text is judged.")] = 3,
    rows: Annotated[
        Path | None,
        typer.Option(help="JSONL of question, rubric, text, verdicts, arm? in the world's place."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of check.json and wrong.jsonl; must not exist.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the problems and the intervals.")] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what judging once would take, and ask nothing.")
    ] = False,
) -> None:
    """How far a judge's verdicts are right, stay the same, and withstand being talked to.

    Measured on answers to problems of the rubric world, whose verdicts code knows, or on rows that
    people labelled. Intervals are over problems.
    """
    from rcsd.config import load_judging  # noqa: PLC0415
    from rcsd.errors import DataError  # noqa: PLC0415
    from rcsd.evaluation.judge_calibration import calibration  # noqa: PLC0415
    from rcsd.evaluation.judge_calibration.cases import read_cases, world_cases  # noqa: PLC0415
    from rcsd.io import write_json, write_rows  # noqa: PLC0415

    if out is not None and out.exists():
        raise DataError("exists already; take another folder", out)
    sections = [load_judging(path).judge for path in (file, against) if path is not None]
    cases = world_cases(num_problems, seed) if rows is None else read_cases(rows)
    judges = [made(section) for section in sections]
    if dry_run:
        console.print(forecasts(judges, [(case.example, case.text) for case in cases]))
        return
    found = calibration(judges[0], cases, repeats, judges[1] if against else None, seed)
    for table in _tables(found):
        console.print(table)
    for line in _facts(found):
        say(line)
    if out is not None:
        about: dict[str, object] = {"judge": str(file), "other_judge": against and str(against)}
        about |= {"sections": [section.model_dump(mode="json") for section in sections]}
        write_rows(out / "wrong.jsonl", found.wrong)
        write_json(out / "check.json", about | {"seed": seed} | found.json())
        say(f"Numbers and wrong verdicts: {out}")


def made(section: "config.Judge") -> "Judge":
    """The judge of a section; torch is loaded only where its model runs in this process."""
    if section.type == "local":
        from rcsd.graders.judge.local import build_judge  # noqa: PLC0415 (torch takes seconds)

        return build_judge(section)
    from rcsd.graders.build import build_judge  # noqa: PLC0415

    return build_judge(section)


def forecasts(
    judges: "list[Judge]", answers: "Sequence[tuple[Example, str]]", answer_tokens: int = 0
) -> Table:
    """What it would take each judge to judge the texts once; see `rcsd.graders.judge.forecast`."""
    from rcsd.graders.judge import ModelJudge, forecast  # noqa: PLC0415

    table = Table("judge", "calls", "in the cache", "prompt tokens", "reply tokens", "cost")
    length = f" of {answer_tokens} tokens" if answer_tokens else ""
    table.title = f"Judging {len(answers)} texts{length} once; replies and cost at most"
    for name, judge in zip(("judge", "against"), judges, strict=False):
        if not isinstance(judge, ModelJudge):
            table.add_row(name, "0", "", "", "", "")
            continue
        found = forecast(judge, answers, answer_tokens)
        cost = "no prices" if found.max_cost is None else f"{found.max_cost:.2f}"
        counted = f"{found.prompt_tokens} ({found.counting})"
        numbers = (str(found.num_calls), str(found.num_cached), counted)
        table.add_row(name, *numbers, str(found.max_completion_tokens), cost)
    return table


def _tables(found: "Calibration") -> Iterator[Table]:
    if found.agreement is not None:
        yield _agreements(found, found.agreement)
        yield _stability(found)
    table = Table("scores", "judge - truth")
    table.title = f"{found.num_texts} texts to {found.num_problems} problems"
    table.add_row("mean error, signs aside", interval_text(found.score_error))
    table.add_row("mean error", interval_text(found.score_bias, "+.3f"))
    yield table
    if found.arms is not None:
        arms = found.arms
        table = Table("judged by", f"{arms.first} - {arms.second}")
        table.title = f"What becomes of a comparison, on {arms.num_questions} questions"
        for who, difference in arms.differences.items():
            table.add_row(who, interval_text(difference, "+.3f"))
        yield table


def _agreements(found: "Calibration", whole: "Agreement") -> Table:
    table = Table("criteria", "verdicts", "unscored", "accuracy", "kappa")
    table.title = "Verdicts beside the truth"
    table.add_row("all", *_cells(whole))
    for kind in found.kinds:
        name = kind.title or "(no title)"
        table.add_row(f"{name} (costs points)" if kind.violation else name, *_cells(kind.agreement))
    for placebo in found.placebos:
        table.add_row(f"placebo: {placebo.name}", "", "", f"{placebo.accuracy:.3f}", "0")
    if found.against is not None:
        table.add_row("the other judge", *_cells(found.against.truth))
        table.add_row("the other beside the judge", *_cells(found.against.agreement))
    return table


def _cells(found: "Agreement") -> list[str]:
    counts = [str(found.num_verdicts), str(found.num_unscored)]
    return [*counts, interval_text(found.accuracy), interval_text(found.kappa)]


def _stability(found: "Calibration") -> Table:
    table = Table("changed", "verdicts", "flipped", "more are met", "unscored")
    table.title = "What should change no verdict"
    for name, change in (("criteria in reverse", found.order), ("text padded", found.padding)):
        if change is not None:
            cells = [
                interval_text(change.flipped),
                interval_text(change.met, "+.3f"),
                str(change.num_unscored),
            ]
            table.add_row(name, str(change.num_verdicts), *cells)
    if (told := found.resistance) is not None:
        cells = [interval_text(told.flipped), "", str(told.num_unscored)]
        table.add_row("text talks to the judge", str(told.num_verdicts), *cells)
    return table


def _errors(found: "Agreement") -> Iterator[str]:
    yield f"Of unmet criteria it calls met {interval_text(found.false_met)}."
    yield f"Of met criteria it calls unmet {interval_text(found.false_unmet)}."
    if found.num_unscored:
        yield f"With the unscored its accuracy is {found.lowest:.3f} to {found.highest:.3f}."


def _facts(found: "Calibration") -> Iterator[str]:
    if found.agreement is None:
        yield "This judge gives one score for the whole: there are no verdicts to measure."
    else:
        yield from _errors(found.agreement)
    if found.agreement is not None and found.order is None:
        yield "The criteria's order cannot matter: each is asked for alone, or checked by code."
    if found.repeats is not None:
        yield f"Asked again it says the same: {interval_text(found.repeats)} of pairs of repeats."
    if found.num_unscored_texts:
        yield f"{found.num_unscored_texts} of {found.num_texts} texts have no score."
    flips = found.resistance.flips if found.resistance is not None else ()
    for flip in flips[:_MAX_FLIPS]:
        yield f"Flipped by '{flip.injection}': {flip.criterion}"
    if len(flips) > _MAX_FLIPS:
        yield f"... and {len(flips) - _MAX_FLIPS} more"
    kinds = {name: n for name, n in found.metrics.items() if "num_unscored/" in name}
    if kinds:
        shares = (f"{name.rpartition('/')[2]} {n:.0f}" for name, n in kinds.items())
        yield f"Unscored in all that was judged, by reason: {', '.join(shares)}."
    if took := found.metrics:
        yield (
            f"Took {took['judge/num_calls']:.0f} calls, {took['judge/num_cached']:.0f} replies "
            f"from the cache, {took['judge/num_retried']:.0f} second attempts, "
            f"{took['judge/prompt_tokens']:.0f} + {took['judge/completion_tokens']:.0f} tokens"
            + (f", cost {took['judge/cost']:.4f}" if "judge/cost" in took else "")
            + "."
        )
