"""A model answers held-out sets, shown what a view shows; graded by each row's own rubric."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rcsd import config
from rcsd.data.placebos import with_placebo
from rcsd.data.prompts import build_all_prompts, limit_prompt_tokens
from rcsd.data.views import PromptTemplates
from rcsd.engines.base import Engine
from rcsd.engines.build import chosen_engine
from rcsd.errors import DataError
from rcsd.evaluation.clozes import cloze_rows
from rcsd.evaluation.journal import kept_in
from rcsd.evaluation.record import (
    Answers,
    EvaluatedModel,
    Evaluation,
    check_new,
    summary_of,
    unfinished,
    write_evaluation,
)
from rcsd.evaluation.sampling import Sampler
from rcsd.evaluation.sets import AskedSet, asked_set
from rcsd.graders.base import Judge
from rcsd.graders.build import account_of
from rcsd.graders.grade import graded_completions, judged, prompt_sha256
from rcsd.graders.judge.local import any_judge
from rcsd.io import fingerprint, make_folder, surroundings
from rcsd.models.cpu_linear import linear_backend
from rcsd.models.policy import Policy
from rcsd.models.save import load_trained
from rcsd.runs import RunFolder
from rcsd.types import Completion, Example, Progress

_NOT_ASKED = {"data", "model", "out", "templates", "judge"}


def evaluate(
    settings: config.Evaluating,
    progress: Progress,
    make_engine: Callable[[Policy, int], Engine] | None = None,
) -> dict[str, Any]:
    """Answer every set, grade, and write the folder (`rcsd.evaluation.record`).

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
    sets = {name: asked_set(section) for name, section in settings.data.items()}
    for name, of in sets.items():
        _check_ids(name, of.examples)
    words = PromptTemplates(settings.templates)
    judge = any_judge(settings.judge)
    policy, _ = load_trained(settings.model)
    # All prompts before the first answer: what does not fit is said at once.
    prompts = {name: _prompts(of, name, settings, policy, words) for name, of in sets.items()}
    record = {
        **surroundings(),
        "linear": linear_backend(),
        "template_sha256": words.hashes(),
        "data_sha256": {name: fingerprint(of.examples) for name, of in sets.items()},
        "tasks": {name: of.record for name, of in sets.items() if of.record},
    }
    path = settings.model.path
    model = EvaluatedModel(path, policy.weights_sha256, _training_seed(path))
    asked = {
        **settings.model_dump(mode="json", exclude=_NOT_ASKED),
        **{name: record[name] for name in ("template_sha256", "data_sha256")},
        "weights_sha256": model.digest,
        "prompts_sha256": {name: _sha256_of(of) for name, of in prompts.items()},
    }
    with kept_in(unfinished(settings.out), asked) as journal:
        sampler, answers = None, {}
        for name, of in sets.items():
            if of.problems:
                rows = cloze_rows(of.problems, policy, settings.batch_size)
                answers[name] = Answers(of.examples, rows, [])
                continue
            if sampler is None:
                engine = _engine(settings, policy, make_engine)
                sampler = Sampler(engine, journal, settings, progress)
            completions = sampler.completions(name, prompts[name])
            answers[name] = _answers(of.examples, prompts[name], *completions, judge)
        record |= {"judging": account_of(judge)}
        summary = summary_of(answers, settings.seed)
        write_evaluation(Evaluation(settings.out, model, answers, settings, record), summary)
    return summary


def _engine(
    settings: config.Evaluating,
    policy: Policy,
    make_engine: Callable[[Policy, int], Engine] | None,
) -> Engine:
    if make_engine is not None:
        return make_engine(policy, settings.batch_size)
    longest = settings.max_prompt_tokens + settings.max_tokens
    return chosen_engine(settings.engine, policy, settings.batch_size, longest)


def _sha256_of(prompts: Sequence[Sequence[int]]) -> str:
    return hashlib.sha256("".join(map(prompt_sha256, prompts)).encode()).hexdigest()


def _check_ids(name: str, examples: Sequence[Example]) -> None:
    """Completions are known by the id of their example."""
    counts = Counter(example.id for example in examples)
    [(id, number)] = counts.most_common(1)
    if number > 1:
        raise DataError(
            f"{number} examples have the id {id!r}; ids must differ", field=f"data.{name}"
        )


def _prompts(
    asked: AskedSet, name: str, settings: config.Evaluating, policy: Policy, words: PromptTemplates
) -> list[tuple[int, ...]]:
    """What the model is shown; nothing where options are compared by their likelihoods."""
    if asked.problems:
        return []
    shown = with_placebo(asked.examples, settings.rubrics.placebo, words)
    views = config.Views(student=settings.view, teacher=settings.view, templates=settings.templates)
    room = limit_prompt_tokens(
        policy.max_positions, settings.max_prompt_tokens, settings.max_tokens
    )
    prompts = build_all_prompts(shown, views, policy.tokenizer, room, f"data.{name}")
    return [prompt.student_ids for prompt in prompts]


def _answers(
    examples: Sequence[Example],
    prompts: Sequence[tuple[int, ...]],
    greedy: Sequence[Completion],
    sampled: Sequence[Completion],
    judge: Judge,
) -> Answers:
    """Completions with all that is said of them; the judge is asked once."""
    num_samples = len(sampled) // len(examples)
    asked = [example for example in examples for _ in range(num_samples)]
    shown = [prompt for prompt in prompts for _ in range(num_samples)]
    rows = graded_completions(examples, prompts, greedy) if greedy else []
    num_greedy = len(rows)
    rows += graded_completions(asked, shown, sampled)
    rows = judged(rows, [*(examples if greedy else ()), *asked], judge)
    return Answers(examples, rows[:num_greedy], rows[num_greedy:])


def _training_seed(model: str) -> int | None:
    """Of a run's folder; None: the model is no run."""
    folder = RunFolder(Path(model))
    if not folder.record.is_file():
        return None
    return config.config_of_run(folder).seed
