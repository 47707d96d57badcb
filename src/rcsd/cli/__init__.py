"""The command line: parse, load, call. The only folder that prints."""

import io
import sys
import traceback
from typing import NoReturn

import typer

from rcsd.cli import compare, data, eval, judge, rubrics, run
from rcsd.cli.terminal import errors, labelled
from rcsd.errors import OtherRankError, UserError
from rcsd.io import disk_error, reason
from rcsd.redact import guard_libraries

app = typer.Typer(
    help="Post-train a language model from rubrics, without a reward model or a judge in the loop.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",  # joins the lines of a paragraph
)
app.add_typer(data.app, name="data")
app.add_typer(rubrics.app, name="rubrics")
app.add_typer(judge.app, name="judge")
for command in (run.quickstart, run.train, run.probe, run.plan, run.pipeline, run.study):
    app.command()(command)
app.command("eval")(eval.evaluate)
for command in (eval.rejudge, eval.tasks, eval.grade, compare.compare, compare.paper_table):
    app.command()(command)
for command in (run.export, run.models):
    app.command()(command)


def main() -> None:
    """Run the command line; an error that the user can mend ends with exit code 2."""
    guard_libraries()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where it was closed
            stream.reconfigure(errors="backslashreplace")  # what the locale lacks ends no command
    try:
        app()
    except OtherRankError:
        sys.exit(2)  # the process that failed says why
    except UserError as error:
        _end(str(error))
    except UnicodeEncodeError as error:
        if error.encoding == "utf-8":  # half a surrogate pair, which is no matter of the locale
            raise
        _end(f"a name or text is beyond this locale's {error.encoding}; set PYTHONUTF8=1")
    except Exception as error:
        if fault := disk_error(error):
            _end(f"{fault.filename or 'the disk'}: {reason(fault)}")
        # As Python would, but a message may quote data.
        errors.print(traceback.format_exc(), soft_wrap=True)
        sys.exit(1)


def _end(message: str) -> NoReturn:
    errors.print(labelled("error", message, "bold red"), soft_wrap=True)
    sys.exit(2)
