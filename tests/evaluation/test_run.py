"""A model answers held-out sets: what is asked and kept, compared, refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.cli.test_cli import run_file
from tests.support.judge_server import JudgeServer
from tests.support.tiny import quietly, tiny_folder
from transformers import AutoTokenizer

from rcsd import config
from rcsd.config.base import parse
from rcsd.data.rows import write_jsonl
from rcsd.data.world.problems import examples
from rcsd.engines.build import chosen_engine
from rcsd.errors import ConfigError, DataError, RunError
from rcsd.evaluation.arms import parse_arms
from rcsd.evaluation.record import read_record, unfinished_folder
from rcsd.evaluation.run import run_eval
from rcsd.evaluation.targets import build_eval_config
from rcsd.graders.grade import Graded
from rcsd.io import digest, read_rows, write_rows
from rcsd.types import Criterion, Example, Rubric

SAYS = Rubric((Criterion("Says 4.", 1, "value"),))


def question(id: str, **changes: Any) -> Example:
    return replace(Example(id, f"{id}?", "4", None, SAYS, {"template": id[0]}), **changes)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The micro model on a handful of problems: shown nothing, the rubrics, a placebo."""
    folder = tmp_path_factory.mktemp("world")
    for name, changes in {
        "base": {"num_samples": 2},
        "shown": {"view": "rubric"},
        "placebo": {"view": "rubric", "rubrics": {"placebo": "shuffled"}},
    }.items():
        tree: dict[str, Any] = {
            "model": {"path": "builtin:micro"},
            "data": {"own": {"type": "world", "split": "new_numbers", "num_examples": 12}},
            "max_tokens": 64,
            "out": str(folder / name),
            **changes,
        }
        run_eval(parse(config.EvalConfig, tree, "test"), quietly)
    return {path.name: path for path in folder.iterdir()}


def test_an_evaluation_holds_completions_record_and_summary(world: dict[str, Path]) -> None:
    found = read_record(world["base"])
    assert list(found.sets["own"].examples) == examples("new_numbers", 12, 0)
    assert (len(found.sets["own"].greedy), len(found.sets["own"].sampled)) == (12, 24)
    record = json.loads((world["base"] / "eval.json").read_text())
    assert set(record["data_sha256"]) == {"own"}
    assert "torch" in record["versions"]
    assert record["model"]["training_seed"] is None
    assert len(record["model"]["digest"]) == 64
    summary = json.loads((world["base"] / "summary.json").read_text())["sets"]["own"]
    assert list(summary["metrics"]) == [
        *("score", "accuracy", "score_avg@2", "accuracy_avg@2", "pass@1", "pass@2")
    ]
    assert summary["sampled"]["num_completions"] == 24


def test_a_placebo_is_what_is_shown_and_not_what_is_graded_by(world: dict[str, Path]) -> None:
    sets = {name: read_record(path).sets["own"] for name, path in world.items()}
    assert sets["placebo"].examples == sets["shown"].examples == sets["base"].examples
    means = {
        name: sum(row.score or 0 for row in of.greedy) / len(of.greedy) for name, of in sets.items()
    }
    assert means["base"] < means["placebo"] < means["shown"]


def compared(world: dict[str, Path], *more: str) -> list[str]:
    return ["compare", *(f"{arm}={world[arm]}" for arm in ("base", "shown", "placebo")), *more]


def test_compare_writes_the_json_that_its_help_describes(
    world: dict[str, Path], tmp_path: Path, rcsd: Any
) -> None:
    path = tmp_path / "found.json"
    more = ["--against", "shown", "--cluster-by", "template", "--json", str(path)]
    code, _, _ = rcsd(*compared(world, *more))
    assert code == 0
    found = json.loads(path.read_text())
    keys = ["arms", "pairs", "cluster_by", "metrics", "criteria", "num_untitled_criteria", "notes"]
    assert list(found) == keys
    assert found["pairs"] == [["base", "shown"], ["placebo", "shown"]]
    assert found["arms"]["base"] == [str(world["base"])]
    assert found["metrics"][0]["means"][0]["n"] < 12  # templates, of which some stand there twice
    kinds = {row["criterion"] for row in found["criteria"]}
    assert {"method", "unit", "mistake"} <= kinds


def test_eval_takes_a_runs_folder_and_its_own_held_out_set(tmp_path: Path, rcsd: Any) -> None:
    data = {"type": "jsonl", "path": str(tmp_path / "rows.jsonl")}
    evaluation = {"data": data, "max_tokens": 4}
    file = run_file(tmp_path, evaluation=evaluation, seed=7)
    rcsd("train", file)
    run = tmp_path / "run"
    code, out, _ = rcsd("eval", str(run), "num_samples=1")
    assert code == 0
    assert "score_avg@1" in out
    found = read_record(run / "eval")
    assert found.model.training_seed == 7
    assert found.model.path == str(run)
    assert list(found.sets) == ["held_out"]
    assert found.config.max_tokens == 4
    code, _, err = rcsd("eval", str(run))
    assert (code, "exists" in err) == (2, True)
    assert parse_arms([str(run / "eval")]) == {"run": [run / "eval"]}


def test_a_runs_evaluations_take_the_students_values_for_the_chat_template(
    tmp_path: Path, rcsd: Any
) -> None:
    tiny_folder(tmp_path / "model")
    template = tmp_path / "model" / "chat_template.jinja"
    text = template.read_text()
    template.write_text(
        text + "{% if enable_thinking is defined %}{{ enable_thinking }}{% endif %}"
    )
    held_out = {"data": {"type": "jsonl", "path": str(tmp_path / "rows.jsonl")}, "max_tokens": 2}
    kwargs = {
        "student_kwargs": {"enable_thinking": "off"},
        "teacher_kwargs": {"enable_thinking": "on"},
    }
    rcsd("train", run_file(tmp_path, evaluation=held_out, views=kwargs))
    run = tmp_path / "run"
    assert '{"enable_thinking": "off"}' in (run / "model" / "README.md").read_text()
    tokenizer: Any = AutoTokenizer.from_pretrained(run / "model")

    def prompt(mode: str) -> str:
        turn = [{"role": "user", "content": "2 + 2?"}]
        text = tokenizer.apply_chat_template(
            turn, tokenize=False, add_generation_prompt=True, enable_thinking=mode
        )
        return digest(json.dumps(tokenizer(text, add_special_tokens=False)["input_ids"]))

    [during] = read_rows(next(run.glob("evaluations/*.jsonl")))
    assert during["prompt_sha256"] == prompt("off")
    for out, mode, overrides in (
        ("eval", "off", []),
        ("other", "on", ["model.chat_template_kwargs={enable_thinking: 'on'}"]),
    ):
        code, *_ = rcsd("eval", str(run), f"out={tmp_path / out}", *overrides)
        assert code == 0
        [row] = read_rows(tmp_path / out / "completions.jsonl")
        assert row["prompt_sha256"] == prompt(mode)
        record = read_record(tmp_path / out)
        assert record.config.model.chat_template_kwargs == {"enable_thinking": mode}


# Errors


def test_a_run_without_held_out_set_needs_one(tmp_path: Path, rcsd: Any) -> None:
    rcsd("train", run_file(tmp_path))
    run = tmp_path / "run"
    with pytest.raises(ConfigError, match=r"there is no set; name tasks.*data\.mine"):
        build_eval_config(str(run))
    overrides = ["data.mine={type: jsonl, path: x.jsonl}", "view=answer"]
    settings = build_eval_config(str(run), overrides)
    assert list(settings.data) == ["mine"]
    assert settings.view == "answer"
    assert settings.out == run / "eval"
    with pytest.raises(ConfigError, match="did you mean 'view'"):
        build_eval_config(str(run), [*overrides, "viev=none"])
    with pytest.raises(RunError, match=r"neither a run \(no run\.json\) nor a model"):
        build_eval_config(str(tmp_path))
    record = json.loads((run / "run.json").read_text())
    record["config"]["views"]["writes"] = "rubric"
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(RunError, match="rcsd rubrics"):
        build_eval_config(str(run))


def settings(folder: Path, **changes: Any) -> config.EvalConfig:
    """Two questions for a tiny model."""
    write_jsonl([question("a"), question("b", rubric=None)], folder / "rows.jsonl")
    tree = {
        "model": {"path": str(folder / "model")},
        "data": {"own": {"type": "jsonl", "path": str(folder / "rows.jsonl")}},
        "out": str(folder / "out"),
        "max_tokens": 4,
    }
    return parse(config.EvalConfig, tree | changes, "test")


def test_an_example_that_does_not_fit_is_an_error_and_leaves_no_folder(tmp_path: Path):
    tiny_folder(tmp_path / "model")
    with pytest.raises(DataError, match="no example is left"):
        run_eval(settings(tmp_path, max_prompt_tokens=1), quietly)
    with pytest.raises(DataError, match="'b' has none, but the view 'rubric' shows it"):
        run_eval(settings(tmp_path, view="rubric"), quietly)
    long = question("a", question="long " * 200)
    write_jsonl([long, question("b")], tmp_path / "long.jsonl")
    data = {"own": {"type": "jsonl", "path": str(tmp_path / "long.jsonl")}}
    with pytest.raises(DataError, match=r"data\.own.*held-out example 'a': a prompt of"):
        run_eval(settings(tmp_path, data=data, max_prompt_tokens=100), quietly)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("tasks", "overrides", "message"),
    [(["sciq", "piqua"], [], r"data\.piqua\.name: .*'piqa'.*got 'piqua'")],
)
def test_a_task_that_is_not_there_or_not_asked_is_named(
    tasks: list[str], overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build_eval_config("builtin:micro", overrides, tasks)


def test_what_of_a_benchmark_was_not_asked_or_judged_is_said(tmp_path: Path, rcsd: Any) -> None:
    tiny_folder(tmp_path / "model")
    rows = [
        {"question": "Why?", "reference_answer": "So.", "question_source": "s", "rubric": rubric}
        for rubric in ([{"title": "A", "description": "Essential Criteria: A.", "weight": 5}], [])
    ]
    write_rows(tmp_path / "rar.jsonl", rows)
    out = tmp_path / "out"
    words = ["eval", tmp_path / "model", "--tasks", "rar-science", f"out={out}", "max_tokens=4"]
    source = f"data.rar-science.path={tmp_path / 'rar.jsonl'}"
    code, shown, _ = rcsd(*words, source, "data.rar-science.partial=true")
    assert code == 0
    assert "rar-science: 2 rows, and 2292 were published: this is no result" in shown
    assert "rar-science: 1 of 2 rows cannot be asked or graded and are left out: 1 " in shown
    assert "greedy: criteria without a verdict: 1 the criterion has no check" in shown
    assert f"rcsd rejudge {out} --judge FILE" in shown


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"greedy": False}, "nothing is answered"),
        ({"rubrics": {"placebo": "random"}}, "the view 'none' shows no rubric"),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
):
    with pytest.raises(ConfigError, match=message):
        settings(tmp_path, **changes)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--against", "best"], "no such arm; there are base, shown, placebo"),
        (["--metric", "f1"], "there are score, accuracy"),
        (["--cluster-by", "topic"], "tags.topic"),
        (["--json", "/nowhere/x.json"], "no such folder"),
    ],
)
def test_what_cannot_be_compared_ends_with_an_error(
    world: dict[str, Path], rcsd: Any, more: list[str], message: str
) -> None:
    code, _, err = rcsd(*compared(world, *more))
    assert code == 2
    assert message in err.replace("\n", "")


# Cut off


class BreaksOff:
    """An engine that a kill ends after some calls."""

    def __init__(self, engine: Any, num_calls: int) -> None:
        self.engine, self.left = engine, num_calls

    def sample(self, *asked: Any) -> Any:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return self.engine.sample(*asked)


def test_an_evaluation_that_was_cut_off_goes_on_and_finds_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_folder(tmp_path / "model")
    changes = {"num_samples": 9, "batch_size": 1}  # calls of eight prompts
    whole = settings(tmp_path, **changes, out=str(tmp_path / "whole"))
    run_eval(whole, quietly)
    cut = settings(tmp_path, **changes)
    calls: list[BreaksOff] = []

    def breaks_off(section: None, policy: Any, batch_size: int, longest: int) -> Any:
        calls.append(
            BreaksOff(chosen_engine(section, policy, batch_size, longest), 2 if not calls else 9)
        )
        return calls[-1]

    monkeypatch.setattr("rcsd.evaluation.run.chosen_engine", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        run_eval(cut, quietly)
    with pytest.raises(RunError, match=r"cut off, and differs in max_tokens; delete that folder"):
        run_eval(cut.model_copy(update={"max_tokens": 3}), quietly)
    run_eval(cut, quietly)
    assert calls[1].left == 9 - 2  # two of the four calls had been kept
    for name in ("completions.jsonl", "summary.json"):
        assert (cut.out / name).read_bytes() == (whole.out / name).read_bytes()
    assert not (cut.out / "request.json").exists()
    [row, *_] = map(json.loads, (cut.out / "completions.jsonl").read_text().splitlines())
    assert (row["bounds"], row["unscored"]) == ([0.0, 1.0], ["the criterion has no check"])
    assert len(row["prompt_sha256"]) == 64
    with pytest.raises(RunError, match="out exists"):
        run_eval(cut, quietly)


def test_two_processes_do_not_write_one_evaluation(tmp_path: Path) -> None:
    with (
        unfinished_folder(tmp_path / "out", {"a": 1}),
        pytest.raises(RunError, match="another process writes"),
        unfinished_folder(tmp_path / "out", {"a": 1}),
    ):
        pass


# Judged by models


def test_an_evaluation_keeps_what_its_judges_say_and_tells_where_they_differ(
    tmp_path: Path, rcsd: Any
) -> None:
    tiny_folder(tmp_path / "model")
    rubric = [{"criterion": "Says 4.", "weight": 1}, {"criterion": "Errs.", "weight": -1}]
    write_rows(tmp_path / "rows.jsonl", [{"question": "2 + 2?", "rubric": rubric}])
    servers = [JudgeServer(), JudgeServer(lambda criterion, *_: "4" in criterion)]
    try:
        for number, server in enumerate(servers):
            server.explanation, server.about = "It <b>is</b>.", {"model": f"m{number}-2026"}
        judges = [
            {"type": "model", "url": server.url, "model": f"m{number}"}
            for number, server in enumerate(servers)
        ]
        (tmp_path / "judges.yaml").write_text(json.dumps({"judge": judges}))
        words = ["eval", tmp_path / "model", "--judge", tmp_path / "judges.yaml", "max_tokens=4"]
        words.append(f"data.own={{type: jsonl, path: {tmp_path / 'rows.jsonl'}}}")
        code, out, _ = rcsd(*words, f"out={tmp_path / 'out'}")
    finally:
        for server in servers:
            server.close()
    assert code == 0
    assert "The judges differ on 50.0% of 2 criteria" in out
    assert "criteria without a verdict: 1 no majority" in out
    [row] = read_record(tmp_path / "out").sets["own"].greedy
    assert row.verdicts == (True, None)
    both = "m0: met. It <b>is</b>.\nm1: not met. It <b>is</b>."
    assert row.explanations[1] == both
    judging = json.loads((tmp_path / "out" / "eval.json").read_text())["judging"]
    assert [each["models"][0]["model"] for each in judging["judges"]] == ["m0-2026", "m1-2026"]
    assert judging["agreement"]["differ_share"] == 0.5
    assert Graded.from_row({k: v for k, v in row.row().items() if k != "explanations"}) == replace(
        row, explanations=()
    )
