"""What a command line asks to be evaluated: a file, a run, or any model, on sets or on tasks."""

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
class Asked:
    """What the options of ``rcsd eval`` ask for, beside its target.

    Args:
        tasks: Names of `rcsd.data.benchmarks`; empty: the target's own sets.
        samples: Completions of each question, which are then not answered greedily too; None: as
            the target says.
        limit: Of each task the first so many problems; None: all.
        engine: Type of the engine; None: as the target says.
        preset: One of `SAMPLING`, or None.
        judge: A YAML file with the section ``judge``, or None.
    """

    tasks: Sequence[str] = ()
    samples: int | None = None
    limit: int | None = None
    engine: str | None = None
    preset: str | None = None
    judge: Path | None = None


def evaluating_of(
    target: str, overrides: Sequence[str] = (), asked: Asked | None = None
) -> config.Evaluating:
    """The configuration of an evaluation.

    Args:
        target: A YAML file; a run's folder; or a model: hub id, local folder, ``builtin:NAME``.
        overrides: Such as ``num_samples=8``; ``data={...}`` takes other sets.
        asked: Put upon what the target says, and beneath the overrides.

    Raises:
        RunError: If a run cannot be evaluated.
        ConfigError: If something that is asked for has no meaning.
    """
    asked = asked or Asked()
    path = Path(target)
    if path.suffix in (".yaml", ".yml"):
        tree = read_tree(path, ())
    elif RunFolder(path).record.is_file():
        tree = _tree_of_run(path, bool(asked.tasks))
    else:
        tree = _tree_of_model(target)
    _ask(tree, asked)
    override(tree, overrides)
    if isinstance(tree.get("data"), dict):
        for name, section in tree["data"].items():
            if asked.tasks and isinstance(section, dict) and "type" not in section:
                raise ConfigError(
                    f"data.{name}: --tasks does not name it, only {', '.join(asked.tasks)}; add it "
                    "there, or give the set a type"
                )
    if not tree.get("data"):
        raise ConfigError(
            f"{target}: nothing is asked; name tasks with --tasks, such as --tasks sciq,piqa, or a "
            "set, such as 'data.mine={type: jsonl, path: FILE}'"
        )
    return parse(config.Evaluating, tree, target)


def _tree_of_run(path: Path, other_sets: bool) -> dict[str, Any]:
    """On the held-out set of a run's section ``evaluation``, with its view, words, limits and seed.

    A sole set is called ``held_out``, the folder ``eval`` in the run's.
    """
    run = config_of_run(RunFolder(path))
    record = run.model_dump(mode="json")
    if run.views.writes == "rubric":
        raise RunError(f"{path} writes rubrics: see 'rcsd rubrics write' and 'rcsd rubrics score'")
    own = run.evaluation
    sets = {} if own is None or other_sets else own.by_name
    return {
        "model": record["model"] | {"path": str(path)},
        "data": {name: data.model_dump(mode="json") for name, data in sets.items()},
        "out": str(path / DEFAULT_NAME),
        "view": run.learned_view,
        "templates": record["views"]["templates"],
        "max_tokens": run.sampling.max_tokens if own is None else own.max_tokens,
        "max_prompt_tokens": run.sampling.max_prompt_tokens,
        "batch_size": run.engine.batch_size,
        # A server holds a run's weights, not this model's, unless it is asked to.
        "engine": record["engine"] if run.engine.type == "vllm" else None,
        "seed": run.seed,
    }


def _tree_of_model(target: str) -> dict[str, Any]:
    """A model as it is; the folder ``evals/NAME`` is named after it."""
    if Path(target).is_dir() and not (Path(target) / "config.json").is_file():
        raise RunError(
            f"{target} holds neither a run (no {RunFolder(Path(target)).record.name}) nor a model "
            "(no config.json)"
        )
    name = re.sub(r"[^\w.-]+", "-", target).strip("-.")
    return {"model": {"path": target}, "data": {}, "out": str(Path("evals") / name)}


def _ask(tree: dict[str, Any], asked: Asked) -> None:
    if asked.limit is not None and not asked.tasks:
        raise ConfigError("--limit is for --tasks; a set has its own key for it")
    if asked.preset is not None:
        if asked.preset not in SAMPLING:
            raise ConfigError(f"--preset {asked.preset}: there are {', '.join(SAMPLING)}")
        chosen = dict(SAMPLING[asked.preset])
        tree["model"] = tree.get("model", {}) | chosen.pop("model")
        tree.update(chosen)
    known = get_args(config.TaskName)
    for name in asked.tasks:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f", did you mean '{close[0]}'?" if close else ";"
            raise ConfigError(
                f"--tasks: there is no benchmark {name!r}{hint} 'rcsd eval tasks' lists them"
            )
    if asked.tasks:
        limits = {} if asked.limit is None else {"limit": asked.limit}
        tree["data"] = {name: {"type": "task", "name": name} | limits for name in asked.tasks}
    if asked.samples is not None:
        tree.update(num_samples=asked.samples, greedy=asked.samples == 0)
    if asked.engine is not None:
        tree["engine"] = {"type": asked.engine}
    if asked.judge is not None:
        tree["judge"] = load_judging(asked.judge).judge.model_dump(mode="json")
