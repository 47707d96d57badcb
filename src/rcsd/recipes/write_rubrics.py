"""Rubrics for a data set, written by a model: always valid, cached, shared among processes.

The cache is a folder for each (weights, decoding); its rows are keyed by the prompt's token ids,
which hold the words, the chat format and the example. Each process appends to a file of its own. So
work goes on where a kill stopped it, nothing is written twice, and folders of several machines are
merged by copying their files together.
"""

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rcsd import config
from rcsd.data.prompts import (
    PromptPair,
    SkippedExample,
    build_prompts,
    limit_prompt_tokens,
    prompt_key,
)
from rcsd.data.rows import write_jsonl
from rcsd.data.rubric import parse_completion, parse_rubric, rubric_rows
from rcsd.data.rubric_grammar import rubric_regex
from rcsd.data.views import PromptTemplates
from rcsd.engines.base import Engine
from rcsd.engines.build import chosen_engine
from rcsd.engines.sample_cache import SampleCache
from rcsd.errors import ModelError, RubricError, RunError
from rcsd.io import digest, make_folder, read_json, write_json
from rcsd.models.policy import Policy, weights_fingerprint
from rcsd.models.save import load_trained
from rcsd.recipes.pipeline_config import WriterSettings, Writing
from rcsd.runs import RunFolder
from rcsd.types import Decoding, Example, Rubric

Progress = Callable[[int, int], None]
"""Callback: number of the shard's different prompts that have a rubric, of how many."""

# Characters of the shortest rubric around its criterion's text, with room for its end token.
_FRAME = 40


@dataclass(frozen=True)
class Shard:
    """One of several equal shares of the rows: the ``number``-th of ``count``, from 1."""

    number: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        """Refuse a share that there is not."""
        if not 1 <= self.number <= self.count:
            raise RunError(f"--shard: {self.number}/{self.count}: expected 1/N to N/N")

    @property
    def name(self) -> str:
        """Name of its files."""
        return f"{self.number}-of-{self.count}"


def parse_shard(text: str) -> Shard:
    """A share such as ``2/4``.

    Raises:
        RunError: If it is none.
    """
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal()):
        raise RunError(f"--shard: {text!r}: expected a share such as 2/4")
    return Shard(int(number), int(count))


@dataclass(frozen=True)
class WrittenRubric:
    """A rubric that a model wrote.

    Args:
        rubric: Valid, in the words of the model.
        num_attempts: How often it was drawn.
        cut: Whether the token limit cut it off; then it holds its whole criteria.
        held_short: Whether it was held to one short criterion after other attempts failed.
    """

    rubric: Rubric
    num_attempts: int
    cut: bool
    held_short: bool


@dataclass(frozen=True)
class WritingReport:
    """Counts and origin of written rubrics; ``FILE.written.json`` holds them.

    Args:
        writer: Name of the model.
        weights_sha256: Of its weights.
        template_sha256: Of the words.
        settings: The section ``writing``.
        num_rows: Rows of the data.
        num_written: Rows with a rubric, those from the cache included.
        num_cached: Of these, rows whose rubric is not this process's: earlier or another's.
        num_missing: Rows that are still to be written, by other shards.
        num_cut: Rows whose rubric the token limit cut off; it holds its whole criteria.
        num_redrawn: Rows whose rubric was drawn more than once.
        num_held_short: Rows whose rubric was held to one short criterion.
        dropped: Rows whose prompt does not fit, and why; they have no rubric.
    """

    writer: str
    weights_sha256: str
    template_sha256: Mapping[str, str]
    settings: Mapping[str, Any]
    num_rows: int
    num_written: int
    num_cached: int
    num_missing: int
    num_cut: int
    num_redrawn: int
    num_held_short: int
    dropped: tuple[SkippedExample, ...]


@contextmanager
def _locked(folder: Path, shard: Shard) -> Iterator[None]:
    """Inside, no other process writes this shard.

    Raises:
        RunError: If one does.
    """
    lock = folder / f"{shard.name}.lock"
    make_folder(lock)
    try:
        with FileLock(lock, timeout=0):
            yield
    except Timeout as error:
        raise RunError(
            f"another process is writing the shard {shard.number}/{shard.count} ({lock}); give "
            "each process its own with --shard"
        ) from error


def rubric_cache(folder: Path, shard: Shard) -> SampleCache[WrittenRubric]:
    """Rubrics by the writer's prompt, in a folder of these weights and this decoding."""
    return SampleCache(folder, _decode, shard.name)


def _decode(row: Mapping[str, Any]) -> WrittenRubric:
    counts = {name: row[name] for name in ("num_attempts", "cut", "held_short")}
    try:
        return WrittenRubric(parse_rubric(row["rubric"]), **counts)
    except RubricError as error:
        raise ValueError(str(error)) from error


def write_rubrics(  # noqa: PLR0913 (a writer takes its parts)
    examples: Sequence[Example],
    writing: Writing,
    policy: Policy,
    engine: Engine,
    cache: Path,
    writer: str,
    shard: Shard | None = None,
    batch_size: int = 32,
    progress: Progress = lambda done, total: None,
) -> tuple[list[Example], WritingReport]:
    """The examples with rubrics that the policy writes.

    Every rubric parses: decoding is held to `rcsd.data.rubric_grammar.rubric_regex`. One that the
    token limit cuts off keeps its complete criteria. Where none of them is positive it is drawn
    again, twice if sampled, the last time held to one criterion that fits by its length; greedy
    decoding, which would repeat itself, is held to it at once.

    Args:
        examples: Their own rubrics are not shown.
        writing: View, decoding, bounds.
        policy: Without adapters: the cache knows it by its own weights.
        engine: Samples from it.
        cache: Folder of all caches.
        writer: Name of the model, for ``tags["rubric_source"]`` of the rows.
        shard: Which share of the rows to write; None writes all.
        batch_size: Rows sampled together; what a kill can lose.
        progress: Callback.

    Returns:
        The examples that have a rubric, in order, and the report. Some of those that are missing
        may be the work of other shards.

    Raises:
        DataError: If a view shows what an example lacks, no prompt fits, or the cache is broken.
        ModelError: If the tokenizer cannot be masked, or probabilities are not numbers.
        RunError: If another process is at the same shard.
        ValueError: If the policy has adapters.
    """
    if policy.has_adapters:
        raise ValueError("a policy with adapters would be cached by its base's weights")
    shard = shard or Shard()
    views = config.Views(
        writes="rubric", student=writing.view, teacher=writing.view, templates=writing.templates
    )
    room = limit_prompt_tokens(policy.max_positions, writing.max_prompt_tokens, writing.max_tokens)
    prompts, dropped = build_prompts(examples, views, policy.tokenizer, room)
    weights = weights_fingerprint(policy.model)
    folder = cache / _fingerprint(weights, writing)
    rubrics = rubric_cache(folder, shard)
    keys = [prompt_key(prompt.student_ids) for prompt in prompts]
    first = dict(zip(reversed(keys), reversed(prompts), strict=True))
    share = list(dict.fromkeys(keys))[shard.number - 1 :: shard.count]
    # The longest first: what does not fit into memory fails at once, not after hours.
    share.sort(key=lambda key: len(first[key].student_ids), reverse=True)
    draw = functools.partial(_draw, writing=writing, engine=engine)
    with _locked(folder, shard):
        wanted = {key: first[key] for key in share}
        new = _write_missing(rubrics, wanted, draw, batch_size, progress)
    rubrics.read()
    answered = [
        (prompt.example, rubrics[key], key in new)
        for key, prompt in zip(keys, prompts, strict=True)
        if key in rubrics
    ]
    source = f"{writer} {weights[:12]}"
    rows = [
        replace(example, rubric=of.rubric, tags={**example.tags, "rubric_source": source})
        for example, of, _ in answered
    ]
    done = [written for _, written, _ in answered]
    return rows, WritingReport(
        writer=writer,
        weights_sha256=weights,
        template_sha256=PromptTemplates(writing.templates).hashes(),
        settings=writing.model_dump(mode="json"),
        num_rows=len(examples),
        num_written=len(done),
        num_cached=sum(not is_new for _, _, is_new in answered),
        num_missing=len(keys) - len(done),
        num_cut=sum(written.cut for written in done),
        num_redrawn=sum(written.num_attempts > 1 for written in done),
        num_held_short=sum(written.held_short for written in done),
        dropped=tuple(dropped),
    )


def write_with(
    settings: WriterSettings,
    examples: Sequence[Example],
    cache: Path,
    shard: Shard,
    progress: Progress,
) -> tuple[list[Example], WritingReport]:
    """`write_rubrics` by the model and the engine of a configuration."""
    policy, name = load_trained(settings.model)
    writing, section = settings.writing, settings.engine
    batch_size = 32 if section is None else section.batch_size
    longest = writing.max_prompt_tokens + writing.max_tokens
    engine = chosen_engine(section, policy, batch_size, longest)
    return write_rubrics(
        examples, writing, policy, engine, cache, name, shard, batch_size, progress
    )


def _write_missing(
    rubrics: SampleCache[WrittenRubric],
    wanted: Mapping[str, PromptPair],
    draw: Callable[[Sequence[PromptPair]], Sequence[WrittenRubric]],
    batch_size: int,
    progress: Progress,
) -> set[str]:
    """Write what the cache lacks, in batches in the order of ``wanted``; returns the new keys."""
    new: set[str] = set()
    # Read under the lock: another process may just have left this shard.
    rubrics.read()
    missing = [key for key in wanted if key not in rubrics]
    progress(len(wanted) - len(missing), len(wanted))
    for start in range(0, len(missing), batch_size):
        # Others may have written it meanwhile, where processes do not share in one way.
        rubrics.read()
        batch = [key for key in missing[start : start + batch_size] if key not in rubrics]
        if batch:
            drawn = draw([wanted[key] for key in batch])
            rubrics.put(
                {
                    key: {"id": wanted[key].example.id, **asdict(written)}
                    | {"rubric": rubric_rows(written.rubric)}
                    for key, written in zip(batch, drawn, strict=True)
                }
            )
            new.update(batch)
        progress(sum(key in rubrics for key in wanted), len(wanted))
    return new


def trained_to_write(model: str) -> dict[str, Any]:
    """View and words with which a run's model was trained to write rubrics; empty for others.

    Args:
        model: As in `rcsd.models.save.load_trained`.
    """
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
        if held_short:
            decoding = replace(decoding, regex=short)
        rest = [index for index in range(len(prompts)) if index not in drawn]
        if not rest:
            break
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
