"""Completions of older weights: refused, or weighted by what they were sampled by."""

import math
import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.methods.test_grpo import asked
from tests.methods.test_on_policy import distill, student
from tests.support.tiny import tiny_model, tiny_tokenizer

from rcsd import config
from rcsd.engines.hf import HfEngine
from rcsd.engines.local import LocalEngine
from rcsd.engines.scripted import ScriptedEngine
from rcsd.errors import RunError
from rcsd.methods.on_policy import OnPolicy
from rcsd.methods.rollouts import RolloutWorker
from rcsd.methods.staleness import (
    Freshness,
    build_freshness,
    gaps,
    importance_weights,
    warn_of_drift,
)
from rcsd.models.policy import build_policy
from rcsd.models.teacher import ShadowTeacher
from rcsd.types import Completion, Decoding, Example, Rollout


def rollout(version: int | None, log_q: tuple[float, ...] = (-1.0,)) -> Rollout:
    return Rollout(Example("a", "?"), (1,), (1,), Completion((5,), "x", True, version, log_q))


def test_an_importance_weight_is_the_ratio_up_to_its_cap() -> None:
    now_T = torch.tensor([0.5, 0.1, 0.8]).log()
    then_T = torch.tensor([0.25, 0.2, 0.1]).log()
    weight_T = importance_weights(now_T.requires_grad_(), then_T, 3.0)
    assert weight_T.tolist() == pytest.approx([2.0, 0.5, 3.0])
    assert not weight_T.requires_grad


def test_gaps_are_the_absolute_difference_and_k3() -> None:
    found = gaps(torch.tensor([-1.0, -2.0]), torch.tensor([-1.5, -1.0]))
    assert found["engine/log_q_gap_nats_mean"].tolist() == pytest.approx([0.5, 1.0])
    expected = [math.exp(0.5) - 1 - 0.5, math.exp(-1.0) - 1 + 1.0]
    assert found["engine/kl_nats_mean"].tolist() == pytest.approx(expected)


def test_the_lag_is_counted_in_steps_where_somebody_counts_and_some_may_lag() -> None:
    found = Freshness(2).metrics([rollout(3), rollout(2)], step=4)
    assert found == {"completion/lag_steps_mean": 1.5, "completion/lag_steps_max": 2.0}
    for version in (None, 4):
        assert Freshness(0).metrics([rollout(version)] * 2, step=4) == {}


PROBABILITIES = st.lists(st.floats(0.01, 1), min_size=3, max_size=3)


@given(PROBABILITIES, PROBABILITIES)
def test_k3_is_the_kl_divergence_of_engine_and_trainer(p: list[float], q: list[float]) -> None:
    engine_V, trainer_V = torch.tensor(p) / sum(p), torch.tensor(q) / sum(q)
    k3_V = gaps(trainer_V.log(), engine_V.log())["engine/kl_nats_mean"]
    exact = (engine_V * (engine_V / trainer_V).log()).sum()
    assert float((engine_V * k3_V).sum()) == pytest.approx(float(exact), abs=1e-5)
    assert bool((k3_V >= -1e-6).all())


def stale_student(version: int, by: float = 0.4) -> RolloutWorker:
    """Says completions whose tokens the engine found a little likelier or less likely than it."""
    made = student()
    rollouts = made.rollouts([*asked("a", "b")], 0)
    log_q = made.sampled_log_q(rollouts)
    said = [
        replace(r.completion, version=version, log_q=tuple(v - by * (-1) ** n for v in row))
        for n, (r, row) in enumerate(zip(rollouts, log_q, strict=True))
    ]
    return replace(made, engine=ScriptedEngine(said))


def method(made: RolloutWorker, freshness: Freshness | None) -> OnPolicy:
    teacher = ShadowTeacher(made.policy, decay=None)
    return OnPolicy(made, [(1.0, distill(made, teacher))], freshness)


@pytest.mark.parametrize("kind", [LocalEngine, HfEngine])
def test_the_gap_of_an_engine_is_rounding_and_shows_other_weights(kind: Any) -> None:
    made = replace(student(), decoding=Decoding(12, 1.3))
    other = build_policy(tiny_model(seed=1), tiny_tokenizer(), config.FullFineTuning())
    gaps = []
    for policy in (made.policy, other):
        learns = method(replace(made, engine=kind(policy, 4)), None)
        batch = learns.collect(asked("a", "b"), step=0)
        _, shown = learns.loss(batch.rollouts, batch.num_learned_tokens)
        gaps.append(float(shown["engine/log_q_gap_nats_mean"]))
    assert gaps[0] < 1e-5
    assert gaps[1] > 0.5


def test_the_loss_of_stale_tokens_is_weighted_by_their_ratio() -> None:
    made = stale_student(version=1)
    weighted = method(made, Freshness(0, cap=1.3))
    batch = weighted.collect(asked("a", "b"), step=2)
    num = batch.num_learned_tokens
    loss, shown = weighted.loss(batch.rollouts, num)

    # exp(+-0.4) is 1.49 and 0.67: the first is capped at 1.3.
    factors = [1.3 if n % 2 == 0 else math.exp(-0.4) for n in range(len(batch.rollouts))]
    plain = method(stale_student(version=1), None)
    parts = [
        factor * plain.loss([rollout], num)[0]
        for factor, rollout in zip(factors, batch.rollouts, strict=True)
    ]
    split = [weighted.loss([rollout], num)[0] for rollout in batch.rollouts]
    for several in (parts, split):
        assert loss.item() == pytest.approx(torch.stack(several).sum().item(), rel=1e-5)
    lengths = [len(r.completion.token_ids) for r in batch.rollouts]
    mean = sum(f * n for f, n in zip(factors, lengths, strict=True)) / num
    assert float(shown["engine/importance_weight_mean"]) == pytest.approx(mean, rel=1e-5)
    assert float(shown["engine/log_q_gap_nats_mean"]) == pytest.approx(0.4, rel=1e-4)


def test_weights_are_those_of_the_steps_first_update() -> None:
    made = stale_student(version=1)
    weighted = method(made, Freshness(0, cap=9.0))
    batch = weighted.collect(asked("a", "b"), step=2)
    num = batch.num_learned_tokens
    _, first = weighted.loss(batch.rollouts, num)
    for parameter in made.policy.trainable.values():
        parameter.data += 0.1
    _, second = weighted.loss(batch.rollouts, num)
    name = "engine/importance_weight_mean"
    assert float(first[name]) == float(second[name])
    assert float(first["engine/kl_nats_mean"]) != float(second["engine/kl_nats_mean"])


def test_fresh_completions_are_learned_from_as_they_are() -> None:
    made = stale_student(version=2)
    weighted = method(made, Freshness(0, cap=1.3))
    batch = weighted.collect(asked("a", "b"), step=2)
    loss, shown = weighted.loss(batch.rollouts, batch.num_learned_tokens)
    plain, _ = method(stale_student(2), None).loss(batch.rollouts, batch.num_learned_tokens)
    assert float(loss.detach()) == pytest.approx(float(plain.detach()), rel=1e-6)
    assert "engine/importance_weight_mean" not in shown


@pytest.mark.parametrize(
    ("freshness", "rollouts", "said"),
    [
        (Freshness(1), [rollout(4), rollout(2)], "step 5: .* step 2, and those of step 4 learn"),
        (Freshness(1, cap=2.0), [rollout(6)], "sampled by the weights of step 6"),
        (Freshness(1, cap=2.0), [rollout(1, log_q=())], "have no log-probabilities to weight them"),
    ],
)
def test_completions_that_cannot_be_learned_from_are_refused(
    freshness: Freshness, rollouts: list[Rollout], said: str
) -> None:
    with pytest.raises(RunError, match=said):
        freshness.metrics(rollouts, step=4)


def test_the_engines_section_says_how_far_completions_may_lag() -> None:
    lagging = {"type": "vllm", "max_lag_steps": 3, "stale": {"type": "weight"}}
    weighted = config.VllmEngine.model_validate(lagging)
    assert build_freshness(config.LocalEngine(), False) == Freshness(0)
    assert build_freshness(config.LocalEngine(), True) == Freshness(1)
    assert build_freshness(config.VllmEngine(type="vllm"), False) == Freshness(0)
    assert build_freshness(weighted, False) == Freshness(3, 3.0)


def test_a_drift_of_engine_and_trainer_warns_unless_completions_lag() -> None:
    engine = config.VllmEngine(type="vllm", max_gap_nats=0.1)
    drifted = {"engine/log_q_gap_nats_mean": 0.2}
    with pytest.warns(RuntimeWarning, match=r"0.2 nats .* engine.max_gap_nats allows 0.1"):
        warn_of_drift(engine, drifted)
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        warn_of_drift(engine, {"engine/log_q_gap_nats_mean": 0.05})
        warn_of_drift(engine, {**drifted, "completion/lag_steps_max": 1.0})
        warn_of_drift(config.LocalEngine(max_gap_nats=0.3), drifted)
    assert not raised
    with pytest.warns(RuntimeWarning, match="engine and trainer differ"):
        warn_of_drift(config.LocalEngine(), drifted)
