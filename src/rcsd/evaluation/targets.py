"""Configuration of an evaluation from a command line: a file, a run, or any model, and options."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from rcsd import config
from rcsd.config import config_of_run, load_judging
from rcsd.config.base import override, parse, read_tree
from rcsd.errors import ConfigError, RunError
from rcsd.evaluation.record import DEFAULT_NAME
from rcsd.runs import RunFolder

SAMPLING: Mapping[str, Mapping[str, Any]] = {
    "qwen3": {
        "max_tokens": 8192,
        "temperature": 0.7,
        "top_p": 0.8,
        "top_k": 20,
        "model": {"chat_template_kwargs": {"enable_thinking": False}},
    },
    "qwen3-thinking": {
        "max_tokens": 32768,
        "temperature": 0.6,
        "top_p": 0.95,
        "top_k": 20,
        "model": {"chat_template_kwargs": {"enable_thinking": True}},
    },
}
"""Presets: how Qwen3's authors sample it, without and with thinking (arXiv 2505.09388)."""


@dataclass(frozen=True)
class EvalOptions:
    """Options of ``rcsd eval``, between its target and the overrides.

    Args:
        tasks: Names of `rcsd.data.benchmarks`; empty: the target's own sets.
        limit: First problems taken of each task; None: all.
        preset: One of `SAMPLING`, or None.
        judge: YAML file with the section ``judge``, or None.
    """

    tasks: Sequence[str] = ()
    limit: int | None = None
    preset: str | None = None
    judge: Path | None = None


def build_eval_config(
    target: str, overrides: Sequence[str] = (), options: EvalOptions | None = None
) -> config.EvalConfig:
    """Configuration of an evaluation.

    Args:
        target: A YAML file; a run's folder; or a model: hub id, local folder, ``builtin:NAME``.
        overrides: Such as ``num_samples=8``; ``data={...}`` takes other sets.
        options: Applied after the target and before the overrides.

    Raises:
        RunError: If a run cannot be evaluated.
        ConfigError: If an option has no meaning.
    """
    options = options or EvalOptions()
    path = Path(target)
    if path.suffix in (".yaml", ".yml"):
        tree = read_tree(path, ())
    elif RunFolder(path).record.is_file():
        tree = _run_tree(path, bool(options.tasks))
    else:
        tree = _model_tree(target)
    _apply(options, tree)
    override(tree, overrides)
    if isinstance(tree.get("data"), dict):
        for name, section in tree["data"].items():
            if options.tasks and isinstance(section, dict) and "type" not in section:
                raise ConfigError(
                    f"data.{name}: --tasks does not name it, only {', '.join(options.tasks)}; add "
                    "it there, or give the set a type"
                )
    if not tree.get("data"):
        raise ConfigError(
            f"{target}: there is no set; name tasks with --tasks, such as --tasks sciq,piqa, or a "
            "set, such as 'data.mine={type: jsonl, path: FILE}'"
        )
    return parse(config.EvalConfig, tree, target)


def _run_tree(path: Path, has_tasks: bool) -> dict[str, Any]:
    """A run on the sets of its section ``evaluation``, with its view, prompts, limits and seed.

    A single set is called ``held_out``; the folder is ``eval`` in the run's.
    """
    run = config_of_run(RunFolder(path))
    record = run.model_dump(mode="json")
    if run.views.writes == "rubric":
        raise RunError(f"{path} writes rubrics: see 'rcsd rubrics write' and 'rcsd rubrics score'")
    section = run.evaluation
    sets = {} if section is None or has_tasks else section.by_name
    return {
        "model": record["model"] | {"path": str(path)},
        "data": {name: data.model_dump(mode="json") for name, data in sets.items()},
        "out": str(path / DEFAULT_NAME),
        "view": run.learned_view,
        "templates": record["views"]["templates"],
        "max_tokens": run.sampling.max_tokens if section is None else section.max_tokens,
        "max_prompt_tokens": run.sampling.max_prompt_tokens,
        "batch_size": run.engine.batch_size,
        # A server holds a run's weights, not this model's, unless it is asked to.
        "engine": record["engine"] if run.engine.type == "vllm" else None,
        "seed": run.seed,
    }


def _model_tree(target: str) -> dict[str, Any]:
    """A model without sets; the folder ``evals/NAME`` is named after it."""
    if Path(target).is_dir() and not (Path(target) / "config.json").is_file():
        raise RunError(
            f"{target} holds neither a run (no {RunFolder(Path(target)).record.name}) nor a model "
            "(no config.json)"
        )
    name = re.sub(r"[^\w.-]+", "-", target).strip("-.")
    return {"model": {"path": target}, "data": {}, "out": str(Path("evals") / name)}


def _apply(options: EvalOptions, tree: dict[str, Any]) -> None:
    if options.limit is not None and not options.tasks:
        raise ConfigError("--limit is for --tasks; a set has its own key for it")
    if options.preset is not None:
        if options.preset not in SAMPLING:
            raise ConfigError(f"--preset {options.preset}: there are {', '.join(SAMPLING)}")
        chosen = dict(SAMPLING[options.preset])
        tree["model"] = tree.get("model", {}) | chosen.pop("model")
        tree.update(chosen)
    names = get_args(config.TaskName)
    for name in options.tasks:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f", did you mean '{close[0]}'?" if close else ";"
            raise ConfigError(
                f"--tasks: there is no benchmark {name!r}{hint} 'rcsd tasks' lists them"
            )
    if options.tasks:
        limits = {} if options.limit is None else {"limit": options.limit}
        tree["data"] = {name: {"type": "task", "name": name} | limits for name in options.tasks}
    if options.judge is not None:
        tree["judge"] = load_judging(options.judge).judge.model_dump(mode="json")
