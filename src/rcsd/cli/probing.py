"""``rcsd probe``: headroom, content sensitivity, ranking and a verdict, before training."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rcsd.cli.table import Table
from rcsd.cli.terminal import bars, console, errors, labelled, quieten_libraries, say, styled
from rcsd.cli.training import Overrides, RunFile
from rcsd.evaluation.text import NOTHING, interval_text

if TYPE_CHECKING:
    from rcsd.recipes.probe import Probe
    from rcsd.recipes.probe_numbers import Counts, Gain, Headroom

_COLOURS = {"train": "green", "cannot tell": "yellow"}


def probe(
    file: RunFile,
    overrides: Overrides = None,
    num_examples: Annotated[int, typer.Option(min=1, help="Number of questions.")] = 64,
    num_samples: Annotated[
        int, typer.Option(min=2, help="Number of completions sampled per question.")
    ] = 4,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for probe.json; default: the run's folder with -probe."),
    ] = None,
) -> None:
    """Measure before training how much a run can learn from its rubrics.

    Prints the number of answers and completions before it starts.
    """
    from rcsd.config import load_config  # noqa: PLC0415

    settings = load_config(file, overrides or [])
    from rcsd.recipes.probe import check_new, write_probe  # noqa: PLC0415 (torch takes seconds)
    from rcsd.recipes.probe import probe as measure  # noqa: PLC0415

    folder = settings.out.with_name(f"{settings.out.name}-probe") if out is None else out
    check_new(folder)
    quieten_libraries()
    with bars() as progress:
        made = measure(
            settings, num_examples, num_samples, progress, lambda cost: errors.print(f"{cost}")
        )
    path = write_probe(made, settings, folder)
    print_probe(made)
    say(f"\nNumbers: {path}")


def print_probe(made: "Probe") -> None:
    """Print all tables, the verdict last."""
    for table in _tables(made):
        console.print(table)
    console.print(_facts(made))
    advice = made.advice
    console.print()
    console.print(styled(advice.verdict, f"bold {_COLOURS.get(advice.verdict, 'red')}"))
    for reason in advice.reasons:
        console.print(f"- {reason}")
    for warning in advice.warnings:
        console.print(labelled("- warning", warning, "yellow"))


def _tables(made: "Probe") -> Iterator[Table]:
    headroom = made.headroom
    yield _headroom(headroom)
    if headroom.metric is not None:
        yield from _criteria(headroom)
        yield _ranking(made)
    if made.sensitivities:
        yield _sensitivity(made)


def _headroom(headroom: "Headroom") -> Table:
    columns = ("score", "gain", "accuracy", "gain", "answers", "left out", "cut", "ungraded")
    ends = _count_cells(headroom.student, headroom.metric)
    score, accuracy = interval_text(headroom.score), interval_text(headroom.accuracy)
    rows = [["student", score, "", accuracy, "", *ends]]
    for context in headroom.contexts:
        cells = [*_gain_cells(context.score), *_gain_cells(context.accuracy)]
        rows.append([context.context, *cells, *_count_cells(context.counts, headroom.metric)])
    return Table(("context", *columns), rows, "Headroom: greedy answers in each context")


def _gain_cells(gain: "Gain | None") -> tuple[str, str]:
    if gain is None:
        return NOTHING, NOTHING
    return interval_text(gain.with_context), interval_text(gain.gain, "+.3f")


def _count_cells(counts: "Counts", metric: str | None) -> list[str]:
    ungraded = counts.num_ungraded if metric == "accuracy" else counts.num_unscored
    return [str(n) for n in (counts.num_answers, counts.num_left_out, counts.num_cut, ungraded)]


def _criteria(headroom: "Headroom") -> Iterator[Table]:
    rows = []
    for row in headroom.contexts[0].criteria:  # the teacher's; the others are in the file
        title = row.title or "(no title)"
        name = f"{title} (costs points)" if row.violation else title
        met = [interval_text(each) for each in (row.met.without, row.met.with_context)]
        rows.append([name, str(row.num_criteria), *met, interval_text(row.met.gain, "+.3f")])
    if rows:
        columns = ("criterion", "number", "without", "with", "gain")
        yield Table(columns, rows, "Share of criteria met, without and with the teacher's view")


def _sensitivity(made: "Probe") -> Table:
    rows = [
        [row.placebo, interval_text(row.gap, "+.3f"), interval_text(row.share), row.undefined]
        for row in made.sensitivities
    ]
    columns = ("placebo", "own rubric - placebo", "share of the headroom", "")
    return Table(columns, rows, "Content sensitivity: loss with a placebo in place of the rubric")


def _ranking(made: "Probe") -> Table:
    rows = [
        [
            row.teacher,
            str(row.num_pairs),
            interval_text(row.by_sum),
            interval_text(row.by_mean),
            interval_text(row.lead, "+.3f"),
        ]
        for row in made.rankings
    ]
    columns = ("teacher's context", "pairs", "AUC by sum", "AUC by mean", "teacher's lead")
    title = "Ranking: does log p - log q put a question's better completion first?"
    return Table(columns, rows, title)


def _facts(made: "Probe") -> str:
    leakage = made.leakage
    lines = [
        f"{made.num_questions} of {made.num_available} examples; {len(made.skipped)} drawn ones "
        "do not fit.",
        f"{made.num_completions} completions, {made.num_ungraded} of them without a grade.",
        f"{leakage.num_leaking} of {leakage.num_rubrics} rubrics with a reference answer hold or "
        "quote it.",
    ]
    if made.headroom.metric is None:
        lines.append(
            "No answer can be graded: no rubric has checks for all its criteria, and no reference "
            "is a number. Headroom and ranking are missing."
        )
    lines += [f"No context {name}: {why}" for name, why in made.impossible.items()]
    return "\n".join(lines)
