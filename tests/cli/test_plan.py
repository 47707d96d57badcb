"""``rcsd plan``, and the page with its output."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.hub_shapes import SHAPES
from tests.support.tiny import tiny_folder

from rcsd.config import load_config
from rcsd.data.load import load_examples
from rcsd.data.prompts import build_prompts
from rcsd.models.policy import load_policy
from rcsd.recipes.plan import measure_prompts

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "scaling.md"
WIDTH = 100
"""Width of the terminal that the page's blocks were printed on."""

RunPlan = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run_plan(monkeypatch: pytest.MonkeyPatch, rcsd: Any) -> RunPlan:
    """Exit code, standard output and standard error of ``rcsd plan WORDS``."""
    monkeypatch.setattr("rcsd.cli.terminal.console._width", WIDTH)
    return lambda *words: rcsd("plan", *words)


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
        "examples_per_step": 2,
        "out": str(tmp_path / "run"),
    }
    file.write_text(json.dumps(tree), encoding="utf-8")
    return file


def test_a_plan_is_printed(run_file: Path, run_plan: RunPlan) -> None:
    code, out, _ = run_plan(run_file, "examples_per_step=8", "--memory-gib", 80)
    assert code == 0
    assert "longest prompts, measured: student" in out
    assert "per process: 8 examples x 1 completions" in out
    assert "It fits" in out
    assert "not on GPUs" in out


def test_prompts_are_those_of_the_run(run_file: Path) -> None:
    settings = load_config(run_file, ["views.teacher=solution+rubric"])
    policy = load_policy(settings.model)
    rows = load_examples(settings.data)[0]
    prompts, _ = build_prompts(rows, settings.views, policy.tokenizer, 4096)
    longest = (max(len(p.student_ids) for p in prompts), max(len(p.teacher_ids) for p in prompts))
    assert measure_prompts(settings) == longest


def test_the_length_of_prompts_can_be_given_instead(run_file: Path, run_plan: RunPlan) -> None:
    data = "data={type: jsonl, path: nowhere.jsonl}"
    code, _, err = run_plan(run_file, data)
    assert (code, "nowhere.jsonl" in err) == (2, True)
    code, out, _ = run_plan(run_file, data, "--prompt-tokens", 40, 90)
    assert code == 0
    assert "longest prompts, given: student 40 tokens, teacher 90; completions 64" in out


def blocks() -> list[tuple[str, str]]:
    """Commands of the page, and their output there."""
    found = re.findall(
        r"^```\n\$ (rcsd plan .*?)\n\n(.*?)\n```$", PAGE.read_text("utf-8"), re.M | re.S
    )
    return [(command.replace("\\\n", " "), printed) for command, printed in found]


@pytest.mark.slow
@pytest.mark.parametrize(("command", "printed"), blocks())
def test_the_page_on_scaling_has_what_the_command_prints(
    command: str, printed: str, tmp_path: Path, run_plan: RunPlan
) -> None:
    words = shlex.split(command)[2:]
    path = load_config(ROOT / words[0]).model.path
    # The published shape, so that no hub is asked.
    SHAPES[path].save_pretrained(tmp_path / "model")
    code, out, err = run_plan(ROOT / words[0], f"model.path={tmp_path / 'model'}", *words[1:])
    assert (code, err) == (0, "")
    out = out.replace(str(tmp_path / "model"), path)
    assert [line.rstrip() for line in out.strip().splitlines()] == [
        line.rstrip() for line in printed.splitlines()
    ]


def test_every_cluster_configuration_names_a_plan_on_the_page() -> None:
    configs = {f"configs/cluster/{f.name}" for f in (ROOT / "configs/cluster").glob("*.yaml")}
    assert {name for name in configs if name in PAGE.read_text("utf-8")} == configs
