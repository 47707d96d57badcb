"""An evaluation is a folder: what a model answered, what that was, and its summary. No torch here.

``completions.jsonl`` has one row for each completion, ``examples/SET.jsonl`` the questions with the
rubrics that they were graded by, ``eval.json`` the record, ``summary.json`` the estimates.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rcsd import config
from rcsd.config.base import parse
from rcsd.data.rows import read_jsonl, write_jsonl
from rcsd.errors import DataError, RunError
from rcsd.evaluation.compare import question_values
from rcsd.evaluation.compare.placebos import placebo_accuracies
from rcsd.evaluation.compare.sets import metric_names
from rcsd.evaluation.compare.unscored import arm_bounds
from rcsd.evaluation.statistics import bootstrap_interval
from rcsd.graders.grade import Graded, graded_from_row, row_from_graded
from rcsd.io import read_json, read_rows, write_json, write_rows
from rcsd.types import Example

RECORD = "eval.json"
COMPLETIONS = "completions.jsonl"
SUMMARY = "summary.json"
DEFAULT_NAME = "eval"
"""Name of the folder that an evaluation of a run is given in the run's folder."""
_EXAMPLES = "examples"
_TEMPLATE = "template"
# What the answers do not depend on, or what is checked or shown in another way.
_NO_SETTINGS = {"model", "data", "out", "templates", "max_prompt_tokens", "batch_size", "seed"}


@dataclass(frozen=True)
class Answers:
    """What a model answered of one set.

    Args:
        examples: The set, with the rubrics that the answers were graded by.
        greedy: One for each example, or none.
        sampled: As many for each example, one example after the other; or none.
    """

    examples: Sequence[Example]
    greedy: Sequence[Graded]
    sampled: Sequence[Graded]

    @property
    def num_samples(self) -> int:
        """Samples of each example."""
        return len(self.sampled) // len(self.examples)


@dataclass(frozen=True)
class EvaluatedModel:
    """Whose answers an evaluation holds.

    Args:
        path: As the configuration names it.
        digest: SHA-256 of its weights.
        training_seed: Of the run that trained it, or None: it is no run.
    """

    path: str
    digest: str
    training_seed: int | None


@dataclass(frozen=True)
class Evaluation:
    """A folder, read or to be written.

    Args:
        path: The folder.
        model: Who answered.
        sets: What was answered, by set.
        config: How.
        record: The rest of ``eval.json``: versions and fingerprints.
    """

    path: Path
    model: EvaluatedModel
    sets: Mapping[str, Answers]
    config: config.Evaluating
    record: Mapping[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """How was asked: all that answers depend on but the model, the data and the seed."""
        chosen = self.config.model_dump(mode="json", exclude=_NO_SETTINGS)
        asks = {name: "loglikelihood" for name in self.config.data if self.config.compares(name)}
        chosen["judge"] = config.verdict_settings(chosen["judge"])
        return chosen | {"templates": self.record["template_sha256"], "ask": asks}


def unfinished(path: Path) -> Path:
    """The folder in which an evaluation is kept until it is whole."""
    return path.with_name(f".{path.name}.unfinished")


def check_new(path: Path) -> None:
    """Refuse a folder that exists.

    Raises:
        RunError: If it does.
    """
    if path.exists():
        raise RunError(f"{path} exists; choose another folder")


def write_evaluation(evaluation: Evaluation, summary: Mapping[str, Any]) -> None:
    """Write a new folder that is whole or not there, in what is `unfinished` until then.

    Raises:
        RunError: If it exists.
        DataError: If it cannot be written.
    """
    path = evaluation.path
    check_new(path)
    folder = unfinished(path)
    rows: list[dict[str, Any]] = []
    for name, answers in evaluation.sets.items():
        write_jsonl(answers.examples, folder / _EXAMPLES / f"{name}.jsonl")
        sampled = enumerate(answers.sampled)
        rows += [_row(name, row, 0, greedy=True) for row in answers.greedy]
        rows += [_row(name, row, n % answers.num_samples, greedy=False) for n, row in sampled]
    write_rows(folder / COMPLETIONS, rows)
    write_json(folder / SUMMARY, summary)
    parts = {"config": evaluation.config.model_dump(mode="json"), "model": asdict(evaluation.model)}
    write_json(folder / RECORD, {**parts, **evaluation.record})
    for child in folder.iterdir():
        if child.name not in (COMPLETIONS, SUMMARY, RECORD, _EXAMPLES):
            child.unlink()  # the journal, of which all is in the completions
    folder.rename(path)


def _row(name: str, row: Graded, sample: int, greedy: bool) -> dict[str, Any]:
    return {"set": name, "sample": sample, "greedy": greedy, **row_from_graded(row)}


def read_evaluation(path: Path) -> Evaluation:
    """What `write_evaluation` wrote.

    Raises:
        DataError: If there is no such folder, or it is not whole.
        ConfigError: If its configuration cannot be read.
    """
    if not (path / RECORD).is_file():
        raise DataError(f"holds no evaluation (no {RECORD}); make one with 'rcsd eval'", path)
    by_set: dict[str, list[tuple[dict[str, Any], Graded]]] = {}
    try:
        record = read_json(path / RECORD)
        for row in read_rows(path / COMPLETIONS):
            by_set.setdefault(row["set"], []).append((row, graded_from_row(row)))
        settings = parse(config.Evaluating, record.pop("config"), str(path / RECORD))
        model, names = EvaluatedModel(**record.pop("model")), list(record["data_sha256"])
        if set(names) != set(settings.data):  # files are named after them
            raise ValueError(f"its sets are {names}, those of its configuration others")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"the evaluation is broken ({error}); make it anew", path) from error
    sets = {}
    for name in names:
        rows = by_set.get(name, [])
        sets[name] = Answers(
            read_jsonl(path / _EXAMPLES / f"{name}.jsonl"),
            [row for labels, row in rows if labels["greedy"]],
            [row for labels, row in rows if not labels["greedy"]],
        )
        _check_whole(path, name, settings, sets[name])
    return Evaluation(path, model, sets, settings, record)


def _check_whole(path: Path, name: str, settings: config.Evaluating, answers: Answers) -> None:
    """Every example has its completions, in order, with a verdict on each criterion."""
    num_greedy, num_samples = settings.num_answers(name)
    for rows, number in ((answers.greedy, num_greedy), (answers.sampled, num_samples)):
        asked = [example for example in answers.examples for _ in range(number)]
        if [row.id for row in rows] != [example.id for example in asked]:
            raise DataError(
                f"set '{name}' needs {len(asked)} completions in the order of its examples, and "
                f"has {len(rows)}; make the evaluation anew",
                path / COMPLETIONS,
            )
        for example, row in zip(asked, rows, strict=True):
            num_criteria = 0 if example.rubric is None else len(example.rubric.criteria)
            # A judge who scores the whole gives no verdicts.
            if len(row.verdicts) != num_criteria and (row.verdicts or row.bounds is None):
                raise DataError(
                    f"set '{name}', example {row.id!r}: {len(row.verdicts)} verdicts on "
                    f"{num_criteria} criteria",
                    path / COMPLETIONS,
                )


def summary_of(sets: Mapping[str, Answers], seed: int) -> dict[str, Any]:
    """Estimates and counts of each set.

    A metric has ``by_question``: its interval resampled by question, or null where nothing could
    be graded; ``by_template``: resampled by template, where every example has that tag; and
    ``num_left_out``: questions with a completion that could not be graded, which the estimate
    leaves out, and for scores ``bounds``: between what the mean over all questions lies, whatever
    the missing verdicts are. ``greedy`` and ``sampled`` count completions: ``num_unscored`` lack a
    verdict on a criterion, ``unscored_reasons`` count such criteria, ``num_ungraded`` differ from a
    reference that code cannot tell right from wrong by. ``placebo_accuracies`` are what guessing
    gives where all questions have options.
    """
    return {"sets": {name: _summary_of(answers, seed) for name, answers in sets.items()}}


def _summary_of(answers: Answers, seed: int) -> dict[str, Any]:
    examples = answers.examples
    templates = {example.id: example.tags.get(_TEMPLATE) for example in examples}
    metrics = {}
    by_likelihood = bool(answers.greedy) and all(row.option_nats for row in answers.greedy)
    for name in metric_names(examples, bool(answers.greedy), answers.num_samples, by_likelihood):
        rows = answers.sampled if "@" in name else answers.greedy
        values = question_values(rows, name)
        found = {id: value for id, value in values.items() if not math.isnan(value)}
        units: dict[str, list[str | None]] = {"by_question": [*found]}
        if None not in templates.values():
            units["by_template"] = [templates[id] for id in found]
        metrics[name] = {
            unit: asdict(bootstrap_interval(list(found.values()), clusters, seed))
            if found
            else None
            for unit, clusters in units.items()
        } | {"num_left_out": len(values) - len(found)}
        bounds = arm_bounds({"own": [rows]}, name, examples)
        if bounds is not None:
            metrics[name] |= {"bounds": [bounds.means[0].low, bounds.means[0].high]}
    kinds = {"greedy": answers.greedy, "sampled": answers.sampled}
    counts = {kind: _counts(rows, examples) for kind, rows in kinds.items() if rows}
    return {
        "num_questions": len(examples),
        "num_samples": answers.num_samples,
        "metrics": metrics,
        "placebo_accuracies": placebo_accuracies(examples),
        **counts,
    }


def _kinds(rows: Sequence[Graded]) -> Counter[str]:
    """Why verdicts are missing, without what a judge said in their place."""
    return Counter(why.partition(":")[0] for row in rows for why in row.unscored if why)


def _counts(rows: Sequence[Graded], examples: Sequence[Example]) -> dict[str, Any]:
    referenced = {example.id for example in examples if example.reference_answer is not None}
    return {
        "num_completions": len(rows),
        "num_unscored": sum(row.score is not None and math.isnan(row.score) for row in rows),
        "unscored_reasons": dict(_kinds(rows)),
        "num_ungraded": sum(row.id in referenced and row.right is None for row in rows),
        "truncated_share": sum(not row.finished for row in rows) / len(rows),
        "length_tokens_mean": sum(row.num_tokens for row in rows) / len(rows),
    }
