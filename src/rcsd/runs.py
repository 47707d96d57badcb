"""A run is a folder: its record, metrics, completions, checkpoints and model."""

import dataclasses
import hashlib
import importlib.metadata
import json
import math
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from rcsd.config import Config
from rcsd.errors import RunError
from rcsd.types import Example, Rollout
from rcsd.views import Words

# What a resumed run may change: nothing that the metrics depend on.
_MAY_CHANGE = {"save_every_steps", "keep_checkpoints", "trackers", "out"}
_LIBRARIES = ("rcsd", "torch", "transformers", "peft", "accelerate", "numpy")


class RunFolder:
    """Reads and writes the files of one run.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def model(self) -> Path:
        """Folder of the trained model."""
        return self.path / "model"

    @property
    def record(self) -> Path:
        """The file ``run.json``."""
        return self.path / "run.json"

    def create(self, config: Config, examples: Sequence[Example]) -> None:
        """Make the folder and write the run's record.

        Raises:
            RunError: If the folder exists.
        """
        if self.path.exists():
            raise RunError(
                f"{self.path} exists; go on with --resume, or choose another name with out=FOLDER"
            )
        self.path.mkdir(parents=True)
        record = {
            "config": config.model_dump(mode="json"),
            "versions": {name: importlib.metadata.version(name) for name in _LIBRARIES}
            | {"python": platform.python_version()},
            "git_revision": _git_revision(),
            "template_sha256": Words(config.views.templates).hashes(),
            "data_sha256": fingerprint(examples),
            "num_examples": len(examples),
        }
        write_json(self.record, record)

    def check_same(self, config: Config, examples: Sequence[Example]) -> None:
        """Refuse to resume a run with another configuration or other data.

        Raises:
            RunError: If there is no such run, or naming what differs.
        """
        if not self.record.is_file():
            raise RunError(f"{self.path} holds no run to resume; start it without --resume")
        record = self.read_record()
        now = config.model_dump(mode="json")
        keys = sorted(
            key for key in now
            if key not in _MAY_CHANGE and now[key] != record["config"].get(key)
        )
        if keys:
            raise RunError(f"{self.path} was started with another {', '.join(keys)}; cannot resume")
        if record["data_sha256"] != fingerprint(examples):
            raise RunError(f"the data has changed since {self.path} was started; cannot resume")

    def read_record(self) -> dict[str, Any]:
        """The run's record."""
        return json.loads(self.record.read_text(encoding="utf-8"))

    def add_to_record(self, **values: object) -> None:
        """Put further values into the run's record."""
        write_json(self.record, self.read_record() | values)

    def log(self, step: int, metrics: Mapping[str, float], rollouts: Sequence[Rollout]) -> None:
        """Append a row to ``metrics.jsonl``, and the step's completions to ``completions.jsonl``."""
        _append(self.path / "metrics.jsonl", [{"step": step, **metrics}])
        _append(
            self.path / "completions.jsonl",
            [
                {
                    "step": step,
                    "id": rollout.example.id,
                    "question": rollout.example.question,
                    "text": rollout.completion.text,
                    "num_tokens": len(rollout.completion.token_ids),
                    "finished": rollout.completion.finished,
                }
                for rollout in rollouts
            ],
        )

    def completions(self) -> list[dict[str, Any]]:
        """All rows of ``completions.jsonl``."""
        return _rows(self.path / "completions.jsonl")

    def metrics(self) -> list[dict[str, float]]:
        """All rows of ``metrics.jsonl``."""
        return _rows(self.path / "metrics.jsonl")

    def save_checkpoint(self, accelerator: Accelerator, step: int, keep: int) -> None:
        """Save everything that going on needs; it takes its name only once it is whole."""
        folder = self.path / "checkpoints"
        unfinished = folder / "unfinished"
        if accelerator.is_main_process:
            shutil.rmtree(unfinished, ignore_errors=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(unfinished))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            unfinished.rename(folder / f"step-{step:06d}")
            for old in self.checkpoints()[:-keep]:
                shutil.rmtree(old)

    def checkpoints(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return sorted((self.path / "checkpoints").glob("step-*"))

    def load_newest_checkpoint(self, accelerator: Accelerator) -> int:
        """Go back to the newest checkpoint; returns the number of steps that it has behind it.

        Rows of metrics and completions that were written after it are removed: they will be written
        again, the same.
        """
        found = self.checkpoints()
        step = int(found[-1].name.removeprefix("step-")) if found else 0
        if found:
            accelerator.load_state(str(found[-1]))
        if accelerator.is_main_process:
            for name in ("metrics.jsonl", "completions.jsonl"):
                kept = [row for row in _rows(self.path / name) if row["step"] <= step]
                write_rows(self.path / name, kept)
        return step


def fingerprint(examples: Sequence[Example]) -> str:
    """SHA-256 of the examples' content, in order."""
    digest = hashlib.sha256()
    for example in examples:
        row = dataclasses.asdict(example)
        digest.update(json.dumps(row, sort_keys=True, default=dict).encode())
    return digest.hexdigest()


def write_json(path: Path, value: object) -> None:
    """Write a JSON file that is whole or not there."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(value, indent=2, ensure_ascii=False), encoding="utf-8")
    unfinished.replace(path)


def is_finite(metrics: Mapping[str, float]) -> bool:
    """Whether no metric is NaN or infinite."""
    return all(math.isfinite(value) for value in metrics.values())


def _append(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a file that a kill may have cut off: its last line counts only if it is whole."""
    if not path.is_file():
        return []
    *whole, _ = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in whole]


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a file of JSON rows that is whole or not there."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text("", encoding="utf-8")
    _append(unfinished, rows)
    unfinished.replace(path)


def _git_revision() -> str | None:
    """Commit of the checkout that the package runs from, or None."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None
