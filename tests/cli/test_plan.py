"""``rcsd plan``, and the page that shows what it says."""

import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rcsd.recipes.plan.prompts import prompt_lengths
from tests.support.hub_shapes import SHAPES
from tests.support.tiny import tiny_folder

from rcsd import cli
from rcsd.config import load_config
from rcsd.data.load import load_examples
from rcsd.data.prompts import build_prompts
from rcsd.models.policy import load_policy

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "scaling.md"
WIDTH = 110
"""Of the terminal that the page's blocks were printed on."""

Told = Callable[..., tuple[int, str, str]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Told:
    """Exit code, standard output and standard error of ``rcsd plan WORDS``."""
    monkeypatch.setattr("rcsd.cli.terminal.console._width", WIDTH)

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rcsd", "plan", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as stopped:
            code = stopped.code if isinstance(stopped.code, int) else 0
        shown = capsys.readouterr()
        return code, shown.out, " ".join(shown.err.split())

    return run


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    """A run of the rubric world on a tiny model."""
    file = tmp_path / "run.yaml"
    tree: dict[str, Any] = {
        "model": {"path": tiny_folder(tmp_path / "model"), "training": {"type": "lora"}},
        "data": {"type": "world", "num_examples": 5},
        "method": {"type": "distill"},
        "sampling": {"max_tokens": 64},
        "optim": {"lr": 1e-4},
        "steps": 1,
        "out": str(tmp_path / "run"),
    }
    file.write_text(json.dumps(tree), encoding="utf-8")
    return file


def test_a_plan_is_printed_and_written(run_file: Path, tmp_path: Path, told: Told) -> None:
    numbers = tmp_path / "plan.json"
    code, out, _ = told(run_file, "examples_per_step=8", "--device", "a100", "--json", numbers)
    assert code == 0
    assert "measured on 5 examples of the run's data" in out
    assert "32 tokens in the mean (assumed, half of the longest), 64 at most" in out
    assert "It fits" in out
    assert "nobody has checked it" in out
    record = json.loads(numbers.read_text("utf-8"))
    assert record["work"]["examples"] == 8
    assert record["cluster"]["hardware"]["name"] == "A100 SXM 80 GB"
    parts = [phase["seconds"] for phase in record["seconds"].values()]
    assert record["step_seconds"] == pytest.approx(sum(parts))
    phases = [sum(record["memory_bytes"][name].values()) for name in record["seconds"]]
    assert record["peak_bytes"] == pytest.approx(
        sum(record["memory_bytes"]["kept"].values()) + max(phases)
    )


def test_a_plan_for_this_machine_says_what_it_measured(run_file: Path, told: Told) -> None:
    code, out, _ = told(run_file, "--device", "here", "--prompt-tokens", 40)
    assert code == 0
    assert re.search(r"measured: products \d+ and attention \d+ GFLOP/s; streams", out)
    assert "a rubric has 256 tokens more (assumed)" in out
    assert "nobody has checked it" not in out


def test_prompts_are_those_of_the_run(run_file: Path) -> None:
    settings = load_config(run_file, ["views.teacher=solution+rubric"])
    policy = load_policy(settings.model)
    prompts, _ = build_prompts(
        load_examples(settings.data)[0], settings.views, policy.tokenizer, 4096
    )
    assert prompt_lengths(settings) == [(len(p.student_ids), len(p.teacher_ids)) for p in prompts]


def test_without_data_the_length_of_prompts_is_asked_for(run_file: Path, told: Told) -> None:
    data = "data={type: jsonl, path: nowhere.jsonl}"
    code, _, err = told(run_file, data)
    assert code == 2
    assert "give --prompt-tokens" in err
    assert "nowhere.jsonl" in err
    code, out, _ = told(run_file, data, "--prompt-tokens", 40, "--teacher-tokens", 90)
    assert code == 0
    assert "teacher's prompts: as asked for" in out


def test_an_unknown_device_is_an_error_that_lists_the_known_ones(
    run_file: Path, told: Told
) -> None:
    code, _, err = told(run_file, "--device", "h1000")
    assert code == 2
    assert "There are h100, h200, a100, mi300x, and here" in err


def blocks() -> list[tuple[str, str]]:
    """Commands of the page, and what it says they print."""
    found = re.findall(
        r"^```\n\$ (rcsd plan .*?)\n\n(.*?)\n```$", PAGE.read_text("utf-8"), re.M | re.S
    )
    return [(command.replace("\\\n", " "), shown) for command, shown in found]


def test_the_page_on_scaling_shows_every_cluster_configuration() -> None:
    shown = {shlex.split(command)[2] for command, _ in blocks()}
    assert shown == {f"configs/cluster/{f.name}" for f in (ROOT / "configs/cluster").glob("*.yaml")}


@pytest.mark.parametrize(("command", "shown"), blocks())
def test_the_page_on_scaling_shows_what_the_command_prints(
    command: str, shown: str, tmp_path: Path, told: Told
) -> None:
    words = shlex.split(command)[2:]
    path = load_config(ROOT / words[0]).model.path
    # The published shape, so that no hub is asked.
    SHAPES[path].save_pretrained(tmp_path / "model")
    code, out, err = told(ROOT / words[0], f"model.path={tmp_path / 'model'}", *words[1:])
    assert (code, err) == (0, "")
    printed = out.replace(str(tmp_path / "model"), path)
    assert [line.rstrip() for line in printed.strip().splitlines()] == [
        line.rstrip() for line in shown.splitlines()
    ]


@pytest.mark.parametrize(("model", "name"), [("SmolLM2-135M", "smollm2"), ("micro", "micro")])
def test_the_pages_ratios_are_those_of_the_record(model: str, name: str) -> None:
    (file,) = (ROOT / "benchmarks" / "results").glob(f"*-plan-{name}.json")
    ratios = json.loads(file.read_text("utf-8"))["ratios"]
    order = [f"{phase}_seconds" for phase in ("sampling", "teacher", "student", "update", "step")]
    cells = [f"{ratios[quantity]:.2f}" for quantity in (*order, "learning_mib", "resident_mib")]
    assert f"| {model} | {' | '.join(cells)} |" in PAGE.read_text("utf-8")
