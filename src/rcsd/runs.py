"""A run is a folder: its record, metrics, completions, checkpoints and model."""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rcsd.config import Config, FullFineTuning, Model, parse_config, verdict_settings
from rcsd.config.section import parse
from rcsd.errors import DataError, RunError
from rcsd.files import append_rows, read_json, read_rows, write_json, write_rows
from rcsd.linear import prefers_onednn
from rcsd.models import Policy, load_policy
from rcsd.saving import load_merged
from rcsd.types import Example, Rollout
from rcsd.views import Words
from rcsd.zoo import hub_name

# What a resumed run may change, beside how a judge is reached and paid: nothing that the metrics
# depend on.
_MAY_CHANGE = {
    "save_every_steps",
    "keep_checkpoints",
    "trackers",
    "out",
    "evaluation",
    "processes",
}
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

    def check_new(self) -> None:
        """Refuse a folder that exists.

        Raises:
            RunError: If it does.
        """
        if self.path.exists():
            raise RunError(
                f"{self.path} exists; go on with --resume, or choose another name with out=FOLDER"
            )

    def create(
        self, config: Config, examples: Sequence[Example], found: Mapping[str, object]
    ) -> None:
        """Make the folder and write the run's record.

        Args:
            config: The run.
            examples: What is trained on.
            found: Further facts, such as what was left out.

        Raises:
            RunError: If the folder exists.
        """
        self.check_new()
        record = {
            "config": config.model_dump(mode="json"),
            **surroundings(),
            "template_sha256": Words(config.views.templates).hashes(),
            "data_sha256": fingerprint(examples),
            "num_examples": len(examples),
            **found,
        }
        # The folder takes its name with the record in it: no kill leaves one without the other.
        unfinished = self.path.with_name(f".{self.path.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        write_json(unfinished / self.record.name, record)
        unfinished.rename(self.path)

    def check_same(
        self, config: Config, examples: Sequence[Example], found: Mapping[str, object]
    ) -> None:
        """Refuse to resume a run with another configuration, data, words or weights.

        Args:
            config: The run.
            examples: What is trained on.
            found: As in `create`; what both records have must be the same.

        Raises:
            RunError: If there is no such run, or naming what differs.
        """
        self.check_resumable()
        record = self.read_record()
        now = config.model_dump(mode="json")
        keys = sorted(
            key
            for key in now
            if key not in _MAY_CHANGE
            and verdict_settings(now[key]) != verdict_settings(record["config"].get(key))
        )
        if keys:
            raise RunError(f"{self.path} was started with another {', '.join(keys)}; cannot resume")
        same = {
            "template_sha256": Words(config.views.templates).hashes(),
            "data_sha256": fingerprint(examples),
            **found,
        }
        # As JSON has them: tuples come back as lists.
        same = json.loads(json.dumps(same))
        changed = sorted(key for key in same if same[key] != record.get(key))
        if changed:
            what = ", ".join(changed)
            raise RunError(f"{what} changed since {self.path} was started; cannot resume")

    def check_resumable(self) -> None:
        """Refuse to resume what is not a run.

        Raises:
            RunError: If the folder holds no run.
        """
        if not self.record.is_file():
            raise RunError(f"{self.path} holds no run to resume; start it without --resume")

    def read_record(self) -> dict[str, Any]:
        """The run's record.

        Raises:
            DataError: If it is broken.
        """
        record = read_json(self.record)
        if not isinstance(record.get("config"), dict):
            raise DataError("the record holds no configuration; bring back a copy", self.record)
        return record

    def read_config(self) -> Config:
        """The run's configuration, as its record has it.

        Raises:
            UserError: If the record is broken.
        """
        return parse_config(self.read_record()["config"], str(self.record))

    def read_model(self) -> Model:
        """The section ``model`` of the run's configuration.

        Raises:
            UserError: As `read_config`.
        """
        return parse(Model, self.read_record()["config"].get("model"), f"{self.record}: model")

    def tokens_per_part(self) -> int | None:
        """What the run's start found to fit; None: the run has not started."""
        return self.read_record()["tokens_per_part"] if self.record.is_file() else None

    def log(self, step: int, metrics: Mapping[str, float], rollouts: Sequence[Rollout]) -> None:
        """Append to ``metrics.jsonl`` and ``completions.jsonl``."""
        append_rows(self.path / "metrics.jsonl", [{"step": step, **metrics}])
        append_rows(
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
                | _reward(rollout)
                for rollout in rollouts
            ],
        )

    def evaluation(self, num_steps: int, held_out: str) -> Path:
        """File of what was sampled for a held-out set after a number of steps."""
        return self.path / "evaluations" / f"step-{num_steps:06d}-{held_out}.jsonl"

    @contextlib.contextmanager
    def new_model(self) -> Iterator[Path]:
        """A folder that becomes ``model/`` once what is written in it is whole."""
        unfinished = self.path / "model.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        yield unfinished
        shutil.rmtree(self.model, ignore_errors=True)
        unfinished.rename(self.model)

    def completions(self) -> list[dict[str, Any]]:
        """All rows of ``completions.jsonl``."""
        return read_rows(self.path / "completions.jsonl")

    def metrics(self) -> list[dict[str, float]]:
        """All rows of ``metrics.jsonl``."""
        return read_rows(self.path / "metrics.jsonl")

    def checkpoints(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return sorted((self.path / "checkpoints").glob("step-*"))

    def go_back(self, step: int) -> None:
        """Remove rows of metrics and completions of later steps: they will be written again."""
        for name in ("metrics.jsonl", "completions.jsonl"):
            kept = [row for row in read_rows(self.path / name) if row["step"] <= step]
            write_rows(self.path / name, kept)


def load_trained(section: Model) -> tuple[Policy, str]:
    """Policy without adapters, and its name: of a run's folder, or of any model that can be loaded.

    Args:
        section: Its ``path`` is a run's folder, whose record then says the rest, or as usual.

    Raises:
        RunError: If the run has not finished.
        ModelError: If the model cannot be loaded.
    """
    path, folder = section.path, RunFolder(Path(section.path))
    if not folder.record.is_file():
        plain = section.model_copy(update={"training": FullFineTuning()})
        return load_policy(plain), hub_name(path)
    if not folder.model.is_dir():
        raise RunError(f"{path} has no model yet; finish the run with --resume")
    section = folder.read_model()
    if section.training.type == "lora":
        return load_merged(section, folder.model), path
    trained = section.model_copy(update={"path": str(folder.model), "revision": None})
    return load_policy(trained), path


def _reward(rollout: Rollout) -> dict[str, float | None]:
    """What a completion earned, where it was reinforced; None is unscored."""
    earned = [signal.reward for signal in rollout.signals if signal.advantages]
    # Suppression has advantages too, and no reward.
    known = [reward for reward in earned if reward is not None]
    return {"reward": known[0] if known else None} if earned else {}


def surroundings() -> dict[str, Any]:
    """What a record says of the code: versions of libraries, and the package's git revision."""
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {
        "versions": versions | {"python": platform.python_version()},
        "linear": "onednn" if prefers_onednn() else "torch",
        "git_revision": _git_revision(),
    }


def fingerprint(examples: Sequence[Example]) -> str:
    """SHA-256 of the examples' content, in order."""
    digest = hashlib.sha256()
    for example in examples:
        row = dataclasses.asdict(example)
        digest.update(json.dumps(row, sort_keys=True, default=dict).encode())
    return digest.hexdigest()


def _git_revision() -> str | None:
    """Commit of the checkout that the package runs from, or None where it is installed."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None
