"""The pipeline on the rubric world, at a scale of minutes, by ``quickstart_MODEL.yaml`` here."""

from itertools import count
from pathlib import Path

from rcsd.config.base import parse, read_tree
from rcsd.errors import ConfigError
from rcsd.io import check_new
from rcsd.models.hub import fetch_model
from rcsd.recipes.arms import Outcome
from rcsd.recipes.pipeline_config import Pipeline
from rcsd.recipes.pipeline_report import run_and_report
from rcsd.types import Progress

MODELS = ("micro", "smollm2")
"""Names of models; a folder is trained with the configuration of the last."""

WRITER_SEED = 1000
"""Added to the seed for the problems of stage 1, which are others than those it writes for."""


def run(out: Path | None, seed: int, model: str, quick: bool, progress: Progress) -> Outcome:
    """Run the pipeline and write its report into ``out``.

    Raises UserError if the folder exists, or there is no such model.
    """
    if model not in MODELS and not Path(model).is_dir():
        raise ConfigError(f"--model: no model or folder {model!r}; there are {', '.join(MODELS)}")
    if out is None:
        name = f"quickstart-{Path(model).name}"
        names = (name if number == 1 else f"{name}-{number}" for number in count(1))
        out = next(path for path in map(Path("runs").joinpath, names) if not path.exists())
    check_new(out)
    if model in MODELS:
        fetch_model(model)
    pipeline = build_pipeline(out, seed, model, quick)
    title = "Rubric-conditioned self-distillation on the rubric world"
    further = {"config": pipeline.model_dump(mode="json")}
    return run_and_report(pipeline, title, model, further, progress)


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
