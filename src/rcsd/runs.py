"""A run is a folder: its record, metrics, completions, checkpoints and model."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rcsd.errors import DataError, RunError
from rcsd.io import (
    append_rows,
    check_new,
    new_folder,
    read_json,
    read_rows,
    write_json,
    write_rows,
)
from rcsd.types import Rollout


class RunFolder:
    """Reads and writes the files of one run."""

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

    def check_new(self) -> None:
        """Refuse a folder that exists; RunError if it does."""
        check_new(self.path, "go on with --resume, or choose another name with out=FOLDER")

    def create(self, record: Mapping[str, Any]) -> None:
        """Make the folder with the run's record in it: no kill leaves one without the other.

        Raises RunError if the folder exists.
        """
        with new_folder(self.path) as unfinished:
            write_json(unfinished / self.record.name, record)

    def check_resumable(self) -> None:
        """Refuse to resume what is not a run; RunError if the folder holds no run."""
        if not self.record.is_file():
            raise RunError(f"{self.path} holds no run to resume; start it without --resume")

    def read_record(self) -> dict[str, Any]:
        """The run's record; DataError if it is broken."""
        record = read_json(self.record)
        if not isinstance(record.get("config"), dict):
            raise DataError("the record holds no configuration; bring back a copy", self.record)
        return record

    def log(self, step: int, metrics: Mapping[str, float], rollouts: Sequence[Rollout]) -> None:
        """Append to ``metrics.jsonl`` and ``completions.jsonl``."""
        append_rows(self.path / "metrics.jsonl", [{"step": step, **metrics}])
        rows = []
        for rollout in rollouts:
            completion = rollout.completion
            row = {
                "step": step,
                "id": rollout.example.id,
                "question": rollout.example.prompt_text,
                "text": completion.text,
                "num_tokens": len(completion.token_ids),
                "finished": completion.finished,
            }
            if rollout.reward is not None:  # null where unscored
                row["reward"] = None if math.isnan(rollout.reward) else rollout.reward
            rows.append(row)
        append_rows(self.path / "completions.jsonl", rows)

    def add_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add to the metrics that `log` wrote of a step."""
        rows = [{**row, **metrics} if row["step"] == step else row for row in self.metrics()]
        write_rows(self.path / "metrics.jsonl", rows)

    def evaluation(self, num_steps: int, held_out: str) -> Path:
        """File of what was sampled for a held-out set after a number of steps."""
        return self.path / "evaluations" / f"step-{num_steps:06d}-{held_out}.jsonl"

    def completions(self) -> list[dict[str, Any]]:
        """All rows of ``completions.jsonl``."""
        return read_rows(self.path / "completions.jsonl")

    def metrics(self) -> list[dict[str, float]]:
        """All rows of ``metrics.jsonl``."""
        return read_rows(self.path / "metrics.jsonl")

    def checkpoints(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return sorted((self.path / "checkpoints").glob("step-*"))

    @property
    def has_ended(self) -> bool:
        """True if ``model/`` is what the run made, and no step was taken since."""
        steps = [path.name.removeprefix("step-") for path in self.checkpoints()]
        last = max((int(step) for step in steps if step.isdecimal()), default=0)
        return self.model.is_dir() and self.read_record().get("model_step", last) >= last

    def end(self, step: int) -> None:
        """Record the step after which ``model/`` was written."""
        write_json(self.record, {**self.read_record(), "model_step": step})

    def go_back(self, step: int) -> None:
        """Remove rows of metrics and completions of later steps: they will be written again."""
        for name in ("metrics.jsonl", "completions.jsonl"):
            rows = [row for row in read_rows(self.path / name) if row["step"] <= step]
            write_rows(self.path / name, rows)
