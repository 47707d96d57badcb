"""The probe: headroom, ranking, sign errors, clips; by hand, by law, and end to end."""

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
from rcsd.errors import ConfigError, RunError
from rcsd.models.memory import microbatch_limit
from rcsd.models.policy import Policy, Scorer, policy_of
from rcsd.models.teacher import teacher_of
from rcsd.recipes.probe import check_new, probe
from rcsd.recipes.probe.clips import ClipEffect, clip_effects
from rcsd.recipes.probe.contexts import TEACHER, Context, contexts_of
from rcsd.recipes.probe.gaps import Pair
from rcsd.recipes.probe.headroom import Answerer, headroom_of, sampled
from rcsd.types import Completion, Decoding, Rollout, Rubric


def policy(training: config.Lora | config.FullFineTuning) -> Policy:
    return policy_of(tiny_model(), tiny_tokenizer(), training)


FULL, LORA = config.FullFineTuning(), config.Lora(rank=4, alpha=8)


def pair_of(model: Policy, temperature: float = 1.0) -> Pair:
    engine, teacher = HfEngine(model, 8), teacher_of(config.FrozenTeacher(), model)
    return Pair(model, Scorer(model), engine, teacher, temperature, microbatch_limit(4096))


def world_prompts(model: Policy, num: int = 3) -> list[PromptPair]:
    return build_prompts(examples("train", num, 0), config.Views(), model.tokenizer, 1000)[0]


# Headroom, with a scripted engine


def scripted(model: Policy, *texts: str) -> Answerer:
    """One who says these texts in turn."""
    engine = ScriptedEngine([Completion((5, 1), text, True) for text in texts])
    return Answerer(model, engine, config.Views(), Decoding(8), 1000)


def test_each_context_is_asked_and_graded_by_the_own_rubric() -> None:
    asked = [question(n, SAYS_YES, SAYS_NO) for n in range(2)]
    other = [replace(example, rubric=Rubric((SAYS_YES,))) for example in asked]
    contexts = [Context(TEACHER, "rubric", asked), Context("written", "rubric", other)]
    answerer = scripted(policy(FULL), "no", "no", "yes", "yes", "yes no", "yes")
    found = headroom_of(answerer, asked, contexts)
    means = [g.gain.mean if (g := found.gain(c.name)) else None for c in contexts]
    assert means == [1.0, 0.5]
    kinds = [(row.title, row.violation, row.met.gain.mean) for row in found.contexts[0].criteria]
    assert kinds == [("yes", False, 1.0), ("no", True, -1.0)]


def test_a_context_that_an_example_cannot_give_leaves_it_out() -> None:
    asked = [question(0, SAYS_YES, reference="7"), question(1, SAYS_YES)]
    contexts = [Context("answer", "answer", asked), Context("solution", "solution", asked)]
    found = headroom_of(scripted(policy(FULL), "yes"), asked, contexts).contexts
    assert [c.counts.num_answers for c in found] == [1, 0]
    assert [c.counts.num_left_out for c in found] == [1, 2]
    assert found[1].score is None


def test_a_sample_keeps_the_order_and_hangs_on_the_seed() -> None:
    asked = [question(n) for n in range(20)]
    ids = [int(example.id[1:]) for example in sampled(asked, 6, 0)]
    assert ids == sorted(ids)
    assert len(ids) == 6
    assert sampled(asked, 6, 0) == sampled(asked, 6, 0) != sampled(asked, 6, 1)
    assert sampled(asked, 99, 0) == asked


def test_contexts_hold_every_placebo_and_the_views_that_the_run_has_not() -> None:
    everyone = examples("train", 6, 0)
    views = config.Views()
    found, impossible = contexts_of(everyone[:2], everyone, views, config.NoPlacebo(), 0)
    names = "teacher generic shuffled random reduced noisy answer solution rubric+answer"
    assert [context.name for context in found] == names.split()
    assert {len(context.examples) for context in found} == {2}
    assert impossible == {}
    alone, impossible = contexts_of(everyone[:1], everyone[:1], views, config.NoPlacebo(), 0)
    assert {"shuffled", "random", "noisy"} == set(impossible)
    assert "generic" in [context.name for context in alone]
    views = config.Views(teacher="solution")
    bare, _ = contexts_of(everyone, everyone, views, config.NoPlacebo(), 0)
    assert [context.name for context in bare] == ["teacher", "rubric", "answer", "rubric+answer"]


# Gaps, masses and clips, on a model


def test_gaps_are_those_of_the_whole_models_logits() -> None:
    model, temperature = policy(FULL), 0.7
    prompts = world_prompts(model)
    rollouts = [
        Rollout(p.example, p.student_ids, p.teacher_ids, Completion((7, 9, 1), "", True))
        for p in prompts
    ]
    pair = pair_of(model, temperature)
    for name, found in (
        ("student_ids", pair.student_log_q(rollouts)),
        ("teacher_ids", pair.teacher_log_p(rollouts)),
    ):
        for rollout, row in zip(rollouts, found, strict=True):
            prompt = getattr(rollout, name)
            ids = torch.tensor([[*prompt, *rollout.completion.token_ids]])
            with torch.no_grad():
                logits_LV = model.model(ids).logits[0] / temperature
            log_q_LV = logits_LV.log_softmax(-1)[len(prompt) - 1 : -1]
            slow = log_q_LV.gather(-1, torch.tensor([[7], [9], [1]]))[:, 0].tolist()
            assert row == pytest.approx(slow, abs=1e-4)


def test_masses_grow_with_k_and_are_equal_where_both_see_the_same() -> None:
    model = policy(FULL)
    rollouts = [
        Rollout(p.example, p.student_ids, p.student_ids, Completion((7, 9), "", True))
        for p in world_prompts(model)
    ]
    size = model.model.config.vocab_size
    found = pair_of(model).top_k_mass(rollouts, (20, 5, 5, size))
    assert [mass.k for mass in found] == [5, 20]
    assert 0 < found[0].teacher_mass < found[1].teacher_mass < 1
    for mass in found:
        assert mass.student_mass == pytest.approx(mass.teacher_mass)


def effects(model: Policy, section: config.Distill) -> tuple[ClipEffect, ...]:
    return clip_effects(section, pair_of(model), world_prompts(model), Decoding(6, 1.0), 2, 0)


@pytest.mark.parametrize("training", [FULL, LORA])
def test_clips_are_measured_without_a_trace_on_the_model(
    training: config.Lora | config.FullFineTuning,
) -> None:
    model = policy(training)
    before = {name: p.detach().clone() for name, p in model.model.named_parameters()}
    found = effects(model, config.Distill(clip=config.TokenClip(max_nats=1e6)))
    assert [(e.clip, e.configured) for e in found] == [
        ("token", False),
        ("entry", False),
        ("token", True),
    ]
    idle = found[2]  # a limit that nothing reaches
    assert (idle.touched_share, idle.norm_ratio) == (0.0, pytest.approx(1.0))
    assert idle.cosine == pytest.approx(1.0)
    assert found[1].touched_share > 0
    assert found[1].cosine is not None
    assert found[1].cosine < 0.99
    for name, parameter in model.model.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is None


def test_a_clip_that_is_the_default_is_not_measured_twice() -> None:
    found = effects(policy(FULL), config.Distill(clip=config.EntryClip()))
    assert [(e.clip, e.configured) for e in found] == [("token", False), ("entry", True)]


def test_the_sampled_token_loss_takes_no_clip() -> None:
    assert effects(policy(FULL), config.Distill(divergence=config.SampledToken())) == ()


def test_where_both_views_agree_no_gradient_has_a_direction() -> None:
    model = policy(FULL)
    prompts = [replace(p, teacher_ids=p.student_ids) for p in world_prompts(model)]
    section = config.Distill(support=config.FullSupport())
    found = clip_effects(section, pair_of(model), prompts, Decoding(4, 1.0), 1, 0)
    for effect in found:
        assert effect.touched_share == 0
        assert effect.cosine is None or effect.cosine == pytest.approx(1.0)


# End to end, and errors


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
    code, out, _ = run_rcsd(monkeypatch, capsys, *words)
    assert code == 0
    assert "train" in out
    found = json.loads((tmp_path / "run-probe" / "probe.json").read_text())
    contexts = {
        row["context"]: row["score"]["gain"]["mean"] for row in found["headroom"]["contexts"]
    }
    assert contexts["teacher"] > 0.8
    assert contexts["teacher"] > contexts["reduced"] > contexts["shuffled"]
    assert [row["teacher"] for row in found["signal"]["rankings"]] == [
        "teacher",
        "generic",
        "shuffled",
    ]
    assert found["signal"]["num_completions"] == 16
    assert [mass["k"] for mass in found["top_k_mass"]] == [5, 20, 100]
    assert [clip["clip"] for clip in found["clips"]] == ["token", "entry"]
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
    assert found["top_k_mass"]
    assert found["clips"]
    assert found["signal"]["num_ungraded"] == found["signal"]["num_completions"]


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
    found = probe(config.parse_config(tree), 2, 2, progress=lambda stage, *_: stages.append(stage))
    assert (found.num_available, found.num_asked) == (3, 2)
    assert list(dict.fromkeys(stages)) == ["answers", "signal"]
    for change, message in (
        ({"method": {"type": "suppress"}}, "method.type"),
        ({"views": {"writes": "rubric"}}, "views.writes"),
    ):
        with pytest.raises(ConfigError, match=message):
            probe(config.parse_config(tree | change))
    tree["method"] = {"type": "distill", "support": {"type": "teacher_top_k", "k": 10_000}}
    with pytest.raises(ConfigError, match=r"method\.support\.k"):
        probe(config.parse_config(tree), 2, 2)


def test_an_existing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="--out"):
        check_new(tmp_path)
