"""``rcsd probe``: headroom, content sensitivity, ranking and a verdict, before training."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from rcsd.cli.tables import shown
from rcsd.cli.terminal import bars, console, errors, labelled, quieten_libraries, say, styled
from rcsd.cli.training import Overrides, RunFile

if TYPE_CHECKING:
    from rcsd.recipes.probe import Probe
    from rcsd.recipes.probe_numbers import Counts, Gain, Headroom

_COLOURS = {"train": "green", "cannot tell": "yellow"}
_DASH = "\u2013"


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
    table = Table("context", *columns, title="Headroom: greedy answers in each context")
    ends = _count_cells(headroom.student, headroom.metric)
    table.add_row("student", shown(headroom.score), "", shown(headroom.accuracy), "", *ends)
    for context in headroom.contexts:
        cells = [*_gain_cells(context.score), *_gain_cells(context.accuracy)]
        table.add_row(context.context, *cells, *_count_cells(context.counts, headroom.metric))
    return table


def _gain_cells(gain: "Gain | None") -> tuple[str, str]:
    return (_DASH, _DASH) if gain is None else (shown(gain.with_context), shown(gain.gain, "+"))


def _count_cells(counts: "Counts", metric: str | None) -> list[str]:
    ungraded = counts.num_ungraded if metric == "accuracy" else counts.num_unscored
    return [str(n) for n in (counts.num_answers, counts.num_left_out, counts.num_cut, ungraded)]


def _criteria(headroom: "Headroom") -> Iterator[Table]:
    teacher = headroom.contexts[0]  # the other contexts are in the file
    if teacher.criteria:
        table = Table("criterion", "number", "without", "with", "gain")
        table.title = "Share of criteria met, without and with the teacher's view"
        for row in teacher.criteria:
            title = row.title or "(no title)"
            name = f"{title} (costs points)" if row.violation else title
            met = row.met
            cells = [shown(met.without), shown(met.with_context), shown(met.gain, "+")]
            table.add_row(name, str(row.num_criteria), *cells)
        yield table


def _sensitivity(made: "Probe") -> Table:
    table = Table("placebo", "own rubric - placebo", "share of the headroom", "")
    table.title = "Content sensitivity: loss with a placebo in place of the rubric"
    for row in made.sensitivities:
        table.add_row(row.placebo, shown(row.gap, "+"), shown(row.share), row.undefined)
    return table


def _ranking(made: "Probe") -> Table:
    table = Table("teacher's context", "pairs", "AUC by sum", "AUC by mean", "teacher's lead")
    table.title = "Ranking: does log p - log q put a question's better completion first?"
    for row in made.rankings:
        cells = [shown(row.by_sum), shown(row.by_mean), shown(row.lead, "+")]
        table.add_row(row.teacher, str(row.num_pairs), *cells)
    return table


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
