"""GRPO and suppression: what is collected, what a run does with it, what is refused."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.judge_server import JudgeServer
from tests.support.scripted_judge import ScriptedJudge
from tests.support.tiny import tiny_model, tiny_tokenizer
from tests.training.test_trainer import FULL, LORA, check_resumes_exactly, settings

from rcsd import config
from rcsd.data.prompts import PromptPair
from rcsd.engines.scripted import ScriptedEngine
from rcsd.errors import ConfigError, DataError
from rcsd.graders.code import CodeJudge
from rcsd.graders.rewards import AnswerReward, Reward, RubricReward, build_rewards, weighted_sums
from rcsd.io import write_rows
from rcsd.methods.grpo import Grpo
from rcsd.methods.on_policy import OnPolicy
from rcsd.methods.rollouts import RolloutWorker
from rcsd.methods.suppress import Suppress
from rcsd.models.memory import microbatch_limit
from rcsd.models.policy import build_policy
from rcsd.models.scorer import Scorer
from rcsd.models.teacher import LiveTeacher
from rcsd.runs import RunFolder
from rcsd.training.trainer import run
from rcsd.types import Completion, Criterion, Decoding, Example, Grading, Rubric

RUBRIC = Rubric((Criterion("Says yes.", 3), Criterion("Is polite.", 1)))
VERDICTS: dict[str, list[bool | None]] = {
    "both": [True, True],
    "yes": [True, False],
    "no": [False, False],
    "odd": [True, None],
}
GRPO: dict[str, Any] = {"type": "grpo", "rewards": [{"type": "rubric"}]}


def student_of(
    texts: Sequence[str], num: int, lengths: Sequence[int] | None = None
) -> RolloutWorker:
    """A student that says these texts; their tokens have nothing to do with them."""
    lengths = lengths or [3] * len(texts)
    completions = [
        Completion(tuple(range(10, 10 + length)), text, finished=True)
        for text, length in zip(texts, lengths, strict=True)
    ]
    policy = build_policy(tiny_model(), tiny_tokenizer(), config.FullFineTuning())
    decoding = Decoding(8, 1.0)
    engine, limit = ScriptedEngine(completions), microbatch_limit(4096)
    return RolloutWorker(policy, Scorer(policy.model), engine, decoding, num, limit, 0)


def asked(*questions: str, rubric: Rubric | None = RUBRIC) -> list[PromptPair]:
    return [PromptPair(Example(q, q, "360 J", rubric=rubric), (5, 6, 7), (8,)) for q in questions]


def said(text: str, finished: bool = True) -> Completion:
    return Completion((1,), text, finished)


def grpo(section: config.Grpo, student: RolloutWorker, rewards: Sequence[Reward]) -> OnPolicy:
    return OnPolicy(student, [(1.0, Grpo(section, student, LiveTeacher(), rewards))])


# Rewards


def test_an_answer_is_worth_one_zero_or_is_unscored() -> None:
    number, words = Example("a", "?", "360 J"), Example("b", "?", "red dwarf")
    texts = [(number, "Answer: 360 J"), (number, "Answer: 3 J"), (number, "I do not know.")]
    texts += [(words, "Answer: Red dwarf."), (words, "Answer: a small star")]
    found = AnswerReward().scores([(example, said(text)) for example, text in texts])
    assert found == pytest.approx([1.0, 0.0, 0.0, 1.0, math.nan], nan_ok=True)


def test_an_answer_that_was_cut_off_within_itself_is_wrong_where_an_example_says_its_kind() -> None:
    by_kind = Example("a", "?", "5 m", grading=Grading("number", unit="m"))
    ended, cut = said("Answer: 5 m"), said("Answer: 5 m", finished=False)
    assert AnswerReward().scores([(by_kind, ended), (by_kind, cut)]) == [1.0, 0.0]


def test_a_rubrics_score_is_the_judges_and_a_missing_verdict_is_not_zero() -> None:
    example = Example("a", "?", rubric=RUBRIC)
    reward = RubricReward(ScriptedJudge(VERDICTS))
    found = reward.scores([(example, said(text)) for text in VERDICTS])
    assert found[:3] == [1.0, 0.75, 0.0]
    assert math.isnan(found[3])


def test_rewards_add_up_with_their_weights_and_one_unscored_makes_the_sum_so() -> None:
    sums = weighted_sums([2.0, 0.5], [[1.0, 0.0, math.nan], [0.5, 1.0, 1.0]])
    assert sums[:2] == [2.25, 0.5]
    assert math.isnan(sums[2])


def test_a_reward_that_can_tell_nothing_is_refused_before_the_run() -> None:
    rubric, answer = config.RubricReward(), config.AnswerReward()
    unchecked = Example("a", "?", "red", rubric=RUBRIC)
    checked = Rubric((Criterion("Boxed.", 1, check={"type": "boxed"}),))
    good = Example("b", "?", "3", rubric=checked)
    assert isinstance(build_rewards([rubric], [unchecked, good])[0], RubricReward)
    with pytest.raises(DataError, match=r"'rubric' cannot tell .* criterion without a check"):
        build_rewards([rubric], [unchecked])
    with pytest.raises(DataError, match=r"'answer' cannot tell .* is a number"):
        build_rewards([answer], [unchecked])
    with pytest.raises(DataError, match="'reference_answer': example 'c' has none"):
        build_rewards([answer], [good, Example("c", "?")])
    with pytest.raises(DataError, match="'rubric': example 'c' has no"):
        build_rewards([rubric], [good, Example("c", "?")])
    assert isinstance(AnswerReward(), Reward)
    assert isinstance(RubricReward(CodeJudge()), Reward)


def test_a_model_rewards_by_the_rubric_and_what_it_took_is_shown(tmp_path: Path) -> None:
    def meets(criterion: str, answer: str, seed: int) -> Any:
        verdict = VERDICTS[answer][["Says yes.", "Is polite."].index(criterion)]
        return "maybe" if verdict is None else verdict

    server = JudgeServer(meets)
    try:
        judge = {"type": "model", "url": server.url, "model": "m", "cache": tmp_path / "c.sqlite"}
        tree = GRPO | {"rewards": [{"type": "rubric", "judge": judge}]}
        section = config.Grpo.model_validate(tree)
        rewards = build_rewards(section.rewards, [Example("a", "?", rubric=RUBRIC)])
        assert server.asked == []
        with pytest.raises(DataError, match="has no rubric to judge by"):
            build_rewards(section.rewards, [Example("b", "?")])
        student = student_of(["both", "no", "odd", "yes", "yes", "yes"], num=3)
        batch = grpo(section, student, rewards).collect(asked("a", "b"), 0)
    finally:
        server.close()
    rewards = [rollout.reward for rollout in batch.rollouts]
    assert rewards == pytest.approx([1.0, 0.0, math.nan, 0.75, 0.75, 0.75], nan_ok=True)
    assert batch.metrics["reward/unscored_share"] == 1 / 6
    # Two verdicts on each of four different answers, and one of them asked for twice.
    assert batch.metrics["judge/num_calls"] == len(server.asked) == 9
    assert batch.metrics["judge/num_unscored/unclear"] == 1


def test_a_placebo_is_rewarded_where_checks_decide_it(tmp_path: Path) -> None:
    shuffled = {"placebo": "shuffled"}
    folder = run(settings(tmp_path, "run", method=GRPO, rubrics=shuffled, steps=1, **SEVERAL))
    assert folder.metrics()[0]["reward/unscored_share"] == 0
    assert "a placebo: `shuffled`" in (folder.model / "README.md").read_text()
    generic = {"placebo": "generic"}
    with pytest.raises(DataError, match="every rubric has a criterion without a check"):
        run(settings(tmp_path, "no", method=GRPO, rubrics=generic, steps=1, **SEVERAL))
    assert not (tmp_path / "no").exists()
    answers = {"type": "grpo", "rewards": [{"type": "answer"}]}
    with pytest.raises(ConfigError, match="no reward goes by it"):
        settings(tmp_path, "no", method=answers, rubrics=shuffled, **SEVERAL)


# GRPO


def test_groups_are_those_of_one_example_and_what_does_not_count_is_counted() -> None:
    texts = ["both", "no", "odd", "yes", "yes", "yes"]
    student = student_of(texts, num=3)
    section = config.Grpo(rewards=[config.RubricReward()], normalise_by_deviation=False)
    method = grpo(section, student, [RubricReward(ScriptedJudge(VERDICTS))])
    batch = method.collect(asked("a", "b"), 0)
    signals = [rollout.signals[0] for rollout in batch.rollouts]
    assert [s.advantages for s in signals[:3]] == [(0.5,) * 3, (-0.5,) * 3, (0.0,) * 3]
    assert [s.advantages for s in signals[3:]] == [(0.0,) * 3] * 3
    rewards = [rollout.reward for rollout in batch.rollouts]
    assert rewards == pytest.approx([1.0, 0.0, math.nan, 0.75, 0.75, 0.75], nan_ok=True)
    assert batch.rollouts[0].teacher_ids == (5, 6, 7)  # nothing but the student's view
    expected = {
        "reward/unscored_share": 1 / 6,
        "reward/score_mean": (1 + 3 * 0.75) / 5,
        "reward/std_mean": math.sqrt(0.5) / 2,
        "reward/no_spread_share": 0.5,
    }
    found = {name: value for name, value in batch.metrics.items() if name.startswith("reward/")}
    assert found == pytest.approx(expected)


def test_several_rewards_are_shown_one_by_one() -> None:
    texts = {"Answer: 360 J": [True, True], "Answer: 3 J": [False, False]}
    student = student_of(list(texts), num=2)
    section = config.Grpo(rewards=[config.RubricReward(), config.AnswerReward(weight=2)])
    rewards = [RubricReward(ScriptedJudge(texts)), AnswerReward()]
    metrics = grpo(section, student, rewards).collect(asked("a"), 0).metrics
    assert metrics["reward/rubric_mean"] == metrics["reward/answer_mean"] == 0.5
    assert metrics["reward/score_mean"] == 1.5


def test_rows_without_rubrics_are_learned_from_by_their_answers(tmp_path: Path) -> None:
    rows = [{"question": f"How much is {n} + 1?", "reference_answer": str(n + 1)} for n in range(4)]
    write_rows(tmp_path / "rows.jsonl", rows)
    data = {"type": "jsonl", "path": str(tmp_path / "rows.jsonl")}
    method = {"type": "grpo", "rewards": [{"type": "answer"}]}
    folder = run(settings(tmp_path, "run", data=data, method=method, steps=1, **SEVERAL))
    assert folder.metrics()[0]["reward/score_mean"] == 0
    assert {row["reward"] for row in folder.completions()} == {0.0}


SEVERAL = {"completions_per_example": 4}
SRPO = {"type": "srpo", "right_share": 0.5, "reward": GRPO | {"updates_per_batch": 2}}
SUM = {
    "type": "sum",
    "terms": [
        {"method": {"type": "criterion", "min_nats": 0.01}, "weight": 0.5},
        {"method": GRPO | {"updates_per_batch": 2, "kl_weight": 0.1}},
        {"method": {"type": "distill"}},
    ],
}


def simple_rows(folder: Path) -> dict[str, str]:
    """Questions whose rubrics a random model meets in part: few letters e are wanted."""
    rubric = [
        {
            "criterion": f"At most {num} letters e.",
            "weight": 1,
            "check": {"type": "matches", "pattern": rf"\A[^e]*(e[^e]*){{0,{num}}}\Z"},
        }
        for num in (0, 1, 2, 3, 5)
    ]
    rows = [{"question": f"Why {n}?", "rubric": rubric} for n in range(8)]
    write_rows(folder / "simple.jsonl", rows)
    return {"type": "jsonl", "path": str(folder / "simple.jsonl")}


@pytest.mark.parametrize(
    ("method", "training"),
    [
        (GRPO | {"updates_per_batch": 2, "kl_weight": 0.1, "reduction": "sequence"}, FULL),
        (SUM, LORA),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ({"type": "suppress"}, FULL),
                (SRPO, LORA),
                ({"type": "criterion", "min_nats": 0.01}, LORA),
                (SUM, FULL),
            )
        ),
    ],
)
def test_a_killed_and_resumed_run_equals_an_unbroken_one_bit_for_bit(
    tmp_path: Path, method: dict[str, Any], training: dict[str, Any]
) -> None:
    model = {"path": str(tmp_path / "model"), "training": training}
    changes = {"data": simple_rows(tmp_path), "method": method, "model": model, **SEVERAL}
    whole = check_resumes_exactly(tmp_path, **changes)
    assert all(row["optim/grad_norm"] > 0 for row in whole.metrics())


@pytest.mark.parametrize("updates", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_a_reward_that_can_be_learned_is_learned(tmp_path: Path, updates: int) -> None:
    changes = {
        "data": simple_rows(tmp_path),
        "method": GRPO | {"updates_per_batch": updates},
        "optim": {"lr": 1e-2},
        "steps": 30,
        "sampling": {"max_tokens": 8},
        "completions_per_example": 8,
        "save_every_steps": 30,
    }
    rows = run(settings(tmp_path, "run", **changes)).metrics()
    means = [row["reward/score_mean"] for row in rows]
    assert sum(means[-3:]) / 3 > sum(means[:3]) / 3 + 0.3
    assert (max(row["loss/ratio_clipped_share"] for row in rows) > 0) == (updates > 1)
    assert "loss/frozen_kl_nats_mean" not in rows[0]


def test_the_kl_term_starts_at_zero_and_holds_the_student(tmp_path: Path) -> None:
    changes = {"data": simple_rows(tmp_path), "optim": {"lr": 1e-2}, **SEVERAL}
    free = GRPO | {"kl_weight": 1e-9}
    held = GRPO | {"kl_weight": 1.0}
    ends = []
    for name, method in (("free", free), ("held", held)):
        rows = run(settings(tmp_path, name, method=method, **changes)).metrics()
        assert rows[0]["loss/frozen_kl_nats_mean"] == pytest.approx(0, abs=1e-6)
        ends.append(rows[-1]["loss/frozen_kl_nats_mean"])
    assert ends[0] > ends[1] > 0


# Suppression


def test_the_least_likely_tokens_of_the_step_become_less_likely() -> None:
    student = student_of(["a", "b"], num=2, lengths=[8, 2])
    section = config.Suppress(share=0.3, penalty=0.5)
    method = OnPolicy(student, [(1.0, Suppress(section, student))])
    batch = method.collect(asked("a", rubric=None), 0)
    before = torch.tensor([x for row in student.sampled_log_q(batch.rollouts) for x in row])
    marks = torch.tensor([a for r in batch.rollouts for a in r.signals[0]])
    chosen = marks == -0.5
    assert chosen.sum() == 3
    assert (marks[~chosen] == 0).all()
    assert before[chosen].max() <= before[~chosen].min()
    assert batch.metrics["suppress/chosen_share"] == pytest.approx(0.3)
    loss, _ = method.loss(batch.rollouts, batch.num_learned_tokens)
    assert loss.item() == pytest.approx(0.5 * before[chosen].sum().item() / 10, rel=1e-5)
    loss.backward()
    with torch.no_grad():
        for parameter in student.policy.model.parameters():
            parameter -= 1e-3 * parameter.grad
    after = torch.tensor([x for row in student.sampled_log_q(batch.rollouts) for x in row])
    assert after[chosen].mean() < before[chosen].mean()


def test_suppression_needs_neither_rubric_nor_teacher_and_lowers_the_entropy(
    tmp_path: Path,
) -> None:
    write_rows(tmp_path / "rows.jsonl", [{"question": f"Why {n}?"} for n in range(4)])
    data = {"type": "jsonl", "path": str(tmp_path / "rows.jsonl")}
    method = {"type": "suppress"}
    changes = {"data": data, "method": method, "optim": {"lr": 3e-3}, "steps": 8}
    folder = run(settings(tmp_path, "run", **changes))
    rows = RunFolder(folder.path).metrics()
    assert rows[-1]["student/entropy_nats_mean"] < rows[0]["student/entropy_nats_mean"]
    assert rows[0]["suppress/chosen_share"] == pytest.approx(0.2, abs=0.02)
    assert "teacher's view" not in (folder.model / "README.md").read_text()


# What makes no sense


def tree_of(method: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A run's configuration; no model or data is read."""
    return {
        "model": {"path": "some/model"},
        "data": {"type": "world", "num_examples": 8},
        "method": method,
        "optim": {"lr": 1e-4},
        "steps": 3,
        "out": "runs/a",
        "completions_per_example": 4,
    } | more


def reads_back(tree: dict[str, Any]) -> config.Config:
    """The configuration, which is the same from its record."""
    parsed = config.parse_config(tree)
    assert config.parse_config(parsed.model_dump(mode="json")) == parsed
    return parsed


WRITER = {"writes": "rubric", "student": "answer", "teacher": "rubric+answer"}
MASKED = {"views": WRITER, "sampling": {"grammar": {"type": "rubric"}}}
ANSWERS = [{"type": "answer"}]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"completions_per_example": 1}, "2 or more"),
        ({"views": WRITER}, "grpo rewards answers"),
        ({"views": {"analysis": True}}, "leave views.analysis"),
        (MASKED | {"method": {"type": "suppress"}}, "suppress needs samples of the student itself"),
        ({"teacher": {"type": "ema"}}, "leave views.analysis and teacher out"),
        ({"method": {"type": "grpo", "rewards": []}}, "at least 1 item"),
        ({"method": {"type": "grpo"}}, "method.rewards"),
        ({"method": {"type": "grpo", "rewards": ANSWERS * 2}}, "stands there twice"),
        ({"method": GRPO | {"clip_low": 1.0}}, "method.clip_low"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any], said: str) -> None:
    reads_back(tree_of(GRPO))
    with pytest.raises(ConfigError, match=said):
        config.parse_config(tree_of(GRPO) | changes)
