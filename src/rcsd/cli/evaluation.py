"""``rcsd eval`` and ``rcsd compare``."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from typer.core import TyperGroup

from rcsd.cli.arms import Against, ArmWords, ClusterBy, Format, Out, Seed
from rcsd.cli.grading import grade_file
from rcsd.cli.paper import paper_table
from rcsd.cli.terminal import bars, console, quieten_libraries, say, write_out
from rcsd.cli.training import Overrides
from rcsd.errors import ConfigError
from rcsd.redact import visible_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rcsd.config import Evaluating

JudgeNoise = Annotated[
    Path | None,
    typer.Option(help="JSON of 'rcsd judge check': take the judge's errors out of scores."),
]


DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what judging would take, and ask nothing.")
]

_PAPER_TABLE = re.compile(r"^--preset[=\n]paper-table$", re.MULTILINE)


class _DefaultGroup(TyperGroup):
    """Takes what is no command's name for the target of the first one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        spelt = _PAPER_TABLE.search("\n".join(args))
        if spelt is not None:
            args = ["paper-table", *_PAPER_TABLE.sub("", "\n".join(args)).split("\n")]
            args = [word for word in args if word]
        elif args and (args[0] not in (*self.commands, "--help") or args == ["run"]):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_DefaultGroup,
    no_args_is_help=True,
    help="Let a model answer held-out sets or benchmarks: rcsd eval TARGET, short for run TARGET, "
    "whose options 'rcsd eval run --help' lists. --preset paper-table is short for paper-table.",
)


@app.command("run")
def run(  # noqa: PLR0913 (a command line)
    target: Annotated[
        str,
        typer.Argument(help="YAML file, a run's folder, or a model: hub id, folder, builtin:X."),
    ],
    overrides: Overrides = None,
    tasks: Annotated[
        str | None, typer.Option(help="Benchmarks, such as sciq,piqa; see 'rcsd eval tasks'.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=0, help="Completions of each question; 0: the greedy one.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Of each task the first so many problems.")
    ] = None,
    engine: Annotated[str | None, typer.Option(help="local, hf, vllm or vllm_server.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="Of the sampling: qwen3 or qwen3-thinking.")
    ] = None,
    judge: Annotated[
        Path | None, typer.Option(help="YAML file with a section judge, for criteria in words.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Let a model answer held-out sets; one graded JSON row a completion, and a summary.

    A run's folder is evaluated on its own section evaluation, into its folder 'eval'; a model on
    --tasks, into evals/MODEL. OUT gets completions.jsonl, summary.json, eval.json (configuration,
    versions, fingerprints) and the questions in examples/. An evaluation that was cut off goes on
    where it was.
    """
    from rcsd.engines.build import chosen_engine  # noqa: PLC0415 (torch takes seconds)
    from rcsd.evaluation.run import evaluate  # noqa: PLC0415
    from rcsd.evaluation.targets import Asked, evaluating_of  # noqa: PLC0415

    names = tuple(name.strip() for name in tasks.split(",")) if tasks else ()
    wanted = Asked(names, samples, limit, engine, preset, judge)
    settings = evaluating_of(target, overrides or [], wanted)
    if dry_run:
        _show_forecast(settings)
        return
    quieten_libraries()
    longest = settings.max_prompt_tokens + settings.max_tokens
    with bars() as shown:
        summary = evaluate(
            settings,
            shown,
            lambda policy, num: chosen_engine(settings.engine, policy, num, longest),
        )
    _show_summary(summary, settings.out)


def _show_forecast(settings: "Evaluating") -> None:
    """What will be answered, and what judging that would take."""
    from rcsd.cli.judging import forecasts, made  # noqa: PLC0415
    from rcsd.evaluation.judging import unwritten_answers  # noqa: PLC0415

    answers = unwritten_answers(settings)
    for name, of in answers.items():
        say(f"{name}: {len(of)} completions of up to {settings.max_tokens} tokens")
    judged = [row for of in answers.values() for row in of if row[0].rubric is not None]
    console.print(forecasts([made(settings.judge)], judged, settings.max_tokens))


def _show_summary(summary: "Mapping[str, Any]", out: Path) -> None:
    from rcsd.cli.comparing import counts_of, source_lines, summary_sheets  # noqa: PLC0415
    from rcsd.evaluation.record import RECORD  # noqa: PLC0415
    from rcsd.io import read_json  # noqa: PLC0415

    for sheet in summary_sheets(summary):
        console.print(sheet.table())
    lines = counts_of(summary)
    for line in [*source_lines(read_json(out / RECORD).get("tasks", {})), *lines]:
        say(line)
    if any("criteria without a verdict" in line for line in lines):
        say(f"To judge these answers again: rcsd eval judge {out} --judge FILE --out FOLDER")
    say(f"Evaluation: {out}")


app.command("grade")(grade_file)
app.command("paper-table")(paper_table)


@app.command("judge")
def judge_again(
    folder: Annotated[Path, typer.Argument(help="Folder of an evaluation.")],
    judge: Annotated[Path, typer.Option(help="YAML file with a section judge.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the new evaluation; must not exist.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Judge the answers of an evaluation anew: by another judge, or what had stayed unscored.

    What a judge has said before is in its cache, and asked no more.
    """
    from rcsd.cli.judging import forecasts, made  # noqa: PLC0415
    from rcsd.config import load_judging  # noqa: PLC0415
    from rcsd.evaluation import judging  # noqa: PLC0415 (torch takes seconds)
    from rcsd.evaluation.record import read_evaluation  # noqa: PLC0415

    section = load_judging(judge).judge
    chosen = made(section)
    if dry_run:
        console.print(forecasts([chosen], judging.asked_of_judge(read_evaluation(folder))))
        return
    if out is None:
        raise ConfigError("name the folder of the new evaluation with --out")
    _show_summary(judging.judge_again(folder, section, chosen, out), out)


@app.command("tasks")
def tasks() -> None:
    """List the benchmarks that --tasks takes."""
    from rcsd.data.benchmarks import task_table  # noqa: PLC0415

    shown = ("name", "rows", "grading", "hub", "licence")
    table = Table(*shown)
    for row in task_table():
        table.add_row(*(visible_text(row[column]) for column in shown))
    console.print(table)


def compare(  # noqa: PLR0913 (each is an option)
    arms: ArmWords,
    format: Format = "text",
    against: Against = None,
    all_pairs: Annotated[bool, typer.Option("--all-pairs", help="Compare every two arms.")] = False,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Such as score, accuracy_avg@8 or pass@4. Default: all but pass@k."),
    ] = None,
    cluster_by: ClusterBy = None,
    seed: Seed = 0,
    judge_noise: JudgeNoise = None,
    out: Out = None,
) -> None:
    r"""Compare arms on the same questions: means, paired differences, corrected p-values.

    Several folders of one NAME are training seeds of one arm. Intervals resample questions, and
    seeds where an arm has several; p-values are of permutation tests over questions, corrected by
    Holm over all metrics and sets, and over all kinds of criteria. A question with a completion
    that could not be graded in any arm is left out of all, and counted; of scores bounds are told
    then, over all questions: what they are whatever the missing verdicts are.

    With --judge-noise scores and criteria are told a second time, freed of the errors that the
    judge makes (Rogan and Gladen), with intervals that know how well these were measured. That
    takes the judge to err as often on every arm and every criterion. Verdict errors shrink
    differences, so these grow, and so do their intervals; p-values stay.

    The format json is one object:

    \b
    arms: NAME -> {folders, models, training_seeds}
    pairs: [[LEFT, RIGHT], ...]; cluster_by: TAG or null
    metrics: [{set, metric, num_compared, num_left_out,
      means: [{arm, num_seeds, mean, low, high, n}],
      differences: [{left, right, mean, low, high, n, p_value, holm_p_value}],
      bounds: {num_questions, means: [{arm, low, high, num_unscored}],
        differences: [{left, right, low, high}]} or null,
      corrected: {num_compared, means: [{arm, mean, low, high, n}],
        differences: [{left, right, mean, low, high, n}]} or null}]
    criteria: as metrics, with criterion (its title) and violation for metric, without bounds
    num_untitled_criteria: SET -> number; notes: a list of sentences

    Of a difference mean is left - right; low and high are a 95% interval, n the units resampled.
    """
    import json  # noqa: PLC0415

    from rcsd.cli.comparing import as_markdown, as_text, sheets_of  # noqa: PLC0415
    from rcsd.evaluation.arms import answered_sets, judged_by_others, parse_arms, read_arms  # noqa: PLC0415
    from rcsd.evaluation.compare.noise import measured_judge, read_rates  # noqa: PLC0415
    from rcsd.evaluation.compare.sets import compare_sets  # noqa: PLC0415
    from rcsd.io import check_writable, write_text  # noqa: PLC0415

    folders = parse_arms(arms)
    pairs = _pairs(list(folders), against, all_pairs)
    if out is not None:
        check_writable(out)
    read = read_arms(folders)
    sets, notes = answered_sets(read)
    rates = None if judge_noise is None else read_rates(judge_noise)
    if judge_noise is not None and (measured := measured_judge(judge_noise)) is not None:
        notes += judged_by_others(read, measured)
    compared = compare_sets(sets, pairs, metric or (), cluster_by, seed, rates)
    if rates is not None and all(row.corrected is None for row in compared.metrics):
        notes.append("--judge-noise changes nothing here: no judge's verdicts are compared.")
    if format == "json":
        about = {
            arm: {
                "folders": [str(one.path) for one in seeds],
                "models": [one.model.path for one in seeds],
                "training_seeds": [one.model.training_seed for one in seeds],
            }
            for arm, seeds in read.items()
        }
        found = {"arms": about, "pairs": pairs, "cluster_by": cluster_by, **compared.json()}
        text = json.dumps(found | {"notes": notes}, indent=2) + "\n"
    else:
        sheets, lines = sheets_of(compared, cluster_by, notes)
        write = as_markdown if format == "markdown" else as_text
        text = write(sheets, lines, console.width)
    if out is None:
        write_out(text)
        return
    write_text(out, text)
    say(f"Comparison: {out}")


def _pairs(names: list[str], against: str | None, all_pairs: bool) -> list[tuple[str, str]]:
    """Which arms are compared, the first named minus the second."""
    if all_pairs:
        if against is not None:
            raise ConfigError("--all-pairs compares every two arms: leave --against out")
        return [(b, a) for place, a in enumerate(names) for b in names[place + 1 :]]
    first = names[0] if against is None else against
    if first not in names:
        raise ConfigError(f"--against {first}: no such arm; there are {', '.join(names)}")
    return [(name, first) for name in names if name != first]
