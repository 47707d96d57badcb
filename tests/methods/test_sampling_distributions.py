"""Means of estimators over all that can be sampled, against exact gradients of a small model."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.methods.test_grpo import GRPO, student_of
from torch import Tensor, nn

from rcsd import config
from rcsd.data.prompts import PromptPair
from rcsd.engines.scripted import ScriptedEngine
from rcsd.methods.distill import Distill
from rcsd.methods.grpo import Grpo
from rcsd.methods.on_policy import Objective, OnPolicy
from rcsd.methods.rollouts import RolloutWorker
from rcsd.methods.staleness import Freshness
from rcsd.methods.suppress import Suppress
from rcsd.models.logits import LogitPredictions, Predictions
from rcsd.models.packing import Padded
from rcsd.models.teacher import ShadowTeacher, Teacher
from rcsd.types import Completion, Decoding, Example

V, START, HEAT = 3, 2, 1.5
WORDS = list(itertools.product(range(V), repeat=2))
REWARDS = torch.randn(len(WORDS), generator=torch.Generator().manual_seed(3)).tolist()


class Table(nn.Module):
    """A model whose logits depend on the token before alone."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(table(0))

    def forward(self, rows: Padded) -> Predictions:
        return LogitPredictions(self.logits[rows.ids_BL[rows.row_T, rows.before_T]])


class OfWord:
    """A reward for each completion, or the same for all."""

    def __init__(self, rewards: Sequence[float]) -> None:
        self.by_word = dict(zip(WORDS, rewards, strict=True))

    def scores(self, answers: Sequence[tuple[Example, Completion]]) -> list[float]:
        return [self.by_word[said.token_ids[0], said.token_ids[1]] for _, said in answers]


def table(seed: int) -> Tensor:
    return torch.randn(V, V, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def log_p(logits: Tensor, top_k: int = V) -> Tensor:
    """At the temperature of sampling, over the likeliest."""
    is_cut = logits < logits.topk(top_k).values[:, -1:]
    return (logits / HEAT).masked_fill(is_cut, -1e9).log_softmax(-1)


def of_tokens(log_p: Tensor, word: Sequence[int]) -> Tensor:
    pairs = itertools.pairwise((START, *word))
    return torch.stack([log_p[before, token] for before, token in pairs])


def visits(log_p: Tensor) -> Tensor:
    """Share of the two positions that follow each token."""
    share = log_p[START].exp() / 2
    share[START] += 0.5
    return share.detach()


def reverse_kl(log_q: Tensor, log_p: Tensor) -> Tensor:
    return (log_q.exp() * (log_q - log_p)).sum(-1)


def worker() -> tuple[RolloutWorker, Table]:
    made, model = student_of(["a"], num=2), Table()
    trained = frozenset(["logits"])
    policy = replace(made.policy, model=model, trained=trained, packs=False, turn_end_id=0)
    return replace(made, policy=policy, scorer=model, decoding=Decoding(2, HEAT)), model


def with_other_weights(made: RolloutWorker, model: Table) -> Teacher:
    """A teacher of other weights than the student's."""
    model.logits.data = table(1)
    teacher = ShadowTeacher(made.policy, decay=None)
    model.logits.data = table(0)
    return teacher


def grpo(made: RolloutWorker, rewards: Sequence[float], **section: Any) -> Grpo:
    of = config.Grpo.model_validate(GRPO | {"normalise_by_deviation": False} | section)
    return Grpo(of, made, with_other_weights(made, made.policy.model), [OfWord(rewards)])


def mean_gradient(
    objective: Objective, made: RolloutWorker, sampling: Tensor, freshness: Freshness | None = None
) -> Tensor:
    """Of a step of two completions, over all that can be sampled by these log-probabilities."""
    logits, total = made.policy.model.logits, torch.zeros(V, V, dtype=torch.double)
    prompt = PromptPair(Example("a", "?"), (START,), (START,))
    for words in itertools.product(WORDS, repeat=2):
        by_token = [of_tokens(sampling, word).detach() for word in words]
        said = [
            Completion(word, "", True, 0, tuple(row.tolist()))
            for word, row in zip(words, by_token, strict=True)
        ]
        asking = replace(made, engine=ScriptedEngine(said))
        method = OnPolicy(asking, [(1.0, objective)], freshness)
        batch = method.collect([prompt], step=0 if freshness is None else 1)
        loss, _ = method.loss(batch.rollouts, batch.num_learned_tokens)
        total += torch.cat(by_token).sum().exp() * torch.autograd.grad(loss, logits)[0]
    return total


def check(mean: Tensor, value: Tensor, logits: Tensor) -> None:
    """Compare with the gradient of a value."""
    (expected,) = torch.autograd.grad(value, logits)
    assert expected.norm() > 0.01
    torch.testing.assert_close(mean, expected, atol=1e-6, rtol=1e-5)


def test_grpo_has_the_policy_gradient_at_the_temperature_of_sampling() -> None:
    made, model = worker()
    mean = mean_gradient(grpo(made, REWARDS), made, log_p(model.logits))
    pairs = zip(WORDS, REWARDS, strict=True)
    terms = [of_tokens(log_p(model.logits), word).sum().exp() * reward for word, reward in pairs]
    # Two of four tokens, and half of it is the baseline's, which holds the completion itself.
    check(mean, -torch.stack(terms).sum() / 4, model.logits)


def test_with_cuts_grpo_has_that_of_the_cut_student_and_a_share_for_the_mass_kept() -> None:
    made, model = worker()
    cut = log_p(model.logits, top_k=2)
    mean = mean_gradient(grpo(made, REWARDS), made, cut)
    # The mass that is kept after each token; its gradient cancels where advantages have mean 0.
    kept = log_p(model.logits).masked_fill(cut < -1e8, -torch.inf).logsumexp(-1)
    chances = torch.stack([of_tokens(cut, word).sum().exp() for word in WORDS])
    rewards = torch.tensor(REWARDS, dtype=torch.double)
    advantages = (rewards - (chances * rewards).sum()) * chances
    masses = torch.stack([kept[START] + kept[word[0]] for word in WORDS])
    value = (chances * rewards).sum() + (advantages.detach() * masses).sum()
    check(mean, -value / 4, model.logits)


def test_the_kl_term_has_the_gradient_of_the_kl_at_the_temperature_of_sampling() -> None:
    made, model = worker()
    mean = mean_gradient(grpo(made, [0.0] * len(WORDS), kl_weight=1), made, log_p(model.logits))
    kl = reverse_kl(log_p(model.logits), log_p(table(1)))
    check(mean, (visits(log_p(model.logits)) * kl).sum(), model.logits)


@pytest.mark.parametrize(
    ("sampled_by", "freshness"), [(0, None), (2, Freshness(0, cap=1e9))], ids=["fresh", "stale"]
)
def test_sampled_tokens_have_the_gradient_of_reverse_kl_and_stale_ones_by_their_weights(
    sampled_by: int, freshness: Freshness | None
) -> None:
    made, model = worker()
    section = {"divergence": {"type": "sampled_token"}, "temperature": HEAT}
    teacher = with_other_weights(made, model)
    objective = Distill(config.Distill.model_validate(section), made, teacher)
    sampling = log_p(table(sampled_by))
    mean = mean_gradient(objective, made, sampling, freshness)
    kl = reverse_kl(log_p(model.logits), log_p(table(1)))
    check(mean, (visits(sampling) * kl).sum(), model.logits)


def test_suppress_lowers_the_least_likely_tokens_of_whatever_was_sampled() -> None:
    made, model = worker()
    objective = Suppress(config.Suppress(type="suppress", share=0.5, penalty=2.0), made)
    for top_k in (V, 2):
        sampling = log_p(model.logits, top_k)
        mean, whole = mean_gradient(objective, made, sampling), log_p(model.logits)
        value = torch.zeros((), dtype=torch.double)
        for words in itertools.product(WORDS, repeat=2):
            chance = torch.stack([of_tokens(sampling, w) for w in words]).sum().exp().detach()
            least = torch.cat([of_tokens(whole, w) for w in words]).sort(stable=True).values[:2]
            value = value + chance * 2.0 * least.sum() / 4
        check(mean, value, model.logits)
