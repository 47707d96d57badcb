"""Two stages in one: what is made, what is reused, what is refused."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.tiny import quietly, tiny_folder

from rcsd import config
from rcsd.config.base import parse
from rcsd.data.rows import read_jsonl, write_jsonl
from rcsd.data.rubric import parse_rubric
from rcsd.data.world.problems import examples
from rcsd.errors import ConfigError, DataError, RunError
from rcsd.evaluation.report import Estimate
from rcsd.evaluation.statistics import Interval
from rcsd.io import one_owner
from rcsd.recipes import pipeline_steps
from rcsd.recipes.pipeline import Artifacts, plan_pipeline, run
from rcsd.recipes.pipeline_config import Pipeline
from rcsd.recipes.pipeline_report import describe, run_and_report
from rcsd.types import Example

Build = Callable[..., Pipeline]
ARMS = ("gold", "learned", "direct", "shuffled")


def settings(folder: Path, path: Path, /, **changes: Any) -> Pipeline:
    """A pipeline of seconds on a random two-layer model."""
    stage: dict[str, Any] = {
        "data": {"type": "world", "num_examples": 6},
        "method": {"type": "distill"},
        "optim": {"lr": 1e-3},
        "sampling": {"max_tokens": 8},
        "steps": 2,
        "examples_per_step": 3,
    }
    grammar = {"type": "rubric", "max_criteria": 3, "max_characters": 12}
    writer = {
        **stage,
        "views": {"writes": "rubric", "student": "answer", "teacher": "rubric"},
        "sampling": {"max_tokens": 64, "grammar": grammar},
    }
    held_out = {"type": "world", "split": "new_numbers", "num_examples": 3}
    tree: dict[str, Any] = {
        "model": {"path": str(path), "training": {"type": "full"}},
        "writer": writer,
        "writing": {"view": "answer", "max_tokens": 64, "grammar": grammar},
        "reasoner": stage,
        "arms": ARMS,
        "evaluation": {"data": {"new_numbers": held_out}, "max_tokens": 8, "num_ordered": 2},
        "out": str(folder / "out"),
    }
    return parse(Pipeline, tree | changes, "test")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(tiny_folder(tmp_path_factory.mktemp("tiny") / "model"))


@pytest.fixture
def build(tmp_path: Path, model: Path) -> Build:
    return lambda **changes: settings(tmp_path, model, **changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """Folder of a finished pipeline; tests copy what they change."""
    folder = tmp_path_factory.mktemp("finished")
    run_and_report(settings(folder, model), "Test", "tiny", {"more": 1}, quietly)
    return folder / "out"


def modified(folder: Path) -> dict[str, int]:
    """Time of change of each file."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file()
    }


# What is made


def test_a_pipeline_makes_rubrics_runs_answers_and_a_report(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    assert set(summary["arms"]) == {"base", "teacher", "rcsd", *ARMS}
    assert summary["arms"]["rcsd"] == summary["arms"]["gold"]
    assert summary["writing"]["learned"]["num_valid"] == 6 + 3
    assert summary["num_left_out"] == {"new_numbers": {"score": 0, "accuracy": 0}}
    assert set(summary["rubrics"]) == {"learned", "direct"}
    assert summary["more"] == 1
    assert "Written rubrics against gold" in (finished / "report.html").read_text()
    [questions] = finished.glob("rubrics-learned-questions-*/rows.jsonl")
    rows = read_jsonl(questions)
    assert [row.id for row in rows] == [e.id for e in examples("train", 6, 0)]
    assert all(row.tags["rubric_source"].startswith(str(finished)) for row in rows)


def test_a_warm_start_comes_first_and_everything_starts_from_it(build: Build, model: Path) -> None:
    warm = build().reasoner.model_dump(mode="json") | {
        "data": {"type": "world", "num_examples": 6, "rubrics": "drawn"},
        "method": {"type": "sft", "view": "rubric"},
    }
    lora = {"path": str(model), "training": {"type": "lora", "rank": 2, "alpha": 4}}
    artifacts = run(build(model=lora, warm_start=warm, arms=["gold"]), quietly)
    merged = artifacts.folders["warm start"].path / "merged"
    assert artifacts.folders["gold"].read_record()["config"]["model"]["path"] == str(merged)
    assert "base, before the warm start" in artifacts.rows
    assert not artifacts.written
    needs = {step.name: step.needs for step in artifacts.steps}
    assert needs["evaluate base, before the warm start"] == []
    assert needs["evaluate base"] == needs["train gold"] == ["train warm start"]
    assert needs["evaluate gold"] == ["train gold"]


# What is reused


def test_finished_steps_are_skipped_and_load_no_model(
    finished: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(section: config.Model) -> None:
        raise AssertionError(section.path)

    monkeypatch.setattr(pipeline_steps, "load_trained", refuse)
    before, notes = modified(finished), dict[str, str]()
    run(settings(finished.parent, model), lambda stage, _, __, note: notes.update({stage: note}))
    assert modified(finished) == before
    assert set(notes.values()) == {"done before"}


@pytest.mark.parametrize(
    "step", ["train learned", pytest.param("write learned rubrics", marks=pytest.mark.slow)]
)
def test_a_pipeline_that_was_cut_off_continues_and_ends_the_same(
    build: Build, finished: Path, model: Path, step: str
) -> None:
    class KilledError(Exception):
        """A kill in the middle of a step."""

    def kill(stage: str, done: int, total: int, note: str) -> None:
        if stage == step and done >= 1:
            raise KilledError

    pipeline = build(arms=["learned"])
    with pytest.raises(KilledError):
        run(pipeline, kill)
    rows = run(pipeline, quietly).rows
    unbroken = run(settings(finished.parent, model), quietly).rows
    assert rows == {arm: unbroken[arm] for arm in rows}


@pytest.mark.parametrize("name", ["moved", "./moved", "link"])
def test_a_finished_pipeline_that_was_moved_or_has_another_name_is_recognised(
    tmp_path: Path, finished: Path, model: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, "moved")
    Path("link").symlink_to("moved")
    notes = dict[str, str]()
    pipeline = settings(finished.parent, model, out=name)
    run(pipeline, lambda stage, _, __, note: notes.update({stage: note}))
    assert set(notes.values()) == {"done before"}


@pytest.mark.parametrize("step", ["train learned", "evaluate learned"])
def test_a_pipeline_that_is_moved_before_its_end_goes_on(
    tmp_path: Path, build: Build, model: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    class KilledError(Exception):
        """A kill in the middle of a step."""

    def kill(stage: str, done: int, total: int, note: str) -> None:
        if stage == step and (step != "train learned" or done >= 1):
            raise KilledError

    # A run names its initial model, and the file of its rubrics.
    warm = build().reasoner.model_dump(mode="json") | {
        "method": {"type": "sft", "view": "none"},
        "data": {"type": "world", "num_examples": 6, "rubrics": "drawn"},
    }
    lora = {"path": str(model), "training": {"type": "lora", "rank": 2, "alpha": 4}}
    changes = {"model": lora, "warm_start": warm, "arms": ["learned"]}
    with pytest.raises(KilledError):
        run(build(**changes), kill)
    (tmp_path / "out").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    artifacts = run(build(**changes, out="moved"), quietly)
    assert not (tmp_path / "out").exists()
    assert set(artifacts.rows) >= {"learned", "base"}


def test_a_second_pipeline_on_a_folder_is_refused(tmp_path: Path, build: Build) -> None:
    (tmp_path / "link").symlink_to("out")
    with one_owner(tmp_path / "out"):
        for name in ("out", "link"):
            with pytest.raises(RunError, match=f"{name}: another process writes there"):
                run(build(arms=["gold"], out=str(tmp_path / name)), quietly)


def cut(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


@pytest.mark.parametrize(
    ("pattern", "change"),
    [
        ("answers-gold-*/new_numbers.jsonl", cut),
        ("answers-gold-*/new_numbers.jsonl", lambda content: content[:-1]),
        ("answers-gold-*/new_numbers.jsonl", lambda content: b""),
        (
            "answers-samples-*/new_numbers.jsonl",
            lambda content: b"".join(content.splitlines(True)[1:]),
        ),
        ("answers-base-*/new_numbers.jsonl", lambda content: b"{}\n"),
        ("answers-base-*/new_numbers.jsonl", lambda content: b"[" + content),
        ("rubrics-learned-questions-*/rows.jsonl", cut),
        ("rubrics-direct-questions-*/rows.jsonl", lambda content: content.splitlines(True)[0]),
        ("rubrics-direct-new_numbers-*/rows.jsonl", lambda content: b""),
        ("rubrics-direct-questions-*/rows.jsonl.written.json", lambda content: b"{}"),
    ],
)
def test_a_damaged_artifact_is_named_with_what_to_make_anew(
    tmp_path: Path, finished: Path, model: Path, pattern: str, change: Callable[[bytes], bytes]
) -> None:
    shutil.copytree(finished, tmp_path / "out")
    [path] = (tmp_path / "out").glob(pattern)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError) as caught:
        run(settings(tmp_path, model), quietly)
    assert str(caught.value).startswith(str(path).removesuffix(".written.json"))
    assert f"delete the folder {path.parent}, and run the same command again" in str(caught.value)


# Names


def names(pipeline: Pipeline) -> dict[str, str]:
    """Name of every artifact of a pipeline, by what it is."""
    plan: Artifacts = plan_pipeline(pipeline)
    found = {f"run {arm}": folder.path.name for arm, folder in plan.folders.items()}
    found |= {f"answers {arm}": folder.name for arm, folder in plan.answers.items()}
    found |= {f"questions {writer}": path.parent.name for writer, path in plan.questions.items()}
    for writer, files in plan.written.items():
        found |= {f"rubrics {writer} {name}": path.parent.name for name, path in files.items()}
    return found


ALL = {"run", "answers", "questions", "rubrics"}
SHOWN = {"answers teacher, learned rubric", "answers teacher, direct rubric"}
LEARNED = {"run learned", "answers learned", "answers teacher, learned rubric"}
WRITER = {"run writer", "questions learned", "rubrics learned new_numbers"} | LEARNED
WRITTEN = {"questions", "rubrics", "run direct", "answers direct"} | LEARNED | SHOWN
REASONERS = {f"{what} {arm}" for what in ("run", "answers") for arm in ARMS}


@pytest.mark.parametrize(
    ("key", "value", "changed"),
    [
        ("jobs", 3, set()),
        ("seed", 1, ALL),
        ("model.path", "other", ALL),
        ("model.chat_template", "template.jinja", ALL),
        ("writer.steps", 3, WRITER),
        ("writing.temperature", 1.2, WRITTEN),
        ("writing.templates", "words", WRITTEN),
        ("reasoner.data.num_examples", 7, REASONERS | {"questions"}),
        ("reasoner.views.templates", "words", REASONERS | {"answers"}),
        ("reasoner.sampling.max_prompt_tokens", 900, REASONERS | {"answers"}),
        ("evaluation.max_tokens", 9, {"answers"}),
        ("evaluation.data.new_numbers.seed", 4, {"answers", "rubrics"}),
    ],
)
def test_everything_that_goes_into_an_artifact_is_in_its_name(
    tmp_path: Path, build: Build, key: str, value: Any, changed: set[str]
) -> None:
    if key == "model.path":
        tiny_folder(tmp_path / "other", seed=1)
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "write_rubric.jinja").write_text("{{ question }}")
    (tmp_path / "template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    if key in ("model.path", "model.chat_template") or key.endswith("templates"):
        value = str(tmp_path / value)
    first = build()
    tree: dict[str, Any] = first.model_dump(mode="json", exclude_unset=True)
    *parents, last = key.split(".")
    section = tree
    for parent in parents:
        section = section.setdefault(parent, {})
    section[last] = value
    before, after = names(first), names(parse(Pipeline, tree, "test"))
    found = {name for name in before if before[name] != after[name]}
    assert found == {n for n in before if n in changed or n.split()[0] in changed}


# Data without gold, or without checks


def jsonl(path: Path, split: Any, change: Callable[[Example], Example]) -> dict[str, str]:
    write_jsonl([change(row) for row in examples(split, 4, seed=5)], path)
    return {"type": "jsonl", "path": str(path)}


def with_data(build: Build, tmp_path: Path, change: Callable[[Example], Example]) -> Build:
    train = jsonl(tmp_path / "train.jsonl", "train", change)
    held_out = {"own": jsonl(tmp_path / "test.jsonl", "new_numbers", change)}
    reasoner = build().reasoner.model_dump(mode="json") | {"data": train}
    evaluation = {"data": held_out, "max_tokens": 8, "num_ordered": 2}
    return lambda **more: build(reasoner=reasoner, evaluation=evaluation, **more)


def test_rubrics_that_no_check_decides_give_a_report_without_scores(
    tmp_path: Path, build: Build
) -> None:
    rubric = parse_rubric([{"criterion": "Is right.", "weight": 1.0}])
    unchecked = with_data(build, tmp_path, lambda row: replace(row, tags={}, rubric=rubric))
    pipeline = unchecked(arms=["direct", "gold"], writer=None)
    summary = run_and_report(pipeline, "Test", "tiny", {}, quietly).summary
    assert set(summary["arms"]["gold"]["own"]) == {"accuracy"}
    assert summary["num_left_out"]["own"]["score"] == 4
    assert "f1" in summary["rubrics"]["direct"]["own"]


def test_questions_without_rubrics_get_learned_ones_and_their_placebo(
    tmp_path: Path, build: Build
) -> None:
    bare = with_data(
        build, tmp_path, lambda row: Example(row.id, row.question, row.reference_answer)
    )
    pipeline = bare(arms=["learned", "shuffled"])
    summary = run_and_report(pipeline, "Test", "tiny", {}, quietly).summary
    # Without gold there is no score and no teacher, and nothing pretends that there were.
    assert set(summary["arms"]) == {"base", "learned", "shuffled"}
    assert set(summary["arms"]["learned"]["own"]) == {"accuracy"}
    assert summary["rubrics"] == {}
    with pytest.raises(ConfigError, match="arms: gold needs a rubric in every row"):
        plan_pipeline(bare())


# Findings


def test_content_is_claimed_to_help_only_where_every_empty_placebo_is_beaten() -> None:
    def sentence(**gaps: tuple[float, float]) -> str:
        intervals = {"gold - base": Interval(0.5, 0.4, 0.6, 9)}
        for name, (low, high) in gaps.items():
            intervals[f"gold - {name}"] = Interval((low + high) / 2, low, high, 9)
        differences = [Estimate(label, "own", "score", i) for label, i in intervals.items()]
        [found] = describe("own", {"gold": Interval(0.9, 0.8, 1.0, 9)}, differences, {})
        return found

    helps, shows_none = "what the rubrics say helps", "no help of the rubrics' content is shown"
    assert helps in sentence(generic=(0.1, 0.3), random=(0.2, 0.4))
    assert shows_none in sentence(generic=(-0.1, 0.3), random=(0.2, 1))
    # Half of the content may be enough, and content may still be what helps.
    assert helps in sentence(shuffled=(0.1, 0.3), noisy=(-0.2, 0.1))
    assert "content" not in sentence(reduced=(0.1, 0.2))
    assert sentence(reduced=(0.1, 0.2)) == (
        "Distilled with gold rubrics, the student, shown no rubric, scores 0.90 [0.80, 1.00], a "
        "gain of 0.50 [0.40, 0.60]; with whole rubrics over reduced ones 0.15 [0.10, 0.20]."
    )


# What is refused


def test_held_out_questions_among_the_training_questions_are_refused(build: Build) -> None:
    train = {"type": "world", "num_examples": 6}
    evaluation = {"data": {"leaked": train}, "max_tokens": 8, "num_ordered": 2}
    with pytest.raises(DataError, match=r"leaked': 6 of its questions stand in reasoner\.data"):
        plan_pipeline(build(evaluation=evaluation))


def test_a_held_out_prompt_that_does_not_fit_is_an_error(build: Build) -> None:
    stage = build().reasoner.model_dump(mode="json")
    stage["sampling"] = {"max_tokens": 8, "max_prompt_tokens": 150}
    with pytest.raises(DataError, match=r"field 'evaluation\.data': held-out example"):
        run(build(reasoner=stage), quietly)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"writer": None}, "the arm 'learned' needs a writer"),
        ({"arms": ["gold", "gold"]}, "an arm is listed twice"),
        ({"writing": {"view": "none"}}, "set writing.view to the writer's"),
        ({"reasoner": {"views": {"teacher": "answer"}}}, "a placebo replaces nothing"),
        ({"reasoner": {"views": {"writes": "rubric", "student": "answer"}}}, "the reasoner writes"),
    ],
)
def test_a_pipeline_that_means_nothing_is_refused(
    build: Build, changes: dict[str, Any], message: str
) -> None:
    if "reasoner" in changes:
        changes = {"reasoner": build().reasoner.model_dump(mode="json") | changes["reasoner"]}
    with pytest.raises(ConfigError, match=message):
        build(**changes)
