"""``rcsd rubrics train`` and ``rcsd rubrics write``."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rcsd.cli.rubrics import app
from rcsd.cli.terminal import bars, console, quieten_libraries, say
from rcsd.cli.training import Overrides, Resume, RunFile, train_and_report
from rcsd.types import Progress

if TYPE_CHECKING:
    from rcsd.config import Model
    from rcsd.recipes.pipeline_config import Writing
    from rcsd.recipes.write_rubrics import Shard, WritingReport
    from rcsd.types import Example


@app.command()
def train(file: RunFile, overrides: Overrides = None, resume: Resume = False) -> None:
    """Train a rubric writer (stage 1): as 'rcsd train', with views.writes=rubric set."""
    from rcsd.config import parse_config  # noqa: PLC0415
    from rcsd.config.base import read_tree  # noqa: PLC0415
    from rcsd.errors import ConfigError  # noqa: PLC0415

    tree = read_tree(file, overrides or [])
    views = tree.get("views") or {}
    if isinstance(views, dict):
        if views.get("writes") == "answer":
            raise ConfigError(
                f"{file}: views.writes: answer is for 'rcsd train'; leave it out, or set rubric"
            )
        tree["views"] = views | {"writes": "rubric"}
    train_and_report(parse_config(tree, str(file)), resume)


@app.command()
def write(  # noqa: PLR0913 (a command line)
    model: Annotated[str, typer.Option(help="Run folder, model folder, hub id or builtin:NAME.")],
    data: Annotated[Path, typer.Option(help="Questions: JSONL of our rows.")],
    out: Annotated[Path, typer.Option(help="JSONL of the same rows with the written rubrics.")],
    view: Annotated[
        Literal["none", "answer"] | None,
        typer.Option(
            help="What the writer sees beside the question. Left out: what a run trained it with, "
            "else none."
        ),
    ] = None,
    templates: Annotated[
        Path | None, typer.Option(help="Folder of other words. Left out: as the run, else ours.")
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="Left out: greedy.")] = None,
    top_p: Annotated[float, typer.Option(help="Nucleus; 1 is all.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(help="Likeliest tokens kept. Left out: all.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Longest rubric, in tokens.")] = 1024,
    max_prompt_tokens: Annotated[
        int, typer.Option(help="Longest prompt, in tokens; longer ones are left out.")
    ] = 4096,
    max_criteria: Annotated[int, typer.Option(help="Most criteria of a rubric.")] = 12,
    max_characters: Annotated[int, typer.Option(help="Longest criterion, in characters.")] = 300,
    seed: Annotated[int, typer.Option(help="Seed of what is drawn.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows sampled together.")] = 32,
    engine: Annotated[
        Literal["local", "hf", "vllm"] | None,
        typer.Option(help="What samples. Left out: local, or hf for models that it cannot run."),
    ] = None,
    shard: Annotated[
        str, typer.Option(help="This process's share of the rows, such as 2/4.")
    ] = "1/1",
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Folder of what is written. Left out: $RCSD_CACHE/rubrics, else "
            "~/.cache/rcsd/rubrics."
        ),
    ] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16"], typer.Option(help="Type of the weights; a run has its own.")
    ] = "float32",
    revision: Annotated[str | None, typer.Option(help="Of a hub id.")] = None,
    chat_template: Annotated[
        Path | None, typer.Option(help="A jinja file in the place of the model's own.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file of --out.")] = False,
) -> None:
    """Write a rubric for every row; stopped and started again it goes on where it was.

    Every rubric is valid: the decoding is held to a grammar. Several processes share the work by
    --shard and a common --cache (of machines without one, copy the files together); the one that
    finds all rows written writes the file of --out, and beside it FILE.written.json.
    """
    from rcsd.config import Model  # noqa: PLC0415
    from rcsd.config.base import parse  # noqa: PLC0415
    from rcsd.data.rows import read_jsonl  # noqa: PLC0415
    from rcsd.errors import RunError  # noqa: PLC0415
    from rcsd.io import check_writable, make_folder  # noqa: PLC0415
    from rcsd.recipes.pipeline_config import Writing  # noqa: PLC0415
    from rcsd.recipes.write_rubrics import parse_shard, trained_to_write  # noqa: PLC0415 (torch takes seconds)

    if out.exists() and not force:
        raise RunError(f"{out} exists; choose another name, or overwrite it with --force")
    part, rows = parse_shard(shard), read_jsonl(data)
    given = {"view": view, "templates": templates}
    writing = parse(
        Writing,
        {
            **trained_to_write(model),
            **{name: value for name, value in given.items() if value is not None},
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
            "max_tokens": max_tokens,
            "max_prompt_tokens": max_prompt_tokens,
            "grammar": {"max_criteria": max_criteria, "max_characters": max_characters},
            "seed": seed,
        },
        "options",
    )
    make_folder(out)
    check_writable(out, [data])
    given = {"path": model, "dtype": dtype, "revision": revision, "chat_template": chat_template}
    section = parse(Model, given, "options")
    _write(rows, writing, section, (engine, batch_size), part, cache, out)


def _write(
    rows: "Sequence[Example]",
    writing: "Writing",
    section: "Model",
    sampled_by: tuple[Literal["local", "hf", "vllm"] | None, int],
    part: "Shard",
    cache: Path | None,
    out: Path,
) -> None:
    """The rubrics, as far as this shard writes them, and the file once there are all.

    Args:
        rows: What rubrics are written for.
        writing: How.
        section: The model.
        sampled_by: Type of the engine, and how many rows it samples together.
        part: Which share of the rows.
        cache: Folder of what is written.
        out: The file.
    """
    from rcsd.config import engine_by_type  # noqa: PLC0415
    from rcsd.engines.build import chosen_engine  # noqa: PLC0415 (torch takes seconds)
    from rcsd.io import cache_folder  # noqa: PLC0415
    from rcsd.models.save import load_trained  # noqa: PLC0415 (torch takes seconds)
    from rcsd.recipes.write_rubrics import write_rows_and_report, write_rubrics  # noqa: PLC0415

    quieten_libraries()
    kind, batch_size = sampled_by
    engine = None if kind is None else engine_by_type(kind, batch_size)
    longest = writing.max_prompt_tokens + writing.max_tokens
    with bars() as shown:
        policy, name = load_trained(section)
        written, report = write_rubrics(
            rows,
            writing,
            policy,
            chosen_engine(engine, policy, batch_size, longest),
            cache or cache_folder() / "rubrics",
            name,
            part,
            batch_size,
            _rate_shown(shown),
        )
    _print_counts(report)
    if report.num_missing:
        console.print("The last shard to finish, or this command without --shard, writes the file.")
        return
    write_rows_and_report(written, report, out)
    say(f"Rubrics: {out}")


def _rate_shown(shown: Progress) -> Callable[[int, int], None]:
    """A progress that shows how many rows are written a second."""
    began: list[tuple[int, float]] = []

    def on_rows(done: int, total: int) -> None:
        began.append((done, time.perf_counter()))
        (first, then), (_, now) = began[0], began[-1]
        rate = f"{(done - first) / (now - then):.1f} rows a second" if done > first else ""
        shown("write rubrics", done, total, rate)

    return on_rows


def _print_counts(report: "WritingReport") -> None:
    counts = {
        "rows": report.num_rows,
        "with a rubric": report.num_written,
        "of these found in the cache": report.num_cached,
        "cut off at the token limit, whole criteria kept": report.num_cut,
        "drawn more than once": report.num_redrawn,
        "held to one short criterion": report.num_held_short,
        "left out, since the prompt does not fit": len(report.dropped),
        "still to be written by other shards": report.num_missing,
    }
    for what, count in counts.items():
        console.print(f"{count:>8} {what}")
