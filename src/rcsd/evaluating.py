"""A model answers held-out sets, shown what a view shows; graded by each row's own rubric."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rcsd import config
from rcsd.config.section import override, parse
from rcsd.data.placebos import with_placebo
from rcsd.engines import Engine
from rcsd.engines.building import chosen_engine
from rcsd.errors import DataError, RunError
from rcsd.evaluate import graded
from rcsd.evaluations import (
    DEFAULT_NAME,
    Answers,
    EvaluatedModel,
    Evaluation,
    check_new,
    summary_of,
    write_evaluation,
)
from rcsd.files import make_folder
from rcsd.judges.code import CodeJudge
from rcsd.loading import load_examples
from rcsd.models import Policy, weights_fingerprint
from rcsd.prompting import prompt_room, whole_set
from rcsd.runs import RunFolder, fingerprint, load_trained, surroundings
from rcsd.types import Decoding, Example
from rcsd.views import Words
from rcsd.workers import Progress


def evaluating_of_run(path: Path, overrides: Sequence[str] = ()) -> config.Evaluating:
    """How a run's folder is evaluated: on the held-out set of its own section ``evaluation``.

    The student's view, words and limits are the run's, the seed of the samples too; a sole set is
    called ``held_out``, the folder ``eval`` in the run's.

    Args:
        path: The run's folder.
        overrides: Such as ``num_samples=8``; ``data={...}`` takes other sets.

    Raises:
        RunError: If the folder holds no run, one that writes rubrics, or one without held-out set.
        ConfigError: If an override is wrong.
    """
    folder = RunFolder(path)
    if not folder.record.is_file():
        raise RunError(
            f"{path} holds no run (no {folder.record.name}); give a run's folder, or a YAML file "
            "with model, data and out"
        )
    run = folder.read_config()
    record = run.model_dump(mode="json")
    if run.views.writes == "rubric":
        raise RunError(f"{path} writes rubrics: see 'rcsd rubrics write' and 'rcsd rubrics score'")
    own = run.evaluation
    tree: dict[str, Any] = {
        "model": record["model"] | {"path": str(path)},
        "data": {
            name: data.model_dump(mode="json")
            for name, data in ({} if own is None else own.by_name).items()
        },
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
    override(tree, overrides)
    if not tree["data"]:
        raise RunError(
            f"{path} has no section evaluation, so no held-out set of its own; name one, such as "
            "'data.mine={type: jsonl, path: FILE}'"
        )
    return parse(config.Evaluating, tree, str(path))


def evaluate(
    settings: config.Evaluating,
    progress: Progress,
    make_engine: Callable[[Policy, int], Engine] | None = None,
) -> dict[str, Any]:
    """Answer every set, grade, and write the folder (`rcsd.evaluations`).

    Args:
        settings: What is answered, by what, and how.
        progress: Told of every set.
        make_engine: What answers, of the policy and the batch size; None: the engine asked for.

    Returns:
        The summary.

    Raises:
        RunError: If the folder exists, or the model is a run's that has not finished.
        DataError: If a set is malformed, or an example does not fit or lacks what the view shows.
        ModelError: If the model cannot be loaded.
    """
    check_new(settings.out)
    make_folder(settings.out)
    sets = {name: load_examples(section)[0] for name, section in settings.data.items()}
    for name, examples in sets.items():
        _check_ids(name, examples)
    words = Words(settings.templates)
    placebo = settings.rubrics.placebo
    shown = {name: with_placebo(examples, placebo, words) for name, examples in sets.items()}
    policy, _ = load_trained(settings.model)
    # All prompts before the first answer: what does not fit is said at once.
    prompts = {name: _prompts(shown[name], name, settings, policy) for name in sets}
    longest = settings.max_prompt_tokens + settings.max_tokens
    if make_engine is None:
        engine = chosen_engine(settings.engine, policy, settings.batch_size, longest)
    else:
        engine = make_engine(policy, settings.batch_size)
    answers: dict[str, Answers] = {}
    for done, (name, examples) in enumerate(sets.items()):
        progress("evaluate", done, len(sets), name)
        answers[name] = _answers(examples, prompts[name], engine, settings)
    progress("evaluate", len(sets), len(sets), "")
    record = {
        **surroundings(),
        "template_sha256": words.hashes(),
        "data_sha256": {name: fingerprint(examples) for name, examples in sets.items()},
    }
    path = settings.model.path
    model = EvaluatedModel(path, weights_fingerprint(policy.model), _training_seed(path))
    summary = summary_of(answers, settings.seed)
    write_evaluation(Evaluation(settings.out, model, answers, settings, record), summary)
    return summary


def _check_ids(name: str, examples: Sequence[Example]) -> None:
    """Completions are known by the id of their example."""
    counts = Counter(example.id for example in examples)
    [(id, number)] = counts.most_common(1)
    if number > 1:
        raise DataError(
            f"{number} examples have the id {id!r}; ids must differ", field=f"data.{name}"
        )


def _prompts(
    examples: Sequence[Example], name: str, settings: config.Evaluating, policy: Policy
) -> list[tuple[int, ...]]:
    views = config.Views(student=settings.view, teacher=settings.view, templates=settings.templates)
    room = prompt_room(policy, settings.max_prompt_tokens, settings.max_tokens)
    prompts = whole_set(examples, views, policy, room, f"data.{name}")
    return [prompt.student_ids for prompt in prompts]


def _answers(
    examples: Sequence[Example],
    prompts: Sequence[tuple[int, ...]],
    engine: Engine,
    settings: config.Evaluating,
) -> Answers:
    judge, num_samples = CodeJudge(), settings.num_samples
    greedy = []
    if settings.greedy:
        greedy = graded(examples, prompts, engine, judge, Decoding(settings.max_tokens))
    decoding = Decoding(settings.max_tokens, settings.temperature, settings.top_p, settings.top_k)
    sampled = graded(
        [example for example in examples for _ in range(num_samples)],
        [prompt for prompt in prompts for _ in range(num_samples)],
        engine,
        judge,
        decoding,
        settings.seed,
    )
    return Answers(examples, greedy, sampled)


def _training_seed(model: str) -> int | None:
    """Of a run's folder; None: the model is no run."""
    folder = RunFolder(Path(model))
    if not folder.record.is_file():
        return None
    return folder.read_config().seed
