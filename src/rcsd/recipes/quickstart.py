"""The pipeline on the rubric world, at a scale of minutes, by ``quickstart_MODEL.yaml`` here."""

from collections.abc import Mapping
from itertools import count
from pathlib import Path

from rcsd.config.base import parse, read_tree
from rcsd.errors import ConfigError, RunError
from rcsd.io import check_new, new_folder, one_owner, read_json, write_json
from rcsd.models.hub import fetch_model, model_digest
from rcsd.recipes.arms import Outcome
from rcsd.recipes.pipeline_config import Pipeline
from rcsd.recipes.pipeline_report import run_and_report
from rcsd.types import Progress

MODELS = ("micro", "smollm2")
"""Names of models; a folder is trained with the configuration of the last."""

WRITER_SEED = 1000
"""Added to the seed for the problems of stage 1, which are others than those it writes for."""

RECORD = "quickstart.json"
"""File of the settings that a quickstart was started with."""


def run(out: Path | None, seed: int, model: str, quick: bool, progress: Progress) -> Outcome:
    """Run the pipeline and write its report into ``out``, or go on with a quickstart there.

    Without a folder it goes on with the first of its settings that is not finished, or takes a new
    name. Raises UserError if the folder holds anything else, or there is no such model.
    """
    if model not in MODELS and not Path(model).is_dir():
        raise ConfigError(f"--model: no model or folder {model!r}; there are {', '.join(MODELS)}")
    settings = {"seed": seed, "quick": quick}
    settings["model"] = model if model in MODELS else model_digest(model)
    if out is None:
        name = f"quickstart-{Path(model).name}"
        names = (name if number == 1 else f"{name}-{number}" for number in count(1))
        paths = map(Path("runs").joinpath, names)
        out = next(path for path in paths if not path.exists() or _is_unfinished(path, settings))
    if model in MODELS:
        fetch_model(model)
    with one_owner(out):
        goes_on = _claim(out, settings)
    if goes_on:
        progress("quickstart", 1, 1, f"goes on in {out}")
    pipeline = build_pipeline(out, seed, model, quick)
    title = "Rubric-conditioned self-distillation on the rubric world"
    further = {"config": pipeline.model_dump(mode="json")}
    return run_and_report(pipeline, title, model, further, progress)


def _claim(out: Path, settings: Mapping[str, object]) -> bool:
    """Make the folder with the settings in it; True if it is there, with the same."""
    record = out / RECORD
    if not record.is_file():
        check_new(out, "it holds no quickstart to go on with; choose another name")
        with new_folder(out) as unfinished:
            write_json(unfinished / RECORD, settings)
        return False
    if (before := read_json(record)) != settings:
        others = ", ".join(f"{name}: {value}" for name, value in before.items())
        raise RunError(
            f"{out} holds a quickstart with other settings ({others}); take another --out"
        )
    return True


def _is_unfinished(out: Path, settings: Mapping[str, object]) -> bool:
    record = out / RECORD
    is_same = record.is_file() and read_json(record) == settings
    return is_same and not (out / "summary.json").exists()


def build_pipeline(out: Path, seed: int, model: str, quick: bool) -> Pipeline:
    """Pipeline of the quickstart; a quick one is too small to show more than that it runs."""
    name = model if model in MODELS else MODELS[-1]
    path = Path(__file__).with_name(f"quickstart_{name}.yaml")
    tree = read_tree(path, [])
    tree |= {"out": str(out), "seed": seed}
    if model not in MODELS:
        tree["model"]["path"] = model
    stages = {name: tree[name] for name in ("warm_start", "writer", "reasoner") if name in tree}
    for name, stage in stages.items():
        stage["data"]["seed"] = seed + WRITER_SEED if name == "writer" else seed
        if quick:
            stage["data"]["num_examples"], stage["optim"]["warmup_steps"] = 64, 2
            stage |= {"steps": 4, "save_every_steps": 4, "examples_per_step": 8}
    for data in tree["evaluation"]["data"].values():
        data["seed"] = seed + 1
        if quick:
            data["num_examples"] = 24
    return parse(Pipeline, tree, str(path))
