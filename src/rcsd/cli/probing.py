"""``rcsd probe``: what was measured before training, in tables."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.table import Table

from rcsd.cli.table import interval_text
from rcsd.cli.terminal import console, labelled, styled

if TYPE_CHECKING:
    from rcsd.recipes.probe import Probe
    from rcsd.recipes.probe.gains import Counts, Gain, Headroom
    from rcsd.recipes.probe.ranking import SignErrors

_COLOURS = {"train": "green", "cannot tell": "yellow"}
_DASH = "\u2013"


def print_probe(found: "Probe") -> None:
    """Everything, the verdict last."""
    for table in _tables(found):
        console.print(table)
    console.print(_facts(found))
    advice = found.advice
    colour = _COLOURS.get(advice.verdict, "red")
    console.print()
    console.print(styled(advice.verdict, f"bold {colour}"))
    for reason in advice.reasons:
        console.print(f"- {reason}")
    for warning in advice.warnings:
        console.print(labelled("- warning", warning, "yellow"))


def _tables(found: "Probe") -> Iterator[Table]:
    headroom = found.measured.headroom
    yield _headroom(headroom)
    if headroom.metric is not None:
        yield from _criteria(headroom)
        yield _ranking(found)
    if found.measured.sensitivities:
        yield _sensitivity(found)
    if found.signal.sign_errors:
        yield _sign_errors(found.signal.sign_errors)
    if found.measured.top_k_mass:
        yield _masses(found)
    if found.measured.clips:
        yield _clips(found)


def _headroom(headroom: "Headroom") -> Table:
    table = Table(
        "context", "score", "gain", "accuracy", "gain", "answers", "not asked", "cut", "ungraded"
    )
    table.title = "Headroom: greedy answers with each context"
    ends = _of_counts(headroom.student, headroom.metric)
    table.add_row(
        "student", interval_text(headroom.score), "", interval_text(headroom.accuracy), "", *ends
    )
    for context in headroom.contexts:
        cells = [*_of_gain(context.score), *_of_gain(context.accuracy)]
        table.add_row(context.context, *cells, *_of_counts(context.counts, headroom.metric))
    return table


def _of_gain(gain: "Gain | None") -> tuple[str, str]:
    return (
        (_DASH, _DASH)
        if gain is None
        else (interval_text(gain.shown), interval_text(gain.gain, "+.3f"))
    )


def _of_counts(counts: "Counts", metric: str | None) -> list[str]:
    ungraded = counts.num_ungraded if metric == "accuracy" else counts.num_unscored
    numbers = (counts.num_answers, counts.num_left_out, counts.num_cut, ungraded)
    return [str(number) for number in numbers]


def _criteria(headroom: "Headroom") -> Iterator[Table]:
    for context in headroom.contexts[:1]:  # the teacher's; the others are in the file
        if context.criteria:
            table = Table("criterion", "number", "without", "shown", "gain")
            table.title = "Criteria that answers meet, without and with the teacher's view"
            for row in context.criteria:
                title = row.title or "(no title)"
                name = f"{title} (costs points)" if row.violation else title
                cells = [
                    interval_text(row.met.without),
                    interval_text(row.met.shown),
                    interval_text(row.met.gain, "+.3f"),
                ]
                table.add_row(name, str(row.num_criteria), *cells)
            yield table


def _sensitivity(found: "Probe") -> Table:
    table = Table("placebo", "own rubric - placebo", "share of the headroom", "")
    table.title = "Content sensitivity: what is lost when a placebo is shown"
    for row in found.measured.sensitivities:
        table.add_row(
            row.placebo, interval_text(row.gap, "+.3f"), interval_text(row.share), row.undefined
        )
    return table


def _ranking(found: "Probe") -> Table:
    table = Table("teacher sees", "pairs", "AUC by sum", "AUC by token mean", "teacher's lead")
    table.title = "Signal: does log p - log q put a question's better completion first?"
    for row in found.signal.rankings:
        cells = [
            interval_text(row.by_sum),
            interval_text(row.by_mean),
            interval_text(row.lead, "+.3f"),
        ]
        table.add_row(row.teacher, str(row.num_pairs), *cells)
    return table


def _sign_errors(rows: "tuple[SignErrors, ...]") -> Table:
    table = Table("tokens", "of the best", "lowered", "share", "of the worst", "raised", "share")
    table.title = "Sign errors: tokens of the best completions lowered, of the worst ones raised"
    for row in rows:
        table.add_row(
            row.token_class,
            str(row.num_best),
            str(row.num_best_errors),
            _share(row.best_error_share),
            str(row.num_worst),
            str(row.num_worst_errors),
            _share(row.worst_error_share),
        )
    return table


def _masses(found: "Probe") -> Table:
    table = Table("k", "teacher's mass", "student's mass", "")
    table.title = "Mass on the teacher's k likeliest tokens, where the student samples"
    for row in found.measured.top_k_mass:
        configured = "configured" if row.k == found.measured.configured_k else ""
        table.add_row(str(row.k), _share(row.teacher_mass), _share(row.student_mass), configured)
    return table


def _clips(found: "Probe") -> Table:
    table = Table("clip", "limit, nats", "positions touched", "cosine", "norm", "")
    table.title = "Clips: the gradient of a batch with each, beside that without"
    for row in found.measured.clips:
        table.add_row(
            row.clip,
            f"{row.max_nats:g}",
            _share(row.touched_share),
            _share(row.cosine),
            _share(row.norm_ratio),
            "configured" if row.configured else "",
        )
    return table


def _facts(found: "Probe") -> str:
    """What the tables leave out."""
    leakage = found.measured.leakage
    lines = [
        f"{found.num_asked} of {found.num_available} examples asked; "
        f"{len(found.dropped)} drawn ones do not fit.",
        f"{found.signal.num_completions} completions sampled, "
        f"{found.signal.num_ungraded} of them could not be graded.",
        f"{leakage.num_leaking} of {leakage.num_rubrics} rubrics with a reference answer hold or "
        "quote it.",
    ]
    if found.measured.headroom.metric is None:
        lines.append(
            "No answer can be graded: no rubric has checks for all its criteria, and no reference "
            "is a number. Headroom and signal are left out."
        )
    lines += [f"Not asked with {name}: {why}" for name, why in found.impossible.items()]
    return "\n".join(lines)


def _share(value: float | None) -> str:
    return _DASH if value is None else f"{value:.3f}"
