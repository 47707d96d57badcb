"""The probe: contexts, gaps, and end to end."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.cli.test_cli import run_file
from tests.cli.test_cli import said as run_rcsd
from tests.support.asked import SAYS_NO, SAYS_YES, question
from tests.support.tiny import tiny_folder, tiny_model, tiny_tokenizer

from rcsd import config
from rcsd.data.prompts import PromptPair, build_prompts
from rcsd.data.world.problems import examples
from rcsd.engines.hf import HfEngine
from rcsd.engines.scripted import ScriptedEngine
from rcsd.errors import ConfigError
from rcsd.methods.rollouts import RolloutWorker
from rcsd.models.memory import microbatch_limit
from rcsd.models.policy import Policy, build_policy
from rcsd.models.scorer import Scorer
from rcsd.models.teacher import build_teacher
from rcsd.recipes.probe import (
    Context,
    Prober,
    build_contexts,
    draw_examples,
    probe,
    rank_completions,
)
from rcsd.recipes.probe_numbers import (
    STUDENT,
    TEACHER,
    GradedGap,
    Headroom,
    Ranking,
    measure_headroom,
)
from rcsd.types import Completion, Decoding, Example, Rollout, Rubric


def policy(training: config.Lora | config.FullFineTuning) -> Policy:
    return build_policy(tiny_model(), tiny_tokenizer(), training)


FULL, LORA = config.FullFineTuning(), config.Lora(rank=4, alpha=8)


def world_prompts(model: Policy, num: int = 3) -> list[PromptPair]:
    return build_prompts(examples("train", num, 0), config.Views(), model.tokenizer, 1000)[0]


# Headroom, with a scripted engine


def scripted(model: Policy, *texts: str) -> Prober:
    """One who says these texts in turn."""
    engine = ScriptedEngine([Completion((5, 1), text, True) for text in texts])
    return Prober(model, engine, config.Views(), Decoding(8), 1000)


def headroom_of(prober: Prober, asked: list[Example], contexts: list[Context]) -> Headroom:
    all_contexts = [Context(STUDENT, "none", asked), *contexts]
    student, *others = [prober.answers(asked, context) for context in all_contexts]
    return measure_headroom(student, others)


def test_each_context_is_asked_and_graded_by_the_own_rubric() -> None:
    asked = [question(n, SAYS_YES, SAYS_NO) for n in range(2)]
    other = [replace(example, rubric=Rubric((SAYS_YES,))) for example in asked]
    contexts = [Context(TEACHER, "rubric", asked), Context("written", "rubric", other)]
    answerer = scripted(policy(FULL), "no", "no", "yes", "yes", "yes no", "yes")
    found = headroom_of(answerer, asked, contexts)
    means = [gain.mean if (gain := found.gain(c.name)) else None for c in contexts]
    assert means == [1.0, 0.5]


def test_a_context_that_an_example_cannot_give_leaves_it_out() -> None:
    asked = [question(0, SAYS_YES, reference="7"), question(1, SAYS_YES)]
    contexts = [Context("answer", "answer", asked), Context("solution", "solution", asked)]
    found = headroom_of(scripted(policy(FULL), "yes"), asked, contexts).contexts[1:]
    assert [c.counts[:2] for c in found] == [(1, 1), (0, 2)]
    assert found[1].gain is None


def test_a_sample_keeps_the_order_and_hangs_on_the_seed() -> None:
    asked = [question(n) for n in range(20)]
    ids = [int(example.id[1:]) for example in draw_examples(asked, 6, 0)]
    assert ids == sorted(ids)
    assert len(ids) == 6
    assert draw_examples(asked, 6, 0) == draw_examples(asked, 6, 0) != draw_examples(asked, 6, 1)
    assert draw_examples(asked, 99, 0) == asked


def test_contexts_hold_every_placebo_and_the_views_that_the_run_has_not() -> None:
    everyone = examples("train", 6, 0)
    views = config.Views()
    found, impossible = build_contexts(everyone[:2], everyone, views, config.NoPlacebo(), 0)
    names = "teacher generic shuffled random reduced noisy answer solution rubric+answer"
    assert [context.name for context in found] == names.split()
    assert {len(context.examples) for context in found} == {2}
    assert impossible == {}
    alone, impossible = build_contexts(everyone[:1], everyone[:1], views, config.NoPlacebo(), 0)
    assert {"shuffled", "random", "noisy"} == set(impossible)
    assert "generic" in [context.name for context in alone]
    views = config.Views(teacher="solution")
    bare, _ = build_contexts(everyone, everyone, views, config.NoPlacebo(), 0)
    assert [context.name for context in bare] == ["teacher", "rubric", "answer", "rubric+answer"]


# Gaps, on a model


def test_gaps_are_log_p_minus_log_q_of_the_whole_models_logits() -> None:
    model, temperature = policy(FULL), 0.7
    prompts = world_prompts(model)
    rollouts = [
        Rollout(p.example, p.student_ids, p.teacher_ids, Completion((7, 9, 1), text, True))
        for p in prompts
        for text in ("Answer: 1", "Answer: 2")
    ]
    worker = RolloutWorker(
        model,
        Scorer(model.model),
        HfEngine(model, 8),
        Decoding(1, temperature),
        2,
        microbatch_limit(4096),
        0,
    )
    seen: list[GradedGap] = []
    with pytest.MonkeyPatch.context() as patched:

        def record(name: str, graded: list[GradedGap], *_: object) -> Ranking:
            seen.extend(graded)
            return Ranking(name, 0, None)

        patched.setattr("rcsd.recipes.probe.measure_ranking", record)
        teacher = build_teacher(config.FrozenTeacher(), model)
        rank_completions(rollouts, "accuracy", scripted(model, ""), (worker, teacher), [])
    assert len(seen) == len(rollouts)

    def slow(prompt: tuple[int, ...], ids: tuple[int, ...]) -> torch.Tensor:
        with torch.no_grad():
            logits_LV = model.model(torch.tensor([[*prompt, *ids]])).logits[0] / temperature
        log_q_LV = logits_LV.log_softmax(-1)[len(prompt) - 1 : -1]
        return log_q_LV.gather(-1, torch.tensor(ids)[:, None])[:, 0]

    for rollout, graded in zip(rollouts, seen, strict=True):
        ids = rollout.completion.token_ids
        gaps = slow(rollout.teacher_ids, ids) - slow(rollout.student_ids, ids)
        assert graded.gap == pytest.approx(gaps.sum().item(), abs=3e-4)


# End to end, and errors


@pytest.mark.slow  # fast: the two below
def test_the_command_measures_the_micro_model_and_advises_to_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run_file(
        tmp_path,
        model={"path": "builtin:micro", "training": {"type": "full"}},
        data={"type": "world", "num_examples": 12},
        sampling={"max_tokens": 80},
        examples_per_step=4,
    )
    words = ("probe", path, "--num-examples", "8", "--num-samples", "2")
    code, out, err = run_rcsd(monkeypatch, capsys, *words)
    assert code == 0
    assert "train" in out
    assert "80 answers (10 contexts x 8 questions) of up to 80 tokens" in err
    found = json.loads((tmp_path / "run-probe" / "probe.json").read_text())
    contexts = {row["context"]: row["gain"]["mean"] for row in found["headroom"]["contexts"][1:]}
    assert contexts["teacher"] > 0.8
    assert contexts["teacher"] > contexts["reduced"] > contexts["shuffled"]
    assert [row["teacher"] for row in found["rankings"]] == ["teacher", "generic", "shuffled"]
    assert found["num_completions"] == 16
    assert found["advice"]["verdict"] == "train"
    assert not (tmp_path / "run").exists()

    code, _, err = run_rcsd(monkeypatch, capsys, *words)
    assert (code, "--out" in err) == (2, True)


def test_without_grades_the_other_parts_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"question": f"{n}?", "rubric": [{"criterion": f"Names {n}.", "weight": 1}]}
        for n in range(3)
    ]
    out_folder = tmp_path / "elsewhere" / "deep"
    code, out, _ = run_rcsd(
        monkeypatch, capsys, "probe", run_file(tmp_path, rows), "--out", str(out_folder)
    )
    assert code == 0
    assert "No answer can be graded" in out
    assert "cannot tell" in out
    found = json.loads((out_folder / "probe.json").read_text())
    assert found["headroom"]["metric"] is None
    assert found["num_ungraded"] == found["num_completions"]


def test_a_probe_reads_the_held_out_examples_where_there_are_some(tmp_path: Path) -> None:
    held_out = {"type": "world", "split": "new_numbers", "num_examples": 3}
    tree: dict[str, Any] = {
        "model": {"path": tiny_folder(tmp_path / "model"), "training": {"type": "full"}},
        "data": {"type": "world", "num_examples": 5},
        "method": {"type": "distill"},
        "optim": {"lr": 1e-3},
        "sampling": {"max_tokens": 4},
        "evaluation": {"data": held_out, "max_tokens": 6},
        "steps": 1,
        "out": str(tmp_path / "run"),
    }
    stages: list[str] = []
    costs: list[str] = []
    found = probe(
        config.parse_config(tree), 2, 2, lambda stage, *_: stages.append(stage), costs.append
    )
    assert "20 answers (10 contexts x 2 questions) of up to 6 tokens; 4 completions" in costs[0]
    assert (found.num_available, found.num_questions) == (3, 2)
    assert list(dict.fromkeys(stages)) == ["answers", "ranking"]
    for change, message in (
        ({"method": {"type": "suppress"}}, "method.type"),
        ({"views": {"writes": "rubric"}}, "views.writes"),
    ):
        with pytest.raises(ConfigError, match=message):
            probe(config.parse_config(tree | change))
    tree["method"] = {"type": "distill", "support": {"type": "teacher_top_k", "k": 10_000}}
    with pytest.raises(ConfigError, match=r"method\.support\.k"):
        probe(config.parse_config(tree), 2, 2)
