"""Run an evaluation: sample a model's answers to held-out sets, grade them, write the record."""

import datetime
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rcsd import config
from rcsd.data.load import load_examples, require_fields
from rcsd.data.placebos import with_placebo
from rcsd.data.prompts import (
    PromptPair,
    build_all_prompts,
    limit_prompt_tokens,
    prompts_fingerprint,
)
from rcsd.data.views import PromptTemplates, view_fields
from rcsd.engines.build import chosen_engine
from rcsd.errors import DataError
from rcsd.evaluation.record import (
    EvalRecord,
    EvaluatedModel,
    SetAnswers,
    begun_request,
    summarize,
    unfinished_folder,
    write_record,
)
from rcsd.graders.base import build_judge
from rcsd.graders.grade import Graded, Journal, sample_and_grade
from rcsd.io import check_new, fingerprint, make_folder, surroundings
from rcsd.models.cpu_linear import linear_backend
from rcsd.models.policy import Policy
from rcsd.models.save import load_trained
from rcsd.runs import RunFolder
from rcsd.types import Decoding, Example, Progress

_BATCHES_PER_CALL = 8
"""Batches after which completions are written to the journal."""
_NOT_IN_REQUEST = {"data", "model", "out", "templates", "judge", "units"}


def run_eval(settings: config.EvalConfig, progress: Progress) -> dict[str, Any]:
    """Answer every set, grade, and write the folder (`rcsd.evaluation.record`).

    An evaluation that was interrupted resumes from its journals; answers are judged once all of a
    set are there.

    Returns:
        The summary.

    Raises:
        RunError: If the folder exists, or the model is a run's without a checkpoint.
        DataError: If a set is malformed, or an example does not fit or lacks what the view shows.
        ModelError: If the model cannot be loaded.
    """
    check_new(settings.out)
    make_folder(settings.out)
    loaded = {name: load_examples(section) for name, section in settings.data.items()}
    sets = {name: examples for name, (examples, _) in loaded.items()}
    for name, examples in sets.items():
        require_fields(settings.data[name], examples, view_fields(settings.view))
        [(id, number)] = Counter(example.id for example in examples).most_common(1)
        if number > 1:
            raise DataError(
                f"{number} examples have the id {id!r}; ids must differ", field=f"data.{name}"
            )
    templates = PromptTemplates(settings.templates)
    judge = build_judge(settings.judge)
    begun = begun_request(settings.out).get("date")
    day = None if begun is None else datetime.date.fromisoformat(begun)
    policy, _, step = load_trained(settings.model.dated(day))
    section = settings.model.model_copy(update={"date": policy.date})
    settings = settings.model_copy(update={"model": section})
    # All prompts before the first answer: an example that does not fit is reported at once.
    prompts = {
        name: _build_prompts(name, examples, settings, policy, templates)
        for name, examples in sets.items()
    }
    is_task = {name: isinstance(of, config.TaskData) for name, of in settings.data.items()}
    about = {
        **surroundings(),
        "linear": linear_backend(),
        "template_sha256": templates.hashes(),
        "data_sha256": {name: fingerprint(examples) for name, examples in sets.items()},
        "tasks": {name: record for name, (_, record) in loaded.items() if is_task[name]},
    }
    run = RunFolder(Path(settings.model.path))
    training_seed = config.config_of_run(run).seed if run.record.is_file() else None
    model = EvaluatedModel(settings.model.path, policy.weights_sha256, training_seed, step)
    request = {
        **settings.model_dump(mode="json", exclude=_NOT_IN_REQUEST),
        **{name: about[name] for name in ("template_sha256", "data_sha256")},
        "weights_sha256": model.digest,
        "date": None if policy.date is None else policy.date.isoformat(),
        "prompts_sha256": {name: prompts_fingerprint(of) for name, of in prompts.items()},
    }
    with unfinished_folder(settings.out, request) as folder:
        longest = settings.max_prompt_tokens + settings.max_tokens
        engine = chosen_engine(settings.engine, policy, settings.batch_size, longest)
        sampled = (settings.temperature, settings.top_p, settings.top_k)
        batch_size = (settings.engine or settings).batch_size

        def rows(name: str, kind: str, num: int, *sampling: Any) -> list[Graded]:
            if not num:
                return []
            journal = Journal(
                folder / f"{name}.{kind}.jsonl",
                _BATCHES_PER_CALL * batch_size,
                lambda done, total: progress(f"{name}, {kind}", done, total, ""),
            )
            graded = sample_and_grade(
                engine,
                [example for example in sets[name] for _ in range(num)],
                [prompt.student_ids for prompt in prompts[name] for _ in range(num)],
                Decoding(settings.max_tokens, *sampling),
                judge,
                settings.seed,
                journal,
            )
            return [row.by_units(settings.units) for row in graded]

        num_greedy, num_samples = settings.num_answers
        answers = {
            name: SetAnswers(
                examples,
                rows(name, "greedy", num_greedy),
                rows(name, "sampled", num_samples, *sampled),
            )
            for name, examples in sets.items()
        }
        about |= {"judging": judge.metrics() | judge.record()}
        summary = summarize(answers, settings.seed, settings.units)
        write_record(EvalRecord(settings.out, model, answers, settings, about), summary, folder)
    return summary


def _build_prompts(
    name: str,
    examples: Sequence[Example],
    settings: config.EvalConfig,
    policy: Policy,
    templates: PromptTemplates,
) -> list[PromptPair]:
    with_rubrics = with_placebo(examples, settings.rubrics.placebo, templates)
    views = config.Views(student=settings.view, teacher=settings.view, templates=settings.templates)
    max_prompt_tokens = limit_prompt_tokens(
        policy.max_positions, settings.max_prompt_tokens, settings.max_tokens
    )
    field = f"data.{name}"
    return build_all_prompts(with_rubrics, views, policy.tokenizer, max_prompt_tokens, field)
