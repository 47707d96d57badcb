"""What the documents and the folders say of the code is true."""

import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rcsd import config
from rcsd.config.base import load
from rcsd.methods import losses, policy_gradient
from rcsd.recipes.pipeline_config import Pipeline
from rcsd.recipes.study_config import Study

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "rcsd"
# pyproject.toml's contract "Text and numbers need no torch", as it is at run time.
TORCH_FREE = """
errors types redact io runs http config cli
data.load data.prompts data.check data.placebos data.benchmarks.load data.importers
evaluation.statistics evaluation.compare evaluation.record evaluation.report evaluation.plots
graders.answers graders.checks graders.judge graders.leakage
"""


def relative(paths: Any) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in paths)


SECTIONS = {"pipeline": Pipeline, "judge": config.Judging, "eval": config.EvalConfig}


@pytest.mark.parametrize("name", relative((ROOT / "configs").rglob("*.y*ml")))
def test_every_config_in_the_repository_loads(name: str) -> None:
    if name.startswith("configs/studies/"):
        study = load(Study, ROOT / name, [])
        assert all(study.stage(arm).budget == study.budget for arm in study.arms)
    else:
        kinds = [kind for part, kind in SECTIONS.items() if part in Path(name).stem]
        assert load(kinds[0] if kinds else config.Config, ROOT / name, [])


def listed_in_readme() -> list[str]:
    """Names that the README's tree lists under ``src/rcsd``, folders with a slash."""
    text = (ROOT / "README.md").read_text("utf-8")
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.M | re.S)
    [tree] = [block for block in blocks if re.search(r"^src/rcsd/", block, re.M)]
    under = re.split(r"^src/rcsd/.*\n", tree, flags=re.M)[1]
    [inside] = re.findall(r"\A(?:  .*\n|\n)*", under)[:1]
    return re.findall(r"^  (\S+)(?:  +\S.*)?$", inside, re.M)


def test_readmes_tree_equals_the_files() -> None:
    entries = [p for p in PACKAGE.iterdir() if p.name not in ("__init__.py", "__pycache__")]
    names = [path.name + "/" if path.is_dir() else path.name for path in entries]
    assert sorted(listed_in_readme()) == sorted(names)


def named_in(document: Path) -> list[str]:
    return re.findall(r"`(rcsd(?:\.\w+)+)", document.read_text("utf-8"))


@pytest.mark.parametrize("name", relative((ROOT / "docs").rglob("*.md")))
def test_what_documents_name_exists(name: str) -> None:
    for dotted in named_in(ROOT / name):
        assert pkgutil.resolve_name(dotted) is not None


def test_the_method_page_names_every_divergence_and_policy_gradient() -> None:
    public = {
        f"{module.__name__}.{name}"
        for module in (losses, policy_gradient)
        for name, value in vars(module).items()
        if callable(value)
        and getattr(value, "__module__", "") == module.__name__
        and not name.startswith("_")
    }
    assert public - set(named_in(ROOT / "docs" / "method.md")) <= {"rcsd.methods.losses.entropy"}


@pytest.mark.parametrize("page", relative((ROOT / "docs" / "decisions").glob("*.md")))
def test_a_decision_has_context_decision_and_consequences(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    assert re.findall(r"^## (.*)$", text, re.M) == ["Context", "Decision", "Consequences"]
    assert len(text.splitlines()) < 30


def test_text_and_numbers_are_imported_without_torch() -> None:
    modules = ", ".join(f"rcsd.{name}" for name in TORCH_FREE.split())
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_trainer_imports_neither_judge_nor_benchmark_nor_world_nor_server() -> None:
    code = "import sys, rcsd.training; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = [name for name in done.stdout.split() if name.split(".")[0] == "rcsd"]
    others = r"rcsd\.(recipes|http|data\.(world|benchmarks|lint\w*)|graders\.judge|engines\.vllm)"
    assert [name for name in names if re.match(others, name)] == []
    assert len(names) < 80


def test_every_promise_of_security_names_tests_that_exist() -> None:
    text = (ROOT / "SECURITY.md").read_text("utf-8")
    promised = text.split("## Promised\n")[1].split("## Not promised")[0]
    for promise in promised.strip().split("\n\n"):
        named = re.findall(r"^- `(tests/[\w/]+\.py)::(\w+)`$", promise, re.M)
        assert named, promise
        for file, name in named:
            assert f"\ndef {name}(" in (ROOT / file).read_text("utf-8"), name


def test_an_audit_that_could_not_ask_fails() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert "pip-audit --strict" in makefile  # else what it could not ask after would pass
    assert "check: lint test\n" in makefile  # and no check needs a network
