"""The probe: contexts, divergence, and end to end."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.cli.test_cli import run_file
from tests.support.judge_server import JudgeServer
from tests.support.tiny import tiny_folder, tiny_model, tiny_tokenizer

from rcsd import config
from rcsd.data.prompts import PromptPair, SkippedExample, build_prompts
from rcsd.data.world.problems import examples
from rcsd.engines.hf import HfEngine
from rcsd.errors import ConfigError
from rcsd.methods.rollouts import RolloutWorker
from rcsd.models.memory import microbatch_limit
from rcsd.models.policy import build_policy
from rcsd.models.scorer import Scorer
from rcsd.models.teacher import build_teacher
from rcsd.recipes.probe import build_contexts, divergence, probe
from rcsd.types import Completion, Decoding, Example, Rollout

TREE: dict[str, Any] = {
    "model": {"path": "some/model", "training": {"type": "full"}},
    "data": {"type": "world", "num_examples": 5},
    "method": {"type": "distill"},
    "optim": {"lr": 1e-3},
    "sampling": {"max_tokens": 4},
    "steps": 1,
    "out": "runs/probe",
}


def numbered(rows: Sequence[Example]) -> tuple[list[PromptPair], list[SkippedExample]]:
    """Pairs whose teacher prompt is the number of the rubric's criteria."""
    return [PromptPair(e, (0,), (len(e.rubric.criteria) if e.rubric else 0,)) for e in rows], []


def test_contexts_are_both_views_and_every_empty_placebo_that_the_data_allows() -> None:
    everyone, settings = examples("train", 6, 0), config.parse_config(TREE)
    pairs, _ = numbered(everyone[:2])
    prompts, impossible = build_contexts(pairs, everyone, settings, numbered)
    assert list(prompts) == ["student", "teacher", "generic", "shuffled", "random"]
    assert all(set(of) == {e.id for e in everyone[:2]} for of in prompts.values())
    assert set(prompts["student"].values()) == {(0,)}
    assert impossible == {}
    alone, impossible = build_contexts(pairs[:1], everyone[:1], settings, numbered)
    assert list(alone) == ["student", "teacher", "generic"]
    assert set(impossible) == {"shuffled", "random"}
    settings = config.parse_config(TREE | {"views": {"teacher": "solution"}})
    assert list(build_contexts(pairs, everyone, settings, numbered)[0]) == ["student", "teacher"]


def test_divergence_is_the_mean_of_log_q_minus_log_p_of_the_complete_models_logits() -> None:
    temperature = 0.7
    model = build_policy(tiny_model(), tiny_tokenizer(), config.FullFineTuning())
    prompts = build_prompts(examples("train", 3, 0), config.Views(), model.tokenizer, 1000)[0]
    rollouts = [
        Rollout(p.example, p.student_ids, p.teacher_ids, Completion((*ids, 1), "", True))
        for p in prompts
        for ids in ((7, 9), (8,))
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
    teacher = build_teacher(config.FrozenTeacher(), model)
    shown = {p.example.id: p.teacher_ids for p in prompts[:2]}  # the third has no such prompt
    measured = divergence(rollouts, worker.sampled_log_q(rollouts), shown, worker, teacher)

    def slow(prompt: tuple[int, ...], ids: tuple[int, ...]) -> torch.Tensor:
        with torch.no_grad():
            logits_LV = model.model(torch.tensor([[*prompt, *ids]])).logits[0] / temperature
        log_q_LV = logits_LV.log_softmax(-1)[len(prompt) - 1 : -1]
        return log_q_LV.gather(-1, torch.tensor(ids)[:, None])[:, 0]

    gaps = [
        slow(r.student_ids, r.completion.token_ids) - slow(r.teacher_ids, r.completion.token_ids)
        for r in rollouts[:4]
    ]
    assert measured is not None
    assert measured.n == 2
    assert measured.mean == pytest.approx(sum(gap.mean().item() for gap in gaps) / 4, abs=3e-4)
    assert divergence(rollouts, [()] * 6, shown, worker, teacher) is None


# End to end, and errors


def test_without_grades_the_other_parts_are_given(tmp_path: Path, rcsd: Any) -> None:
    rows = [
        {"question": f"{n}?", "rubric": [{"criterion": f"Names {n}.", "weight": 1}]}
        for n in range(3)
    ]
    out_folder = tmp_path / "elsewhere" / "deep"
    words = "probe", run_file(tmp_path, rows), "--out", str(out_folder)
    code, out, _ = rcsd(*words)
    assert code == 0
    code, _, err = rcsd(*words)
    assert (code, "exists; choose another" in err) == (2, True)
    assert "No answer can be graded" in out
    assert "cannot tell" in out
    found = json.loads((out_folder / "probe.json").read_text())
    assert found["metric"] is None
    assert [row["num_ungraded"] for row in found["contexts"][:2]] == [3, 3]
    assert found["divergences"]["teacher"]["n"] == 3


@pytest.mark.parametrize("by_file", [True, False])
def test_a_judge_gives_headroom_to_rubrics_that_no_code_reads(
    tmp_path: Path, rcsd: Any, by_file: bool
) -> None:
    rows = [
        {"question": f"{n}?", "rubric": [{"criterion": f"Names {n}.", "weight": 1}]}
        for n in range(3)
    ]
    server = JudgeServer()
    judge = {"type": "model", "url": server.url, "model": "m"}
    (tmp_path / "judge.yaml").write_text(json.dumps({"judge": judge}))
    words = ["probe", run_file(tmp_path, rows), "--judge", tmp_path / "judge.yaml"]
    if not by_file:
        data = {"type": "jsonl", "path": str(tmp_path / "rows.jsonl")}
        words = [
            "probe",
            run_file(tmp_path, rows, evaluation={"data": data, "judge": judge, "max_tokens": 4}),
        ]
    try:
        code, out, err = rcsd(*words)
    finally:
        server.close()
    assert code == 0, err
    assert "Requests: " in out
    found = json.loads((tmp_path / "run-probe" / "probe.json").read_text())
    assert found["metric"] == "score"
    assert [of["mean"]["mean"] for of in found["contexts"]] == [1.0] * len(found["contexts"])
    assert found["judging"]["judge/num_calls"] == len(server.asked)


def test_a_probe_reads_the_held_out_examples_where_there_are_some(tmp_path: Path) -> None:
    held_out = {"type": "world", "split": "new_numbers", "num_examples": 3}
    model = {"path": tiny_folder(tmp_path / "model"), "training": {"type": "full"}}
    tree = TREE | {"model": model, "evaluation": {"data": held_out, "max_tokens": 6}}
    stages: list[str] = []
    found = probe(config.parse_config(tree), 2, 2, lambda stage, *_: stages.append(stage))
    assert [(of.context, of.num_answers) for of in found.contexts] == [
        (name, 2) for name in ("student", "teacher", "generic", "shuffled", "random")
    ]
    assert (found.num_available, found.num_questions) == (3, 2)
    assert list(dict.fromkeys(stages)) == ["answers", "divergence"]
    for change, message in (
        ({"method": {"type": "suppress"}}, "method.type"),
        ({"views": {"writes": "rubric"}}, "views.writes"),
    ):
        with pytest.raises(ConfigError, match=message):
            probe(config.parse_config(tree | change))
    tree["method"] = {"type": "distill", "support": {"type": "teacher_top_k", "k": 10_000}}
    with pytest.raises(ConfigError, match=r"method\.support\.k"):
        probe(config.parse_config(tree), 2, 2)
