"""GRPO and suppression: what is collected, what a run does with it, what is refused."""

import math
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.judge_server import JudgeServer
from tests.support.tiny import tiny_model, tiny_tokenizer
from tests.training.test_trainer import FULL, LORA, Tree, check_resumes_exactly, settings, slow

from rcsd import config
from rcsd.data.prompts import PromptPair
from rcsd.engines.scripted import ScriptedEngine
from rcsd.errors import ConfigError, DataError
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
from rcsd.training.trainer import run
from rcsd.types import Completion, Criterion, Decoding, Example, Grading, Rubric

RUBRIC = Rubric((Criterion("Says yes.", 3), Criterion("Is polite.", 1)))
VERDICTS: dict[str, list[bool | None]] = {
    "both": [True, True],
    "yes": [True, False],
    "no": [False, False],
    "odd": [True, None],
}
GRPO: Tree = {"type": "grpo", "rewards": [{"type": "rubric"}]}


def student_of(texts: Sequence[str], num: int, lengths: Sequence[int] = ()) -> RolloutWorker:
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


def grpo(section: config.Grpo, student: RolloutWorker, rewards: Sequence[Reward]) -> OnPolicy:
    return OnPolicy(student, [(1.0, Grpo(section, student, LiveTeacher(), rewards))])


def test_an_answer_is_worth_one_zero_or_is_unscored() -> None:
    number, words = Example("a", "?", "360 J"), Example("b", "?", "red dwarf")
    by_kind = Example("c", "?", "5 m", grading=Grading("number", unit="m"))
    texts = [(number, "Answer: 360 J"), (number, "Answer: 3 J"), (number, "I do not know.")]
    texts += [(words, "Answer: Red dwarf."), (words, "Answer: a small star")]
    answers = [(example, Completion((1,), text, finished=True)) for example, text in texts]
    answers += [(by_kind, Completion((1,), "Answer: 5 m", ended)) for ended in (True, False)]
    expected = [1.0, 0.0, 0.0, 1.0, math.nan, 1.0, 0.0]
    assert AnswerReward().scores(answers) == pytest.approx(expected, nan_ok=True)


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


def test_groups_are_those_of_one_example_and_what_does_not_count_is_counted(tmp_path: Path) -> None:
    def meets(criterion: str, answer: str, seed: int) -> Any:
        verdict = VERDICTS[answer][["Says yes.", "Is polite."].index(criterion)]
        return "maybe" if verdict is None else verdict

    student = student_of(["both", "no", "odd", "yes", "yes", "yes"], num=3)
    with closing(JudgeServer(meets)) as server:
        judge = {"type": "model", "url": server.url, "model": "m", "cache": tmp_path / "c.sqlite"}
        tree = {"type": "grpo", "rewards": [{"type": "rubric", "judge": judge}]}
        section = config.Grpo.model_validate(tree | {"normalise_by_deviation": False})
        with pytest.raises(DataError, match="has no rubric to judge by"):
            build_rewards(section.rewards, [Example("b", "?")])
        rewards = build_rewards(section.rewards, [Example("a", "?", rubric=RUBRIC)])
        assert server.asked == []
        batch = grpo(section, student, rewards).collect(asked("a", "b"), 0)
    advantages = [rollout.signals[0].advantages for rollout in batch.rollouts]
    assert advantages == [(0.5,) * 3, (-0.5,) * 3, *[(0.0,) * 3] * 4]
    scores = [rollout.reward for rollout in batch.rollouts]
    assert scores == pytest.approx([1.0, 0.0, math.nan, 0.75, 0.75, 0.75], nan_ok=True)
    assert batch.rollouts[0].teacher_ids == (5, 6, 7)  # nothing but the student's view
    expected = {
        "reward/unscored_share": 1 / 6,
        "reward/score_mean": (1 + 3 * 0.75) / 5,
        "reward/std_mean": math.sqrt(0.5) / 2,
        "reward/no_spread_share": 0.5,
        # Two verdicts on each of four different answers, and one of them asked for twice.
        "judge/num_calls": len(server.asked),
        "judge/num_unscored/unclear": 1,
    }
    assert {name: batch.metrics[name] for name in expected} == pytest.approx(expected)
    assert len(server.asked) == 9


SEVERAL = {"completions_per_example": 4}
SRPO = {"type": "srpo", "right_share": 0.5, "reward": GRPO | {"updates_per_batch": 2}}
TERMS: list[Tree] = [
    {"method": {"type": "criterion", "min_nats": 0.01}, "weight": 0.5},
    {"method": GRPO | {"updates_per_batch": 2, "kl_weight": 0.1}},
    {"method": {"type": "distill"}},
]
SUM = {"type": "sum", "terms": TERMS}


def jsonl(path: Path, rows: list[Tree]) -> dict[str, str]:
    """A data section of these rows."""
    write_rows(path, rows)
    return {"type": "jsonl", "path": str(path)}


def simple_rows(folder: Path) -> dict[str, str]:
    """Questions whose rubrics a random model meets in part: few letters e are wanted."""
    patterns = {num: rf"\A[^e]*(e[^e]*){{0,{num}}}\Z" for num in (0, 1, 2, 3, 5)}
    checks = {num: {"type": "matches", "pattern": text} for num, text in patterns.items()}
    rubric = [
        {"criterion": f"At most {num} letters e.", "weight": 1, "check": check}
        for num, check in checks.items()
    ]
    rows = [{"question": f"Why {n}?", "rubric": rubric} for n in range(8)]
    return jsonl(folder / "simple.jsonl", rows)


@pytest.mark.parametrize(
    ("method", "training"),
    [
        (GRPO | {"updates_per_batch": 2, "kl_weight": 0.1, "reduction": "sequence"}, FULL),
        (SUM, LORA),
        slow({"type": "suppress"}, FULL),
        slow(SRPO, LORA),
        slow({"type": "criterion", "min_nats": 0.01}, LORA),
        slow(SUM, FULL),
    ],
)
def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path, method: Tree, training: Tree) -> None:
    model = {"path": str(tmp_path / "model"), "training": training}
    changes = {"data": simple_rows(tmp_path), "method": method, "model": model, **SEVERAL}
    whole = check_resumes_exactly(tmp_path, **changes)
    assert all(row["optim/grad_norm"] > 0 for row in whole.metrics())


@pytest.mark.parametrize("updates", [2, slow(1)])
def test_a_reward_that_can_be_learned_is_learned(tmp_path: Path, updates: int) -> None:
    changes = {"data": simple_rows(tmp_path), "sampling": {"max_tokens": 8}, "optim": {"lr": 1e-2}}
    changes |= {"steps": 30, "completions_per_example": 8, "save_every_steps": 30}
    method = GRPO | {"updates_per_batch": updates}
    rows = run(settings(tmp_path, "run", method=method, **changes)).metrics()
    means = [row["reward/score_mean"] for row in rows]
    assert sum(means[-3:]) / 3 > sum(means[:3]) / 3 + 0.3
    assert (max(row["loss/ratio_clipped_share"] for row in rows) > 0) == (updates > 1)
    assert "loss/frozen_kl_nats_mean" not in rows[0]


def test_the_kl_term_starts_at_zero_and_holds_the_student(tmp_path: Path) -> None:
    changes = {"data": simple_rows(tmp_path), "optim": {"lr": 1e-2}, **SEVERAL}
    ends = []
    for weight in (1e-9, 1.0):
        method = GRPO | {"kl_weight": weight}
        rows = run(settings(tmp_path, f"{weight}", method=method, **changes)).metrics()
        assert rows[0]["loss/frozen_kl_nats_mean"] == pytest.approx(0, abs=1e-6)
        ends.append(rows[-1]["loss/frozen_kl_nats_mean"])
    assert ends[0] > ends[1] > 0


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


def test_suppression_without_rubric_or_teacher_lowers_the_entropy(tmp_path: Path) -> None:
    data = jsonl(tmp_path / "rows.jsonl", [{"question": f"Why {n}?"} for n in range(4)])
    changes = {"data": data, "method": {"type": "suppress"}, "optim": {"lr": 3e-3}, "steps": 8}
    folder = run(settings(tmp_path, "run", **changes))
    rows = folder.metrics()
    assert rows[-1]["student/entropy_nats_mean"] < rows[0]["student/entropy_nats_mean"]
    assert rows[0]["suppress/chosen_share"] == pytest.approx(0.2, abs=0.02)
    assert "teacher's view" not in (folder.model / "README.md").read_text()
