"""Nothing foreign is obeyed: not by the terminal, not by the report's reader."""

import ast
import dataclasses
import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from tests.evaluation.test_report import Structure, full_page

from rcsd import cli
from rcsd.cli.terminal import GuardedConsole, bars, labelled, styled
from rcsd.evaluation.report import report_html
from rcsd.redact import visible_text

PACKAGE = Path(__file__).parents[1] / "src" / "rcsd"
# Colour, clipboard (OSC 52), C1's introducer, overprinting, direction, half a pair, link (OSC 8).
HOSTILE = (
    *("\x1b[31m", "\x1b]52;c;cm0gLXJm\x07", "\x9b2J", "safe\rrm -rf", "\u202egnp.exe"),
    *("\u2066a\u2069", "\ud800", "\x1b]8;;https://evil.example\x1b\\here\x1b]8;;\x1b\\"),
    "[bold]loud[/bold] [link=https://evil.example]here[/link] :skull:",
)
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printed(*parts: Any, **changes: Any) -> str:
    """What a console writes, without colours unless told."""
    shown = GuardedConsole(**{"width": 200, "color_system": None} | changes)
    with shown.capture() as captured:
        for part in parts:
            shown.print(part)
    return captured.get()


def everywhere(text: str) -> Any:
    """A text in each place in which the commands print foreign text."""
    table = Table("what", text, title=text, caption=text)
    table.add_row(text, styled(text, "bold"))
    return Group(table, Panel(text, title=styled(text, "")), labelled(text, text), text)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_wherever_it_is_printed_and_never_obeyed(text: str) -> None:
    shown = printed(everywhere(text))
    assert not OBEYED.search(shown)
    for part in re.split(f"{OBEYED.pattern}|[\ud800-\udfff]", text):
        assert part in shown, "what stands around a control is kept"
    assert shown.count(visible_text(text)) >= 6
    shown.encode()


@given(st.text(st.characters(codec=None)))
def test_no_text_at_all_is_obeyed(text: str) -> None:
    shown = printed(everywhere(text), styled(text, "red"))
    assert not OBEYED.search(shown)
    shown.encode()


def test_colours_of_our_own_are_kept() -> None:
    shown = printed(styled("a\x1b[32mb", "red"), force_terminal=True, color_system="standard")
    assert shown == "\x1b[31ma<U+001B>[32mb\x1b[0m\n"


def test_progress_bars_show_names_and_notes_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    with bars() as shown:
        shown("[bold]\x1b[2J", 2, 2, "\u202e[red]note")
    err = capsys.readouterr().err
    assert not OBEYED.search(err)
    assert "[bold]<U+001B>[2J" in err
    assert "<U+202E>[red]note" in err


def test_hostile_rows_ids_criteria_and_file_names_do_not_reach_the_terminal_raw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rcsd: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    evil = "".join(HOSTILE).replace("\ud800", "")
    rubric = [{"criterion": f"c {evil}", "weight": 1, "title": f"t {evil}"}]
    row = {"id": f"id {evil}", "question": f"q {evil}", "reference_answer": f"a {evil}"}
    row |= {"rubric": rubric, "tags": {f"k {evil}": f"v {evil}"}}
    file, good = Path("rows\x1b[31m\u202e.jsonl"), Path("good\x1b[31m.jsonl")
    file.write_text("".join(json.dumps(each) + "\n" for each in (row, row, {evil: 1})))
    good.write_text(json.dumps(row) + "\n")
    for words in (
        ["data", "check", file],
        ["rubrics", "check", file],
        ["data", "import", good, "--format", "jsonl", "--out", "out\x1b[31m.jsonl"],
        ["train", "none\x1b[31m.yaml"],
        ["eval", f"none{evil[:20]}".replace("/", ""), f"model.path={evil}"],
    ):
        _, out, err = rcsd(*words)
        assert not OBEYED.search(out + err), words
        assert re.search(r"<U\+001B>|\\x1b", out + err)


def test_an_error_of_ours_is_shown_with_its_trace_and_nothing_in_it_obeyed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("\x1b]52;c;cm0=\x07 [red]")

    monkeypatch.setattr("rcsd.cli.app", broken)
    with pytest.raises(SystemExit, match="1"):
        cli.main()
    err = capsys.readouterr().err
    assert "ZeroDivisionError: <U+001B>]52;c;cm0=<U+0007> [red]" in err
    assert "Traceback" in err


def test_the_terminal_has_one_door() -> None:
    allowed = {
        "cli/terminal.py": {"Text", "Text.assemble"},
    }
    doors = {"print", "typer.echo", "typer.secho", "Console", "Text", "Text.from_markup"}
    doors |= {"Text.assemble", "Text.from_ansi", "sys.stdout.write", "sys.stderr.write"}
    for path in PACKAGE.rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text("utf-8")))
        used = {ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)} & doors
        name = path.relative_to(PACKAGE).as_posix()
        assert used <= allowed.get(name, set()), name


# The report


HTML = (
    *("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", '"><svg onload=alert(1)>'),
    *("'onmouseover='alert(1)", "</style><style>*{background:url(https://evil.example)}"),
    *("<!--", "]]>", "javascript:alert(1)", "{{ 7 * 7 }}", "&lt;b&gt;"),
)


def planted(part: Any, evil: str) -> Any:
    """A page with the same foreign text at the end of each of its texts."""
    if isinstance(part, str):
        return part + evil
    if isinstance(part, tuple):
        return tuple(planted(inner, evil) for inner in part)
    if isinstance(part, dict):
        return {planted(name, evil): planted(value, evil) for name, value in part.items()}
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        names = [field.name for field in dataclasses.fields(part)]
        evils = {name: planted(getattr(part, name), evil) for name in names}
        return dataclasses.replace(part, **evils)
    return part


@functools.cache
def plain_report() -> Structure:
    return Structure(report_html(planted(full_page(), " x")))


@settings(max_examples=4)
@given(st.lists(st.sampled_from([*HTML, *HOSTILE]) | st.text(max_size=20), min_size=1, max_size=5))
def test_planted_html_changes_no_tag_of_the_report(parts: list[str]) -> None:
    text = report_html(planted(full_page(), "".join(parts)))
    page, plain = Structure(text), plain_report()
    assert not {"script", "iframe", "object", "embed", "base", "img"} & set(page.tags)
    assert not page.handlers
    assert all(address.startswith(("#", "data:,")) for address in page.addresses)
    assert not OBEYED.search(text)
    # Lines of a figure's text are broken where there is room, so their number may differ.
    assert {*page.tags} == {*plain.tags}
    text.encode()
