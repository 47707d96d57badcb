"""Configuration of an evaluation from a command line: a file, a run, or any model, and options."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rcsd import config
from rcsd.config import config_of_run, load_judging
from rcsd.config.base import override, parse, read_tree
from rcsd.errors import ConfigError, RunError
from rcsd.evaluation.record import DEFAULT_NAME
from rcsd.runs import RunFolder


def build_eval_config(
    target: str,
    overrides: Sequence[str] = (),
    tasks: Sequence[str] = (),
    limit: int | None = None,
    judge: Path | None = None,
) -> config.EvalConfig:
    """Configuration of an evaluation of a YAML file, a run's folder, or a model.

    ``tasks`` are names of `rcsd.data.benchmarks`, of which the first ``limit`` problems are taken;
    without any, the target's own sets are. Overrides are applied last.

    Raises:
        RunError: If a run cannot be evaluated.
        ConfigError: If an option has no meaning.
    """
    tree = _target_tree(target, bool(tasks))
    if limit is not None and not tasks:
        raise ConfigError("--limit is for --tasks; a set has its own key for it")
    if tasks:
        limits = {} if limit is None else {"limit": limit}
        tree["data"] = {name: {"type": "task", "name": name} | limits for name in tasks}
    if judge is not None:
        tree["judge"] = load_judging(judge).judge.model_dump(mode="json")
    override(tree, overrides)
    if not tree.get("data"):
        raise ConfigError(
            f"{target}: there is no set; name tasks with --tasks, such as --tasks sciq,piqa, or a "
            "set, such as 'data.mine={type: jsonl, path: FILE}'"
        )
    return parse(config.EvalConfig, tree, target)


def _target_tree(target: str, has_tasks: bool) -> dict[str, Any]:
    """Plain values of a file, of a run, or of a model without sets, into ``evals/NAME``."""
    path = Path(target)
    if path.suffix in (".yaml", ".yml"):
        return read_tree(path, ())
    if RunFolder(path).record.is_file():
        return _run_tree(path, has_tasks)
    if path.is_dir() and not (path / "config.json").is_file():
        raise RunError(
            f"{target} holds neither a run (no {RunFolder(path).record.name}) nor a model "
            "(no config.json)"
        )
    name = re.sub(r"[^\w.-]+", "-", target).strip("-.")
    return {"model": {"path": target}, "data": {}, "out": str(Path("evals") / name)}


def _run_tree(path: Path, has_tasks: bool) -> dict[str, Any]:
    """A run on the sets of its section ``evaluation``, with its view, prompts, limits, judge, seed.

    A single set is called ``held_out``; the folder is ``eval`` in the run's.
    """
    run = config_of_run(RunFolder(path))
    record = run.model_dump(mode="json")
    if run.views.writes == "rubric":
        raise RunError(f"{path} writes rubrics: see 'rcsd rubrics write' and 'rcsd rubrics score'")
    section = run.evaluation
    sets = {} if section is None or has_tasks else section.by_name
    return {
        "model": record["model"]
        | {"path": str(path), "chat_template_kwargs": run.chat_template_kwargs},
        "data": {name: data.model_dump(mode="json") for name, data in sets.items()},
        "out": str(path / DEFAULT_NAME),
        "view": run.learned_view,
        "templates": record["views"]["templates"],
        "max_tokens": run.sampling.max_tokens if section is None else section.max_tokens,
        "max_prompt_tokens": run.sampling.max_prompt_tokens,
        "batch_size": run.engine.batch_size,
        # A server holds a run's weights, not this model's, unless it is asked to.
        "engine": record["engine"] if run.engine.type == "vllm" else None,
        **({} if section is None else {"judge": section.judge.model_dump(mode="json")}),
        "seed": run.seed,
    }
