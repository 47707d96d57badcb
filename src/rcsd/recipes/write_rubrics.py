"""Rubrics for a data set, written by a model: always valid, and cached.

The cache is a folder for each (weights, decoding); its rows are keyed by the prompt's token ids,
which hold the words, the chat format and the example. Each process appends to a file of its own. So
work goes on where a kill stopped it, and processes that write parts of a data set share a cache.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from rcsd import config
from rcsd.data.prompts import (
    PromptPair,
    SkippedExample,
    build_prompts,
    limit_prompt_tokens,
    prompt_key,
)
from rcsd.data.rows import write_jsonl
from rcsd.data.rubric import parse_completion, parse_rubric, rubric_regex, rubric_rows
from rcsd.data.views import PromptTemplates
from rcsd.engines.base import Engine
from rcsd.engines.build import chosen_engine
from rcsd.engines.sample_cache import SampleCache
from rcsd.errors import ModelError, RubricError, RunError
from rcsd.io import digest, read_json, write_json
from rcsd.models.policy import Policy, weights_fingerprint
from rcsd.models.save import load_trained
from rcsd.recipes.pipeline_config import WriterSettings, Writing
from rcsd.runs import RunFolder
from rcsd.types import Decoding, Example, Rubric

# Characters of the shortest rubric around its criterion's text, with room for its end token.
_FRAME = 40


class WrittenRubric(NamedTuple):
    """A rubric that a model wrote, and whether it was cut off or held to one short criterion."""

    rubric: Rubric
    num_attempts: int
    cut: bool
    held_short: bool


@dataclass(frozen=True)
class WritingReport:
    """Counts and origin of written rubrics; ``FILE.written.json`` holds them.

    ``num_cached`` were written before; ``num_cut`` were cut off by the token limit, ``num_redrawn``
    drawn more than once, ``num_held_short`` held to one criterion. ``dropped`` prompts do not fit.
    """

    writer: str
    weights_sha256: str
    template_sha256: Mapping[str, str]
    settings: Mapping[str, Any]
    num_rows: int
    num_written: int
    num_cached: int
    num_cut: int
    num_redrawn: int
    num_held_short: int
    dropped: tuple[SkippedExample, ...]


def decode_rubric(row: Mapping[str, Any]) -> WrittenRubric:
    """Rubric of a row of the cache; ValueError or KeyError if it is malformed."""
    try:
        rubric = parse_rubric(row["rubric"])
    except RubricError as error:
        raise ValueError(str(error)) from error
    return WrittenRubric(rubric, row["num_attempts"], row["cut"], row["held_short"])


def write_rubrics(  # noqa: PLR0913 (a writer takes its parts)
    examples: Sequence[Example],
    writing: Writing,
    policy: Policy,
    engine: Engine,
    cache: Path,
    writer: str,
    batch_size: int = 32,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Example], WritingReport]:
    """The examples with rubrics that the policy writes.

    Every rubric parses: decoding is held to `rcsd.data.rubric.rubric_regex`. One that the
    token limit cuts off keeps its complete criteria. Where none of them is positive it is drawn
    again, twice if sampled, the last time held to one criterion that fits by its length; greedy
    decoding, which would repeat itself, is held to it at once.

    Args:
        examples: Their own rubrics are not shown; those whose prompt does not fit are left out.
        writing: View, decoding, bounds.
        policy: Without adapters: the cache knows it by its own weights.
        engine: Samples from it.
        cache: Folder of all caches.
        writer: Name of the model, for ``tags["rubric_source"]`` of the rows.
        batch_size: Rows sampled together; what a kill can lose.
        progress: Callback: number of different prompts that have a rubric, of how many.

    Raises:
        DataError: If a view shows what an example lacks, no prompt fits, or the cache is broken.
        ModelError: If the tokenizer cannot be masked, or probabilities are not numbers.
        RunError: If the engine ignores the grammar.
    """
    assert not policy.has_adapters  # they would be cached by their base's weights
    views = config.Views(
        writes="rubric", student=writing.view, teacher=writing.view, templates=writing.templates
    )
    room = limit_prompt_tokens(policy.max_positions, writing.max_prompt_tokens, writing.max_tokens)
    prompts, dropped = build_prompts(examples, views, policy.tokenizer, room)
    weights = weights_fingerprint(policy.model)
    rubrics = SampleCache(cache / _fingerprint(weights, writing), decode_rubric)
    rubrics.read()
    keys = [prompt_key(prompt.student_ids) for prompt in prompts]
    wanted = dict(zip(reversed(keys), reversed(prompts), strict=True))
    missing = [key for key in dict.fromkeys(keys) if key not in rubrics]
    # The longest first: what does not fit into memory fails at once, not after hours.
    missing.sort(key=lambda key: len(wanted[key].student_ids), reverse=True)
    progress(len(wanted) - len(missing), len(wanted))
    for start in range(0, len(missing), batch_size):
        batch = missing[start : start + batch_size]
        drawn = _draw([wanted[key] for key in batch], writing, engine)
        rubrics.put(
            {
                key: {"id": wanted[key].example.id, **written._asdict()}
                | {"rubric": rubric_rows(written.rubric)}
                for key, written in zip(batch, drawn, strict=True)
            }
        )
        progress(len(wanted) - len(missing) + start + len(batch), len(wanted))
    done, new = [rubrics[key] for key in keys], set(missing)
    source = f"{writer} {weights[:12]}"
    rows = [
        replace(
            prompt.example,
            rubric=written.rubric,
            tags={**prompt.example.tags, "rubric_source": source},
        )
        for prompt, written in zip(prompts, done, strict=True)
    ]
    return rows, WritingReport(
        writer=writer,
        weights_sha256=weights,
        template_sha256=PromptTemplates(writing.templates).hashes(),
        settings=writing.model_dump(mode="json"),
        num_rows=len(examples),
        num_written=len(done),
        num_cached=sum(key not in new for key in keys),
        num_cut=sum(written.cut for written in done),
        num_redrawn=sum(written.num_attempts > 1 for written in done),
        num_held_short=sum(written.held_short for written in done),
        dropped=tuple(dropped),
    )


def write_with(
    settings: WriterSettings,
    examples: Sequence[Example],
    cache: Path,
    progress: Callable[[int, int], None],
) -> tuple[list[Example], WritingReport]:
    """`write_rubrics` by the model and the engine of a configuration."""
    policy, name, _ = load_trained(settings.model)
    writing, section = settings.writing, settings.engine
    batch_size = 32 if section is None else section.batch_size
    longest = writing.max_prompt_tokens + writing.max_tokens
    engine = chosen_engine(section, policy, batch_size, longest)
    return write_rubrics(examples, writing, policy, engine, cache, name, batch_size, progress)


def trained_to_write(model: str) -> dict[str, Any]:
    """View and templates with which a run's model was trained to write; empty for others."""
    folder = RunFolder(Path(model))
    if not folder.record.is_file():
        return {}
    run = config.config_of_run(folder)
    if run.views.writes != "rubric":
        return {}
    return {"view": run.learned_view, "templates": run.views.templates}


def write_rows_and_report(rows: Sequence[Example], report: WritingReport, out: Path) -> None:
    """Write the rows, and beside them ``FILE.written.json``: where their rubrics come from."""
    # The rows last: a file of rows says that all is done.
    write_json(out.with_name(f"{out.name}.written.json"), asdict(report))
    write_jsonl(rows, out)


def read_report(rows: Path) -> dict[str, Any]:
    """Content of ``FILE.written.json`` beside a file of rows: a `WritingReport` as JSON."""
    return read_json(rows.with_name(f"{rows.name}.written.json"))


def _draw(prompts: Sequence[PromptPair], writing: Writing, engine: Engine) -> list[WrittenRubric]:
    """A rubric for each prompt, after as many attempts as it takes."""
    free, short = _regexes(writing)
    decoding = Decoding(writing.max_tokens, writing.temperature, writing.top_p, writing.top_k, free)
    num_attempts = 2 if writing.temperature is None else 3
    drawn: dict[int, WrittenRubric] = {}
    for attempt in range(1, num_attempts + 1):
        held_short = attempt == num_attempts
        rest = [index for index in range(len(prompts)) if index not in drawn]
        if not rest:
            break
        if held_short:
            decoding = replace(decoding, regex=short)
        text = f"{writing.seed} {prompt_key(prompts[0].student_ids)} {attempt}"
        seed = int(digest(text)[:8], 16) % (2**31)
        try:
            completions = engine.sample([prompts[i].student_ids for i in rest], decoding, seed)
        except FloatingPointError as error:
            raise ModelError(f"the model that writes: {error}") from error
        for index, completion in zip(rest, completions, strict=True):
            rubric = parse_completion(completion.text, completion.finished)
            if rubric is not None:
                drawn[index] = WrittenRubric(rubric, attempt, not completion.finished, held_short)
    if len(drawn) < len(prompts):
        raise RunError("the engine did not hold its samples to the rubric's grammar")
    return [drawn[index] for index in range(len(prompts))]


def _regexes(writing: Writing) -> tuple[str, str]:
    """Regexes of a rubric within the bounds, and of one short criterion that always fits."""
    grammar = writing.grammar
    # A character takes up to four bytes, and each token at least one.
    fitting = min(grammar.max_characters, (writing.max_tokens - _FRAME) // 4)
    return rubric_regex(grammar.max_criteria, grammar.max_characters), rubric_regex(1, fitting)


def _fingerprint(weights: str, writing: Writing) -> str:
    """Fingerprint of the weights and the decoding; view and words are in the prompts."""
    decoding = writing.model_dump(mode="json", exclude={"view", "templates", "max_prompt_tokens"})
    parts = [weights, json.dumps(decoding, sort_keys=True), *_regexes(writing)]
    return digest(" ".join(parts))[:24]
