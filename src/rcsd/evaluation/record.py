"""Record of an evaluation: a folder, read, written, summarized, and grouped into arms. No torch.

``completions.jsonl`` has one row for each completion, ``examples/SET.jsonl`` the questions with the
rubrics that they were graded by, ``eval.json`` the configuration and versions, ``summary.json`` the
estimates.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rcsd import config
from rcsd.config.base import parse
from rcsd.data.rows import read_jsonl, write_jsonl
from rcsd.errors import DataError, RunError
from rcsd.evaluation.bounds import arm_bounds, baseline_accuracies, question_values
from rcsd.evaluation.compare import metric_names
from rcsd.evaluation.statistics import bootstrap_interval
from rcsd.graders.base import verdict_settings
from rcsd.graders.grade import Graded
from rcsd.io import check_new, digest, make_folder, read_json, read_rows, write_json, write_rows
from rcsd.types import Example

RECORD = "eval.json"
COMPLETIONS = "completions.jsonl"
SUMMARY = "summary.json"
DEFAULT_NAME = "eval"
"""Name of the folder of a run's evaluation, inside the run's folder."""
_EXAMPLES = "examples"
_REQUEST, _LOCK = "request.json", ".lock"
_TEMPLATE = "template"
# Settings that answers do not depend on, or that are compared in another way.
_NO_SETTINGS = {"model", "data", "out", "templates", "max_prompt_tokens", "batch_size", "seed"}


@dataclass(frozen=True)
class SetAnswers:
    """Graded answers of a model to one set.

    Args:
        examples: The set, with the rubrics that the answers are graded by.
        greedy: One for each example, or none.
        sampled: As many for each example, one example after the other; or none.
    """

    examples: Sequence[Example]
    greedy: Sequence[Graded]
    sampled: Sequence[Graded]

    @property
    def num_samples(self) -> int:
        """Number of samples of each example."""
        return len(self.sampled) // len(self.examples)


@dataclass(frozen=True)
class EvaluatedModel:
    """The model that gave the answers.

    Args:
        path: Its path in the configuration.
        digest: SHA-256 of its weights.
        training_seed: Seed of the run that trained it, or None: it is no run.
    """

    path: str
    digest: str
    training_seed: int | None


@dataclass(frozen=True)
class EvalRecord:
    """An evaluation's folder, read or to be written.

    `about` is the rest of ``eval.json``: versions and fingerprints.
    """

    path: Path
    model: EvaluatedModel
    sets: Mapping[str, SetAnswers]
    config: config.EvalConfig
    about: Mapping[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """All that answers and grades depend on but model, data and seed, by dotted key."""
        tree = self.config.model_dump(mode="json", exclude=_NO_SETTINGS)
        tree["judge"] = verdict_settings(tree["judge"])
        templates = digest(json.dumps(self.about["template_sha256"], sort_keys=True))
        return dict(_flat(tree)) | {"templates": templates[:12]}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


@contextmanager
def unfinished_folder(path: Path, request: Mapping[str, Any]) -> Iterator[Path]:
    """The folder of an evaluation until it is complete, locked; kept when interrupted.

    Args:
        path: Folder of the evaluation.
        request: All that its completions depend on, as plain values by name.

    Raises:
        RunError: If another process writes there, or it was started with another request.
    """
    folder = path.with_name(f".{path.name}.unfinished")
    make_folder(folder / _REQUEST)
    try:
        with FileLock(folder / _LOCK, timeout=0):
            if not (folder / _REQUEST).is_file():
                write_json(folder / _REQUEST, dict(request))
            before = read_json(folder / _REQUEST)
            names = [n for n in {**before, **request} if before.get(n) != request.get(n)]
            if names:
                raise RunError(
                    f"{folder} holds an evaluation that was cut off, and differs in "
                    f"{', '.join(names)}; delete that folder, or take another out"
                )
            yield folder
    except Timeout:
        raise RunError(
            f"{folder}: another process writes this evaluation; wait for it, or take another out"
        ) from None


def write_record(record: EvalRecord, summary: Mapping[str, Any], folder: Path) -> None:
    """Write a new evaluation into its `unfinished_folder`, which is then renamed.

    Raises:
        RunError: If it exists.
        DataError: If it cannot be written.
    """
    check_new(record.path)
    rows: list[dict[str, Any]] = []
    for name, answers in record.sets.items():
        write_jsonl(answers.examples, folder / _EXAMPLES / f"{name}.jsonl")
        rows += [row.row(set=name, sample=0, greedy=True) for row in answers.greedy]
        rows += [
            row.row(set=name, sample=n % answers.num_samples, greedy=False)
            for n, row in enumerate(answers.sampled)
        ]
    write_rows(folder / COMPLETIONS, rows)
    write_json(folder / SUMMARY, summary)
    parts = {"config": record.config.model_dump(mode="json"), "model": asdict(record.model)}
    write_json(folder / RECORD, {**parts, **record.about})
    for child in folder.iterdir():
        if child.name not in (COMPLETIONS, SUMMARY, RECORD, _EXAMPLES):
            child.unlink()  # the journals, all of which is in the completions
    folder.rename(record.path)


def read_record(path: Path) -> EvalRecord:
    """Read what `write_record` wrote.

    Raises:
        DataError: If there is no such folder, or it is not complete.
        ConfigError: If its configuration cannot be read.
    """
    if not (path / RECORD).is_file():
        raise DataError(f"holds no evaluation (no {RECORD}); make one with 'rcsd eval'", path)
    by_set: dict[str, list[tuple[bool, Graded]]] = {}
    try:
        about = read_json(path / RECORD)
        for row in read_rows(path / COMPLETIONS):
            by_set.setdefault(row["set"], []).append((row["greedy"], Graded.from_row(row)))
        settings = parse(config.EvalConfig, about.pop("config"), str(path / RECORD))
        model, names = EvaluatedModel(**about.pop("model")), list(about["data_sha256"])
        if set(names) != set(settings.data):  # files are named after them
            raise ValueError(f"its sets are {names}, those of its configuration others")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"the evaluation is broken ({error}); make it anew", path) from error
    sets = {}
    for name in names:
        rows = by_set.get(name, [])
        greedy, sampled = (
            [row for is_greedy, row in rows if is_greedy == of] for of in (True, False)
        )
        sets[name] = SetAnswers(read_jsonl(path / _EXAMPLES / f"{name}.jsonl"), greedy, sampled)
        _check_complete(path, name, settings, sets[name])
    return EvalRecord(path, model, sets, settings, about)


def _check_complete(
    path: Path, name: str, settings: config.EvalConfig, answers: SetAnswers
) -> None:
    """Check that every example has its completions, in order."""
    for rows, number in zip((answers.greedy, answers.sampled), settings.num_answers, strict=True):
        ids = [example.id for example in answers.examples for _ in range(number)]
        if [row.id for row in rows] != ids:
            raise DataError(
                f"set '{name}' needs {len(ids)} completions in the order of its examples, and "
                f"has {len(rows)}; make the evaluation anew",
                path / COMPLETIONS,
            )


def summarize(sets: Mapping[str, SetAnswers], seed: int) -> dict[str, Any]:
    """Estimates and counts of each set.

    A metric has ``by_question``: its interval resampled by question, or null where nothing could
    be graded; ``by_template``: resampled by template, where every example has that tag;
    ``num_left_out``: questions with a completion that could not be graded, which the estimate
    leaves out; and then ``bounds``: lower and upper bound of the mean over all questions and all
    values of the missing verdicts. ``greedy`` and ``sampled`` count completions: ``num_unscored``
    lack a verdict on a criterion, ``unscored_reasons`` count such criteria, ``num_ungraded`` could
    not be compared with their reference. ``baseline_accuracies`` are what guessing gives where all
    questions have options.
    """
    return {"sets": {name: _summarize_set(answers, seed) for name, answers in sets.items()}}


def _summarize_set(answers: SetAnswers, seed: int) -> dict[str, Any]:
    examples = answers.examples
    templates = {example.id: example.tags.get(_TEMPLATE) for example in examples}
    metrics = {}
    for name in metric_names(examples, bool(answers.greedy), answers.num_samples):
        rows = answers.sampled if "@" in name else answers.greedy
        values = question_values(rows, name)
        graded = {id: value for id, value in values.items() if not math.isnan(value)}
        units: dict[str, list[str | None]] = {"by_question": [*graded]}
        if None not in templates.values():
            units["by_template"] = [templates[id] for id in graded]
        metrics[name] = {
            unit: asdict(bootstrap_interval([*graded.values()], clusters, seed)) if graded else None
            for unit, clusters in units.items()
        } | {"num_left_out": len(values) - len(graded)}
        bounds = arm_bounds({"": [rows]}, name, examples)
        if bounds is not None:
            metrics[name] |= {"bounds": [bounds.means[0].low, bounds.means[0].high]}
    kinds = {"greedy": answers.greedy, "sampled": answers.sampled}
    return {
        "num_questions": len(examples),
        "num_samples": answers.num_samples,
        "metrics": metrics,
        "baseline_accuracies": baseline_accuracies(examples),
        **{kind: _counts(rows, examples) for kind, rows in kinds.items() if rows},
    }


def _counts(rows: Sequence[Graded], examples: Sequence[Example]) -> dict[str, Any]:
    referenced = {example.id for example in examples if example.reference_answer is not None}
    # Reasons are counted without the judge's words behind the colon.
    reasons = Counter(why.partition(":")[0] for row in rows for why in row.unscored if why)
    return {
        "num_completions": len(rows),
        "num_unscored": sum(row.score is not None and math.isnan(row.score) for row in rows),
        "unscored_reasons": dict(reasons),
        "num_ungraded": sum(row.id in referenced and row.right is None for row in rows),
        "truncated_share": sum(not row.finished for row in rows) / len(rows),
        "length_tokens_mean": sum(row.num_tokens for row in rows) / len(rows),
    }
