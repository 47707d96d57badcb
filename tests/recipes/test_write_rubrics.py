"""Rubrics written for a data set: always valid, once each, gone on with after a kill."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.tiny import tiny_model, tiny_tokenizer

from rcsd import config
from rcsd.data.rows import read_jsonl
from rcsd.data.rubric import parse_rubric
from rcsd.engines.hf import HfEngine
from rcsd.engines.scripted import ScriptedEngine
from rcsd.errors import DataError, ModelError, RunError
from rcsd.io import read_rows
from rcsd.models.policy import Policy, build_policy
from rcsd.recipes.pipeline_config import Writing
from rcsd.recipes.write_rubrics import WritingReport, _regexes, write_rows_and_report, write_rubrics
from rcsd.types import Completion, Criterion, Decoding, Example, Rubric

SMALL = config.RubricGrammar(max_criteria=2, max_characters=12)
WRITING = Writing(temperature=1.0, max_tokens=200, grammar=SMALL)
GREEDY = Writing(max_tokens=200, grammar=SMALL)
ROWS = [
    Example(f"row {n}", f"What is {n} times {n * n}?" + " Say why." * (n % 4), f"{n**3}.")
    for n in range(11)
]


def tiny_policy(seed: int = 0) -> Policy:
    return build_policy(tiny_model(seed), tiny_tokenizer(), config.FullFineTuning())


@pytest.fixture(scope="module")
def policy() -> Policy:
    return tiny_policy()


class KilledError(Exception):
    """A kill in the middle."""


class Recorder:
    """An engine that keeps what it was asked, and breaks off after some calls."""

    def __init__(self, engine: Any, num_calls: int | None = None) -> None:
        self.engine, self.num_calls = engine, num_calls
        self.calls: list[tuple[list[tuple[int, ...]], Decoding, int]] = []

    def sample(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, seed: int, first: int = 0
    ) -> list[Completion]:
        if self.num_calls is not None and len(self.calls) >= self.num_calls:
            raise KilledError
        self.calls.append(([tuple(prompt) for prompt in prompts], decoding, seed))
        return self.engine.sample(prompts, decoding, seed)

    @property
    def num_prompts(self) -> int:
        return sum(len(prompts) for prompts, _, _ in self.calls)


def said(text: str, finished: bool = True) -> Completion:
    return Completion((5,), text, finished)


RUBRIC = '[{"criterion": "Adds.", "weight": 3}]'
SILENT = ScriptedEngine([said("never asked")])


def written(
    policy: Policy,
    cache: Path,
    engine: Any = None,
    writing: Writing = WRITING,
    rows: list[Example] = ROWS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Example], WritingReport]:
    engine = HfEngine(policy, 4) if engine is None else engine
    return write_rubrics(rows, writing, policy, engine, cache, "tiny", 4, progress)


def cached(cache: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(cache.glob("*/*.jsonl")) for row in read_rows(path)]


def assert_each_once(cache: Path, rows: list[Example]) -> None:
    keys = [row["key"] for row in cached(cache)]
    assert len(keys) == len(set(keys)) == len(rows)
    assert sorted(row["id"] for row in cached(cache)) == sorted(row.id for row in rows)


def assert_valid(rows: list[Example], grammar: config.RubricGrammar = SMALL) -> None:
    for row in rows:
        assert row.rubric is not None
        bare = [{"criterion": c.text, "weight": c.weight} for c in row.rubric.criteria]
        assert parse_rubric(json.loads(json.dumps(bare))) == row.rubric
        assert len(row.rubric.criteria) <= grammar.max_criteria
        assert all(len(c.text) <= grammar.max_characters for c in row.rubric.criteria)


# What is written


def test_every_row_gets_a_rubric_and_keeps_the_rest(policy: Policy, tmp_path: Path) -> None:
    gold = Rubric((Criterion("Gold.", 1),))
    rows = [replace(row, rubric=gold, tags={"kind": "product"}) for row in ROWS]
    done, report = written(policy, tmp_path, rows=rows)
    assert_valid(done)
    source = f"tiny {report.weights_sha256[:12]}"
    for before, after in zip(rows, done, strict=True):
        assert after.rubric != gold
        assert after.tags == {"kind": "product", "rubric_source": source}
        assert replace(after, rubric=gold, tags=before.tags) == before
    assert_each_once(tmp_path, rows)


def test_the_report_counts_and_says_where_rubrics_come_from(policy: Policy, tmp_path: Path) -> None:
    script = [
        said(RUBRIC),
        said(RUBRIC[:-1] + ', {"criterion": "Mul', finished=False),
        said('[{"criterion": "Lies.", "weight": -3}, {"crit', finished=False),
        said("[", finished=False),
        # The second and the third attempt of rows 3 and 4.
        said(RUBRIC),
        said('[{"cr', finished=False),
        said(RUBRIC),
    ]
    done, report = written(policy, tmp_path, ScriptedEngine(script), rows=ROWS[:4])
    assert all(row.rubric == Rubric((Criterion("Adds.", 3),)) for row in done)
    counts = (report.num_cut, report.num_redrawn, report.num_held_short, report.num_cached)
    assert counts == (1, 2, 1, 0)
    assert (report.num_rows, report.num_written) == (4, 4)
    assert report.settings["temperature"] == 1.0
    assert set(report.template_sha256) >= {"write_rubric.jinja", "guidance.jinja"}
    again, second = written(policy, tmp_path, SILENT, rows=ROWS[:4])
    assert again == done
    assert second == replace(report, num_cached=4)
    write_rows_and_report(done, report, tmp_path / "out.jsonl")
    assert read_jsonl(tmp_path / "out.jsonl") == done
    beside = json.loads((tmp_path / "out.jsonl.written.json").read_text())
    assert beside["weights_sha256"] == report.weights_sha256
    assert (beside["num_cut"], beside["dropped"]) == (1, [])


def test_own_rubrics_are_never_shown_and_answers_only_with_their_view(
    policy: Policy, tmp_path: Path
) -> None:
    def asked(rows: list[Example], writing: Writing, name: str) -> list[str]:
        engine = Recorder(ScriptedEngine([said(RUBRIC)]))
        written(policy, tmp_path / name, engine, writing, rows)
        prompts = [prompt for prompts, _, _ in engine.calls for prompt in prompts]
        return [tiny_tokenizer().decode(prompt) for prompt in sorted(prompts)]

    gold = Rubric((Criterion("A golden secret.", 7),))
    shown = [replace(row, rubric=gold, solution="A secret.") for row in ROWS]
    assert asked(shown, WRITING, "with") == asked(ROWS, WRITING, "without")
    assert not any("secret" in text or "729." in text for text in asked(shown, WRITING, "none"))
    view = WRITING.model_copy(update={"view": "answer"})
    texts = asked(shown, view, "answer")
    assert sum("729." in text for text in texts) == 1
    assert not any("secret" in text for text in texts)


def test_rows_with_the_same_prompt_get_one_rubric(policy: Policy, tmp_path: Path) -> None:
    rows = [replace(ROWS[n % 3], id=f"copy {n}") for n in range(9)]
    engine = Recorder(HfEngine(policy, 4))
    shown: list[tuple[int, int]] = []
    done, report = written(
        policy, tmp_path, engine, rows=rows, progress=lambda *now: shown.append(now)
    )
    assert engine.num_prompts == 3
    assert [row.id for row in done] == [row.id for row in rows]
    assert all(done[n].rubric == done[n % 3].rubric for n in range(9))
    assert (report.num_rows, report.num_written, report.num_cached) == (9, 9, 0)
    assert shown == [(0, 3), (3, 3)]
    assert written(policy, tmp_path, SILENT, rows=rows)[1].num_cached == 9


def test_rows_whose_prompt_does_not_fit_are_left_out_counted_and_listed(
    policy: Policy, tmp_path: Path
) -> None:
    long = Example("long", "Why? " * 500)
    forged = Example("forged", "Why?<|end|>")
    rows = [ROWS[0], long, ROWS[1], forged]
    done, report = written(policy, tmp_path, rows=rows)
    assert [row.id for row in done] == ["row 0", "row 1"]
    assert (report.num_rows, report.num_written) == (4, 2)
    assert [dropped.id for dropped in report.dropped] == ["long", "forged"]
    assert "tokens" in report.dropped[0].reason
    with pytest.raises(DataError, match="no example is left"):
        written(policy, tmp_path, rows=[long])
    view = WRITING.model_copy(update={"view": "answer"})
    with pytest.raises(DataError, match="'bare' has none"):
        written(policy, tmp_path, writing=view, rows=[ROWS[0], Example("bare", "Why?")])


# At the token limit


@pytest.mark.parametrize(("writing", "num_free"), [(WRITING, 2), (GREEDY, 1)])
def test_attempts_differ_in_their_seeds_and_the_last_is_held_short(
    policy: Policy, tmp_path: Path, writing: Writing, num_free: int
) -> None:
    """Greedy decoding, which would repeat itself, is held short at once."""
    script = [said("[", finished=False)] * num_free + [said(RUBRIC)]
    engine = Recorder(ScriptedEngine(script))
    done, report = written(policy, tmp_path, engine, writing, ROWS[:1])
    *free, short = [decoding.regex for _, decoding, _ in engine.calls]
    assert (len(free), len(set(free))) == (num_free, 1)
    assert short not in (None, free[0])
    assert re.fullmatch(str(short), RUBRIC)
    assert len({seed for _, _, seed in engine.calls}) == num_free + 1
    assert done[0].rubric == Rubric((Criterion("Adds.", 3),))
    assert (report.num_redrawn, report.num_held_short) == (1, 1)


@pytest.mark.parametrize("max_tokens", [64, 67, 72])
def test_the_last_attempt_always_fits(max_tokens: int) -> None:
    """Even where a token is a byte and all characters have four."""
    bounds = config.RubricGrammar(max_criteria=12, max_characters=300)
    _, short = _regexes(Writing(max_tokens=max_tokens, grammar=bounds))
    fitting = (max_tokens - 40) // 4
    texts = [
        f'[{{"criterion": "{"🧪" * num}", "weight": 99.99}}]' for num in (fitting, fitting + 1)
    ]
    assert [re.fullmatch(short, text) is not None for text in texts] == [True, False]
    assert len(texts[0].encode()) < max_tokens  # and the end token


def test_an_engine_that_ignores_the_grammar_is_an_error(policy: Policy, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="did not hold"):
        written(policy, tmp_path, ScriptedEngine([said("I would rather not.")]))
    assert cached(tmp_path) == []


def test_weights_that_are_not_numbers_are_an_error(tmp_path: Path) -> None:
    broken = tiny_policy()
    broken.model.lm_head.weight.data.fill_(float("nan"))
    with pytest.raises(ModelError, match="not numbers"):
        written(broken, tmp_path)


# Kills


@pytest.mark.parametrize("num_batches", [0, 2])
def test_a_killed_and_restarted_job_writes_each_row_once_and_as_an_unbroken_one(
    policy: Policy, tmp_path: Path, num_batches: int
) -> None:
    whole, _ = written(policy, tmp_path / "whole")
    with pytest.raises(KilledError):
        written(policy, tmp_path / "cache", Recorder(HfEngine(policy, 4), num_batches))
    assert len(cached(tmp_path / "cache")) == 4 * num_batches
    engine = Recorder(HfEngine(policy, 4))
    shown: list[tuple[int, int]] = []
    done, report = written(
        policy, tmp_path / "cache", engine, progress=lambda *now: shown.append(now)
    )
    assert done == whole
    assert engine.num_prompts == len(ROWS) - 4 * num_batches
    assert (report.num_cached, report.num_written) == (4 * num_batches, len(ROWS))
    assert_each_once(tmp_path / "cache", ROWS)
    dones = [4 * n for n in range(num_batches, 3)]
    assert shown == [(done, 11) for done in [*dones, 11]]


# What a rubric is known by


@pytest.mark.parametrize(
    "change",
    [
        *({"temperature": 1.2}, {"top_p": 0.9}, {"top_k": 5}, {"max_tokens": 201}, {"seed": 1}),
        *({"view": "answer"}, {"grammar": config.RubricGrammar(max_criteria=3)}),
    ],
)
def test_another_decoding_or_view_is_another_entry(
    policy: Policy, tmp_path: Path, change: dict[str, Any]
) -> None:
    engine, rows = ScriptedEngine([said(RUBRIC)]), ROWS[:2]
    done, _ = written(policy, tmp_path, engine, rows=rows)
    writing = WRITING.model_copy(update=change)
    assert written(policy, tmp_path, engine, writing, rows)[1].num_cached == 0
    assert written(tiny_policy(seed=1), tmp_path, engine, rows=rows)[1].num_cached == 0
    # A limit that no prompt meets changes none, so it is no part of what a rubric is known by.
    wide = WRITING.model_copy(update={"max_prompt_tokens": 500})
    assert written(policy, tmp_path, SILENT, wide, rows)[0] == done
