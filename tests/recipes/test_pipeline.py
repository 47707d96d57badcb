"""Two stages in one: what is made, what is reused, what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from tests.support.tiny import tiny_folder

from rcsd import config
from rcsd.config.base import parse
from rcsd.config.data import PlaceboArm
from rcsd.data.rows import read_jsonl, write_jsonl
from rcsd.data.rubric import parse_rubric
from rcsd.data.world.problems import examples
from rcsd.errors import ConfigError, DataError, RunError
from rcsd.evaluation.report import Difference
from rcsd.evaluation.statistics import Interval
from rcsd.recipes import pipeline_steps
from rcsd.recipes.findings import run_and_report
from rcsd.recipes.pipeline import Plan, run
from rcsd.recipes.pipeline_config import Pipeline
from rcsd.recipes.sentences import findings_of
from rcsd.runs import RunFolder
from rcsd.types import Example


def settings(folder: Path, **changes: Any) -> Pipeline:
    """A pipeline of seconds on a random two-layer model."""
    model = folder / "model"
    if not model.exists():
        tiny_folder(model)
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
        "model": {"path": str(model), "training": {"type": "full"}},
        "writer": writer,
        "writing": {"view": "answer", "max_tokens": 64, "grammar": grammar},
        "reasoner": stage,
        "arms": ["gold", "learned", "direct", "shuffled"],
        "evaluation": {"data": {"new_numbers": held_out}, "max_tokens": 8, "num_ordered": 2},
        "out": str(folder / "out"),
    }
    return parse(Pipeline, tree | changes, "test")


def quietly(stage: str, done: int, total: int, note: str) -> None:
    """Tell nobody."""


def made(folder: Path) -> dict[str, float]:
    """When each file that a pipeline made was written."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_pipeline_makes_rubrics_runs_answers_and_a_report(tmp_path: Path) -> None:
    pipeline = settings(tmp_path)
    outcome = run_and_report(pipeline, "Test", "tiny", {"more": 1}, quietly)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert {"base", "teacher", "gold", "learned", "direct", "shuffled"} <= set(summary["arms"])
    assert summary["arms"]["rcsd"] == summary["arms"]["gold"]
    assert summary["writing"]["learned"]["num_valid"] == 6 + 3
    assert summary["num_left_out"] == {"new_numbers": {"score": 0, "accuracy": 0}}
    assert set(summary["rubrics"]) == {"learned", "direct"}
    assert summary["more"] == 1
    assert outcome.report.is_file()
    assert "Written rubrics against gold" in outcome.report.read_text()
    [questions] = (tmp_path / "out").glob("rubrics-learned-questions-*/rows.jsonl")
    rows = read_jsonl(questions)
    assert [row.id for row in rows] == [e.id for e in examples("train", 6, 0)]
    assert all(row.tags["rubric_source"].startswith(str(tmp_path)) for row in rows)


def test_an_arms_reasoner_is_trained_with_the_rubrics_that_were_written_for_it(
    tmp_path: Path,
) -> None:
    found = run(settings(tmp_path), quietly)
    for arm in ("learned", "direct"):
        path = Path(found.folders[arm].read_record()["config"]["data"]["path"])
        assert path.parent.name.startswith(f"rubrics-{arm}-questions-")
    placebo = found.folders["shuffled"].read_record()["config"]
    assert placebo["rubrics"]["placebo"]["type"] == "shuffled"
    assert placebo["data"] == found.folders["gold"].read_record()["config"]["data"]


def test_every_placebo_is_an_arm_that_is_compared_with_gold(tmp_path: Path) -> None:
    placebos = get_args(PlaceboArm)
    pipeline = settings(tmp_path, arms=["gold", *placebos], writer=None, seed=3)
    outcome = run_and_report(pipeline, "Test", "tiny", {}, quietly)
    assert set(outcome.summary["arms"]) == {"base", "teacher", "gold", "rcsd", *placebos}
    records = {
        arm: RunFolder(path.parent).read_record()
        for arm in ("gold", *placebos)
        for path in (tmp_path / "out").glob(f"reasoner-{arm}-*/run.json")
    }
    for arm in placebos:
        placebo = records[arm]["config"]["rubrics"]["placebo"]
        assert placebo["type"] == arm
        assert placebo.get("seed", 3) == 3
        assert records[arm]["config"]["data"] == records["gold"]["config"]["data"]
    assert len({record["data_sha256"] for record in records.values()}) == 1 + len(placebos)
    page = outcome.report.read_text()
    for arm in placebos:
        assert f"gold - {arm}" in page
        assert f"{arm} - base" in page
    [gold] = [text for text in outcome.findings if text.startswith("Distilled with gold")]
    assert "over the placebo of generic rubrics" in gold
    assert "of shuffled rubrics" in gold
    assert "of random rubrics" in gold
    assert "with whole rubrics over reduced ones" in gold
    assert "and over noisy ones" in gold


def test_help_of_the_content_is_said_only_where_every_empty_placebo_is_beaten() -> None:
    def said(**gaps: tuple[float, float]) -> str:
        intervals = {"gold - base": Interval(0.5, 0.4, 0.6, 9)}
        for name, (low, high) in gaps.items():
            intervals[f"gold - {name}"] = Interval((low + high) / 2, low, high, 9)
        differences = [Difference(label, "own", "score", i) for label, i in intervals.items()]
        estimates = {("gold", "own", "score"): Interval(0.9, 0.8, 1.0, 9)}
        [sentence] = findings_of("own", estimates, differences, {})
        return sentence

    assert "what the rubrics say helps" in said(generic=(0.1, 0.3), random=(0.2, 0.4))
    assert "no help of the rubrics' content is shown" in said(generic=(-0.1, 0.3), random=(0.2, 1))
    # Half of the content may be enough, and content may still be what helps.
    assert "what the rubrics say helps" in said(shuffled=(0.1, 0.3), noisy=(-0.2, 0.1))
    assert "content" not in said(reduced=(0.1, 0.2))
    assert said(reduced=(0.1, 0.2)).endswith(
        "with whole rubrics over reduced ones 0.15 [0.10, 0.20]."
    )


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    run(settings(tmp_path), quietly)
    before = made(tmp_path / "out")
    told: dict[str, str] = {}
    run(settings(tmp_path), lambda stage, done, total, note: told.update({stage: note}))
    assert made(tmp_path / "out") == before
    assert set(told.values()) == {"done before"}


def test_a_merge_that_was_cut_off_is_made_again(tmp_path: Path) -> None:
    lora = config.Model(path=tiny_folder(tmp_path / "model"), training=config.Lora(rank=2, alpha=4))
    stage = settings(tmp_path).reasoner
    run_of = config.Config(**dict(stage), model=lora, out=tmp_path / "run")
    merged = tmp_path / "run" / "merged"
    pipeline_steps.train_and_merge(quietly, "warm start", run_of, merged)
    whole = {path.name for path in merged.iterdir()}
    merged.rename(tmp_path / "run" / "merged.unfinished")
    (tmp_path / "run" / "merged.unfinished" / "config.json").unlink()
    pipeline_steps.train_and_merge(quietly, "warm start", run_of, merged)
    assert {path.name for path in merged.iterdir()} == whole


def test_a_change_of_stage_2_keeps_the_writer_and_its_rubrics(tmp_path: Path) -> None:
    first = settings(tmp_path)
    run(first, quietly)
    before = made(tmp_path / "out")
    again = first.model_copy(
        update={"reasoner": first.reasoner.model_copy(update={"optim": config.Optim(lr=1e-4)})}
    )
    run(again, quietly)
    added = {name.split("/")[0] for name in made(tmp_path / "out").keys() - before.keys()}
    kinds = {name.rsplit("-", 1)[0] for name in added}
    trained = {"gold", "learned", "direct", "shuffled"}
    assert kinds == {f"reasoner-{arm}" for arm in trained} | {f"answers-{arm}" for arm in trained}


@pytest.mark.parametrize("step", ["train writer", "write learned rubrics", "train learned"])
def test_a_pipeline_that_was_cut_off_goes_on_and_finds_the_same(tmp_path: Path, step: str) -> None:
    whole = run(settings(tmp_path, out=str(tmp_path / "whole")), quietly)

    class KilledError(Exception):
        """A kill in the middle of a step."""

    def kill(stage: str, done: int, total: int, note: str) -> None:
        if stage == step and done >= 1:
            raise KilledError

    with pytest.raises(KilledError):
        run(settings(tmp_path), kill)
    found = run(settings(tmp_path), quietly)
    assert {arm: [row.text for row in sets["new_numbers"]] for arm, sets in found.rows.items()} == {
        arm: [row.text for row in sets["new_numbers"]] for arm, sets in whole.rows.items()
    }


@pytest.mark.slow
def test_several_jobs_make_what_one_makes(tmp_path: Path) -> None:
    one = run(settings(tmp_path, out=str(tmp_path / "one")), quietly)
    two = run(settings(tmp_path, out=str(tmp_path / "two"), jobs=2), quietly)
    assert one.rows == two.rows


def products(pipeline: Pipeline) -> dict[str, str]:
    """Folder of everything that a pipeline makes, by what it is."""
    plan = Plan(pipeline)
    made = {f"run {arm}": folder.path.name for arm, folder in plan.folders.items()}
    made |= {f"answers {answering.arm}": answering.folder.name for answering in plan.answerings}
    made |= {f"samples {name}": path.parent.name for name, path in plan.samples.items()}
    made |= {f"questions {writer}": path.parent.name for writer, path in plan.questions.items()}
    for writer, files in plan.written.items():
        made |= {f"rubrics {writer} {name}": path.parent.name for name, path in files.items()}
    return made


ALL = {"run", "answers", "samples", "questions", "rubrics"}
LEARNED = {"run writer", "run learned", "questions learned", "rubrics learned new_numbers"}
LEARNED |= {"answers learned", "answers teacher, learned rubric"}
ARMS = ("gold", "learned", "direct", "shuffled")
REASONERS = {f"{what} {arm}" for what in ("run", "answers") for arm in ARMS}
LORA = {"type": "lora", "rank": 2, "alpha": 4}


@pytest.mark.parametrize(
    ("key", "value", "changed"),
    [
        ("jobs", 3, set()),
        ("seed", 1, ALL),
        ("model.path", "other", ALL),
        ("model.training", LORA, ALL),
        ("model.attention", "eager", ALL),
        ("model.revision", "abc", ALL),
        ("model.chat_template", "template.jinja", ALL),
        ("model.chat_template_kwargs", {"enable_thinking": False}, ALL),
        ("writer.steps", 3, LEARNED),
        ("writer.optim.lr", 1e-4, LEARNED),
        ("writer.data.num_examples", 7, LEARNED),
        ("writer.views.templates", "words", LEARNED),
        ("writing.temperature", 1.2, {"questions", "rubrics", "run learned", "run direct"}),
        ("writing.templates", "words", {"questions", "rubrics", "run learned", "run direct"}),
        ("reasoner.steps", 3, REASONERS),
        ("reasoner.data.num_examples", 7, REASONERS | {"questions"}),
        ("reasoner.views.templates", "words", REASONERS | {"answers", "samples"}),
        ("reasoner.sampling.max_prompt_tokens", 900, REASONERS | {"answers", "samples"}),
        ("evaluation.max_tokens", 9, {"answers", "samples"}),
        ("evaluation.num_ordered", 3, {"samples"}),
        ("evaluation.data.new_numbers.num_examples", 4, {"answers", "samples", "rubrics"}),
        ("evaluation.data.new_numbers.seed", 4, {"answers", "samples", "rubrics"}),
    ],
)
def test_everything_that_goes_into_a_product_is_in_its_name(
    tmp_path: Path, key: str, value: Any, changed: set[str]
) -> None:
    tiny_folder(tmp_path / "other", seed=1)
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "write_rubric.jinja").write_text("{{ question }}")
    (tmp_path / "template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    first = settings(tmp_path)
    # A writer's temperature names the arms that learn from it and what they are shown.
    if key in ("model.path", "model.chat_template") or key.endswith("templates"):
        value = str(tmp_path / value)
    tree: dict[str, Any] = first.model_dump(mode="json", exclude_unset=True)
    *parents, last = key.split(".")
    section = tree
    for parent in parents:
        section = section.setdefault(parent, {})
    section[last] = value
    before, after = products(first), products(parse(Pipeline, tree, "test"))
    found = {name for name in before if before[name] != after[name]}
    expected = {n for n in before if n in changed or n.split()[0] in changed}
    if "run learned" in expected or "questions" in changed:
        shown = ("learned", "teacher, learned rubric")
        expected |= {n for n in before if n.startswith("answers") and n[8:] in shown} & found
    if "run direct" in expected or "questions" in changed:
        shown = ("direct", "teacher, direct rubric")
        expected |= {n for n in before if n.startswith("answers") and n[8:] in shown} & found
    assert found == expected


def test_words_that_change_under_the_same_path_change_the_names(tmp_path: Path) -> None:
    words = tmp_path / "words"
    words.mkdir()
    (words / "write_rubric.jinja").write_text("{{ question }} A")
    writer = settings(tmp_path).writer
    assert writer is not None
    tree = writer.model_dump(mode="json", exclude_unset=True)
    tree["views"]["templates"] = str(words)
    pipeline = settings(tmp_path, writer=tree)
    before = products(pipeline)
    (words / "write_rubric.jinja").write_text("{{ question }} B")
    after = products(pipeline)
    assert before["run writer"] != after["run writer"]
    assert before["questions learned"] != after["questions learned"]
    assert before["questions direct"] == after["questions direct"]


def test_a_folder_that_holds_another_run_is_refused(tmp_path: Path) -> None:
    found = run(settings(tmp_path), quietly)
    record = found.folders["gold"].record
    record.write_text(record.read_text().replace('"lr": 0.001', '"lr": 0.002'))
    with pytest.raises(RunError, match="holds another run than its name says"):
        run(settings(tmp_path), quietly)


def test_held_out_questions_among_the_training_questions_are_refused(tmp_path: Path) -> None:
    train = {"type": "world", "num_examples": 6}
    evaluation = {"data": {"leaked": train}, "max_tokens": 8, "num_ordered": 2}
    with pytest.raises(DataError, match=r"leaked': 6 of its questions stand in reasoner\.data"):
        Plan(settings(tmp_path, evaluation=evaluation))


def test_rubrics_that_no_check_decides_give_a_report_without_scores(tmp_path: Path) -> None:
    def unchecked(split: Any, name: str) -> dict[str, str]:
        rows = [
            replace(row, tags={}, rubric=parse_rubric([{"criterion": "Is right.", "weight": 1.0}]))
            for row in examples(split, 4, seed=5)
        ]
        write_jsonl(rows, tmp_path / name)
        return {"type": "jsonl", "path": str(tmp_path / name)}

    stage = settings(tmp_path).reasoner.model_dump(mode="json")
    data = unchecked("train", "train.jsonl")
    held_out = {"own": unchecked("new_numbers", "test.jsonl")}
    evaluation = {"data": held_out, "max_tokens": 8, "num_ordered": 2}
    changes = {"reasoner": stage | {"data": data}, "arms": ["direct", "gold"]}
    pipeline = settings(tmp_path, **changes, evaluation=evaluation)
    summary = run_and_report(pipeline, "Test", "tiny", {}, quietly).summary
    assert set(summary["arms"]["gold"]["own"]) == {"accuracy"}
    assert summary["num_left_out"]["own"]["score"] == 4
    assert "f1" in summary["rubrics"]["direct"]["own"]


def test_questions_without_rubrics_are_given_learned_ones_and_their_placebo(
    tmp_path: Path,
) -> None:
    def bare(split: Any, name: str) -> dict[str, str]:
        rows = [Example(r.id, r.question, r.reference_answer) for r in examples(split, 4, seed=2)]
        write_jsonl(rows, tmp_path / name)
        return {"type": "jsonl", "path": str(tmp_path / name)}

    stage = settings(tmp_path).reasoner.model_dump(mode="json")
    data = bare("train", "train.jsonl")
    held_out = {"data": {"own": bare("new_numbers", "test.jsonl")}}
    held_out |= {"max_tokens": 8, "num_ordered": 2}
    changes = {"reasoner": stage | {"data": data}, "arms": ["learned", "shuffled"]}
    pipeline = settings(tmp_path, **changes, evaluation=held_out)
    outcome = run_and_report(pipeline, "Test", "tiny", {}, quietly)
    # Without gold there is no score and no teacher, and nothing pretends that there were.
    assert set(outcome.summary["arms"]) == {"base", "learned", "shuffled"}
    assert set(outcome.summary["arms"]["learned"]["own"]) == {"accuracy"}
    assert outcome.summary["rubrics"] == {}
    with pytest.raises(ConfigError, match="arms: gold needs a rubric in every row"):
        run(settings(tmp_path, reasoner=stage | {"data": data}), quietly)


def test_a_warm_start_comes_first_and_everything_starts_from_it(tmp_path: Path) -> None:
    plain = settings(tmp_path)
    warm = plain.reasoner.model_dump(mode="json") | {
        "data": {"type": "world", "num_examples": 6, "rubrics": "drawn"},
        "method": {"type": "sft", "view": "rubric"},
    }
    lora = {"path": str(tmp_path / "model"), "training": {"type": "lora", "rank": 2, "alpha": 4}}
    found = run(settings(tmp_path, model=lora, warm_start=warm, arms=["gold"]), quietly)
    merged = found.folders["warm start"].path / "merged"
    assert found.folders["gold"].read_record()["config"]["model"]["path"] == str(merged)
    assert "base, before the warm start" in found.rows
    assert not found.written


def test_a_held_out_prompt_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    stage = settings(tmp_path).reasoner.model_dump(mode="json")
    stage["sampling"] = {"max_tokens": 8, "max_prompt_tokens": 150}
    with pytest.raises(DataError, match=r"field 'evaluation\.data': held-out example"):
        run(settings(tmp_path, reasoner=stage), quietly)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"writer": None}, "the arm 'learned' needs a writer"),
        ({"arms": ["gold", "gold"]}, "an arm stands there twice"),
        ({"writing": {"view": "none"}}, "set writing.view to the writer's"),
        ({"arms": []}, "at least 1 item"),
        ({"arms": ["god"]}, "arms.0"),
        ({"reasoner.views": {"teacher": "answer"}}, "so the arm 'shuffled' replaces nothing"),
    ],
)
def test_a_pipeline_that_means_nothing_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    for key in [key for key in changes if "." in key]:
        section, field = key.split(".")
        stage = settings(tmp_path).model_dump(mode="json")[section]
        changes = {section: stage | {field: changes[key]}}
    with pytest.raises(ConfigError, match=message):
        settings(tmp_path, **changes)


def test_a_broken_file_of_answers_is_named(tmp_path: Path) -> None:
    found = run(settings(tmp_path), quietly)
    assert found.rows["base"]["new_numbers"]
    [path] = (tmp_path / "out").glob("answers-base-*/new_numbers.jsonl")
    path.write_text("{}\n")
    with pytest.raises(DataError, match="answers-base"):
        run(settings(tmp_path), quietly)


def test_steps_that_are_done_load_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    def refuse(section: config.Model) -> None:
        raise AssertionError(section.path)

    first = run(settings(tmp_path), quietly)
    monkeypatch.setattr(pipeline_steps, "load_trained", refuse)
    assert run(settings(tmp_path), quietly).rows == first.rows
