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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rcsd import config
from rcsd.config.base import parse
from rcsd.data.rows import read_jsonl, write_jsonl
from rcsd.errors import DataError, RunError
from rcsd.evaluation.bounds import accuracies, arm_bounds, baseline_accuracies, graded_values
from rcsd.evaluation.compare import metric_names
from rcsd.evaluation.statistics import bootstrap_interval
from rcsd.graders.base import build_judge, verdict_settings
from rcsd.graders.grade import Graded, judge_rows
from rcsd.io import (
    check_new,
    digest,
    make_folder,
    one_owner,
    read_json,
    read_rows,
    refuse_link,
    write_json,
    write_rows,
)
from rcsd.types import DEFAULT_UNITS, Example, UnitRule

RECORD = "eval.json"
COMPLETIONS = "completions.jsonl"
SUMMARY = "summary.json"
DEFAULT_NAME = "eval"
"""Name of the folder of a run's evaluation, inside the run's folder."""
_EXAMPLES, _REQUEST = "examples", "request.json"
# Settings that answers do not depend on, or that are compared in another way.
_NO_SETTINGS = {"model", "data", "out", "templates", "max_prompt_tokens", "batch_size", "seed"}


@dataclass(frozen=True)
class SetAnswers:
    """Graded answers of a model to one set, by whose rubrics they are graded.

    One greedy answer for each example, or none; and as many samples of each, one example after the
    other, or none.
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
    """The model that gave the answers: path, SHA-256 of the weights, seed of the run, if any.

    ``step`` is the checkpoint's, of a run that had not ended.
    """

    path: str
    digest: str
    training_seed: int | None
    step: int | None = None


@dataclass(frozen=True)
class EvalRecord:
    """An evaluation's folder; `about` is the rest of ``eval.json``: versions, fingerprints."""

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
        return flat(tree) | {"templates": templates[:12], "checkpoint": self.model.step}


def flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Values of nested mappings by dotted key."""
    values: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            values |= {f"{name}.{key}": inner for key, inner in flat(value).items()}
        else:
            values[name] = value
    return values


def begun_request(path: Path) -> dict[str, Any]:
    """Request of an evaluation that was cut off; empty where none was."""
    file = path.with_name(f".{path.name}.unfinished") / _REQUEST
    return read_json(file) if file.is_file() else {}


@contextmanager
def unfinished_folder(path: Path, request: Mapping[str, Any]) -> Iterator[Path]:
    """The folder of an evaluation until it is complete, locked; kept when interrupted.

    ``request`` is all that its completions depend on, as plain values by name.

    Raises:
        RunError: If another process writes there, or it was started with another request.
    """
    folder = path.with_name(f".{path.name}.unfinished")
    refuse_link(folder)
    with one_owner(path):
        make_folder(folder / _REQUEST)
        if not (folder / _REQUEST).is_file():
            write_json(folder / _REQUEST, dict(request))
        before = begun_request(path)
        names = [n for n in {**before, **request} if before.get(n) != request.get(n)]
        if names:
            raise RunError(
                f"{folder} holds an evaluation that was cut off, and differs in "
                f"{', '.join(names)}; delete that folder, or take another out"
            )
        yield folder


def write_record(record: EvalRecord, summary: Mapping[str, Any], folder: Path) -> None:
    """Write a new evaluation into its `unfinished_folder`, which is then renamed."""
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
        kinds = [
            [row for is_greedy, row in by_set.get(name, []) if is_greedy == of]
            for of in (True, False)
        ]
        sets[name] = SetAnswers(read_jsonl(path / _EXAMPLES / f"{name}.jsonl"), *kinds)
        for rows, number in zip(kinds, settings.num_answers, strict=True):
            ids = [example.id for example in sets[name].examples for _ in range(number)]
            if [row.id for row in rows] != ids:
                raise DataError(
                    f"set '{name}' needs {len(ids)} completions in the order of its examples, and "
                    f"has {len(rows)}; make the evaluation anew",
                    path / COMPLETIONS,
                )
    return EvalRecord(path, model, sets, settings, about)


def rejudge(path: Path, section: config.Judge, out: Path) -> dict[str, Any]:
    """Write an evaluation with the same answers and another judge's verdicts; its summary."""
    check_new(out)
    before, judge = read_record(path), build_judge(section)
    sets = {
        name: replace(
            of,
            greedy=judge_rows(of.greedy, of.examples if of.greedy else (), judge),
            sampled=judge_rows(
                of.sampled, [e for e in of.examples for _ in range(of.num_samples)], judge
            ),
        )
        for name, of in before.sets.items()
    }
    settings = before.config.model_copy(update={"judge": section, "out": out})
    about = {**before.about, "judging": judge.metrics() | judge.record(), "judged_again": str(path)}
    summary = summarize(sets, settings.seed, settings.units)
    with unfinished_folder(out, {"judged_again": str(path)}) as folder:
        write_record(EvalRecord(out, before.model, sets, settings, about), summary, folder)
    return summary


def summarize(
    sets: Mapping[str, SetAnswers], seed: int, units: UnitRule = DEFAULT_UNITS
) -> dict[str, Any]:
    """Estimates and counts of each set.

    A metric has ``by_question``: its interval resampled by question, or null where nothing could
    be graded; ``num_left_out``: questions with a completion that could not be graded, which it
    leaves out; and then ``bounds``: lower and upper bound of the mean over all questions and all
    values of the missing verdicts. An accuracy has the same ``by_rule``: by the other rules of
    `rcsd.evaluation.bounds.accuracies`; ``units`` is the rule of all else, which the rows follow.
    ``greedy`` and ``sampled`` count completions: ``num_unscored``
    lack a verdict on a criterion, ``unscored_reasons`` count such criteria, ``num_ungraded`` could
    not be compared with their reference. ``baseline_accuracies`` are what guessing gives.
    """
    summary = {}
    for name, of in sets.items():
        metrics = metric_names(of.examples, bool(of.greedy), of.num_samples)
        kinds = {"greedy": of.greedy, "sampled": of.sampled}
        summary[name] = {
            "num_questions": len(of.examples),
            "num_samples": of.num_samples,
            "metrics": {metric: _estimate(of, metric, seed) for metric in metrics},
            "baseline_accuracies": baseline_accuracies(of.examples),
            **{kind: _counts(rows, of.examples) for kind, rows in kinds.items() if rows},
        }
    return {"units": units, "sets": summary}


def _estimate(answers: SetAnswers, metric: str, seed: int) -> dict[str, Any]:
    rows = answers.sampled if "@" in metric else answers.greedy
    estimate: dict[str, Any] = _mean(rows, metric, seed)
    for bounds in arm_bounds({"": [rows]}, metric, answers.examples):
        estimate["bounds"] = [bounds.low, bounds.high]
    if by_rule := accuracies({"": [rows]}, metric, answers.examples):
        estimate["by_rule"] = {rule: _mean(of[""][0], metric, seed) for rule, of in by_rule.items()}
    return estimate


def _mean(rows: Sequence[Graded], metric: str, seed: int) -> dict[str, Any]:
    graded = graded_values(rows, metric)
    interval = bootstrap_interval([*graded.values()], [*graded], seed) if graded else None
    return {
        "by_question": interval and asdict(interval),
        "num_left_out": len({row.id for row in rows}) - len(graded),
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
