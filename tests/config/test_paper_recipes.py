"""Every recipe of the paper's runs learns, and its head has what the plan prints."""

import copy
import json
import re
import shlex
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.hub_shapes import SHAPES
from tests.support.judge_server import JudgeServer
from tests.support.tiny import tiny_shape, tiny_tokenizer
from transformers import Qwen3Config, Qwen3ForCausalLM

from rcsd.config import load_config
from rcsd.training.trainer import run

ROOT = Path(__file__).parents[2]
RECIPES = sorted(
    path.relative_to(ROOT).as_posix() for path in (ROOT / "configs" / "paper").rglob("*.yaml")
)
PLANNED = re.compile(
    r"^# Planned memory, not compared with a GPU: (\S+) GiB per GPU:\n"
    r"#   (rcsd plan (?:.*\\\n#)?.*)$",
    re.M,
)
ROWS = [
    {
        "question": f"What is {n} + 2?",
        "reference_answer": str(n + 2),
        "solution": f"{n} + 2 = {n + 2}",
        "rubric": [
            {"criterion": f"Says {n + 2}.", "weight": 2, "check": {"type": "boxed"}},
            {"criterion": "Guesses.", "weight": -1, "check": {"type": "contains", "text": "maybe"}},
        ],
    }
    for n in range(4)
]


def slowly(is_fast: Callable[[str], bool]) -> list[Any]:
    """All recipes, most of them marked slow."""
    return [r if is_fast(r) else pytest.param(r, marks=pytest.mark.slow) for r in RECIPES]


@cache
def qwen3() -> Any:
    torch.manual_seed(0)
    shape: dict[str, Any] = tiny_shape() | {"head_dim": 16, "max_position_embeddings": 4096}
    return Qwen3ForCausalLM(Qwen3Config(**shape))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two random layers of the recipes' family."""
    folder = tmp_path_factory.mktemp("qwen3")
    qwen3().save_pretrained(folder)
    tokenizer = copy.deepcopy(tiny_tokenizer())
    # The recipes set this variable of Qwen3's template.
    tokenizer.chat_template = "{% if enable_thinking %}{% endif %}" + tokenizer.chat_template
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def judge() -> Iterator[JudgeServer]:
    served = JudgeServer()
    yield served
    served.close()


@pytest.mark.parametrize("recipe", slowly(lambda recipe: "1.7b" not in recipe))
def test_a_recipe_takes_three_steps(recipe: str, model: Path, judge: JudgeServer, tmp_path: Path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    overrides = [
        f"model.path={model}",
        f"data.path={rows}",
        f"out={tmp_path / 'run'}",
        "steps=3",
        "examples_per_step=2",
        "sampling.max_tokens=8",
    ]
    settings = load_config(ROOT / recipe, overrides)
    if settings.views.analysis:
        settings = load_config(ROOT / recipe, [*overrides, "views.max_analysis_tokens=4"])
    if settings.method.type == "sft":  # lengths of what is given, not of what is sampled
        settings = load_config(ROOT / recipe, [*overrides, "sampling.max_tokens=256"])
    if settings.method.type == "grpo" and settings.method.rewards[0].type == "rubric":
        rewards = [settings.method.rewards[0].model_dump(mode="json")]
        own = {"url": judge.url, "cache": str(tmp_path / "judgements.sqlite")}
        rewards[0]["judge"] |= own
        given = f"method.rewards={json.dumps(rewards)}"
        settings = load_config(ROOT / recipe, [*overrides, given])
    found = run(settings)
    assert [row["step"] for row in found.metrics() if "step" in row][-1] == 3
    assert (found.model / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_the_papers(recipe: str):
    settings = load_config(ROOT / recipe)
    lora = settings.model.training
    assert (lora.type, settings.steps, settings.optim.lr) == ("lora", 100, 5e-6)
    assert (getattr(lora, "rank", 0), getattr(lora, "alpha", 0)) == (64, 128)
    assert settings.examples_per_step * settings.completions_per_example == 32
    if settings.method.type != "sft":
        drawn = settings.sampling
        found = (drawn.temperature, drawn.top_p, drawn.top_k, drawn.max_tokens)
        assert found == (1.2, 0.95, 20, 4096)
    # Vllm is what the heads' commands sample with; `pip install 'rcsd[vllm]'`.
    assert load_config(ROOT / recipe, ["engine.type=vllm"]).engine.type == "vllm"


@pytest.mark.parametrize("recipe", [r for r in RECIPES if "1.7b" in r])
def test_a_small_recipe_is_the_large_one_on_a_smaller_model(recipe: str):
    changed = recipe.replace("qwen3-1.7b", "qwen3-8b-changed")
    large = changed if changed in RECIPES else recipe.replace("qwen3-1.7b", "qwen3-8b")
    same = ["model.path=any", "out=runs/any"]
    assert load_config(ROOT / recipe, same) == load_config(ROOT / large, same)


def test_the_entry_clip_stands_where_the_released_code_has_it_alone():
    clipped = [r for r in RECIPES if "entry" in str(load_config(ROOT / r).method)]
    assert clipped == ["configs/paper/qwen3-8b/rcsd.yaml"]


@pytest.mark.slow  # tests/recipes/test_plan.py fails first
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipes_head_has_the_memory_of_its_plan(
    recipe: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rcsd: Any,
):
    [(gib, command)] = PLANNED.findall((ROOT / recipe).read_text("utf-8"))
    words = shlex.split(command.replace("\\\n#", ""))
    assert words[2] == recipe
    settings = load_config(ROOT / recipe)
    SHAPES[settings.model.path].save_pretrained(tmp_path / "model")
    monkeypatch.chdir(ROOT)
    code, out, err = rcsd(*words[1:], f"model.path={tmp_path / 'model'}")
    assert (code, err) == (0, "")
    assert f"peak {gib} GiB" in " ".join(out.split())
