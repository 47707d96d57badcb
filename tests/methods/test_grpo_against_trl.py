"""Our GRPO and TRL's: the same completions, rewards and weights give the same loss and gradient."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tests.support.tiny import tiny_folder
from transformers import AutoModelForCausalLM, AutoTokenizer

from rcsd import config
from rcsd.data.prompts import PromptPair
from rcsd.engines.scripted import ScriptedEngine
from rcsd.graders.rewards import Reward
from rcsd.methods.base import Batch
from rcsd.methods.grpo import Grpo
from rcsd.methods.on_policy import OnPolicy
from rcsd.methods.rollouts import RolloutWorker
from rcsd.models.memory import microbatch_limit
from rcsd.models.packing import split_microbatches
from rcsd.models.policy import Policy, build_policy
from rcsd.models.scorer import Scorer
from rcsd.models.teacher import LiveTeacher
from rcsd.types import Completion, Decoding, Example, Rollout

trl = pytest.importorskip("trl", reason="trl needs Python 3.11 or newer")

MAX_TOKENS, NUM_COMPLETIONS, TEMPERATURE = 6, 4, 0.9
QUESTIONS = ["How much is 2 + 2?", "Name a gas.", "A lamp of 60 W burns for 2 h. How much energy?"]
# One group without spread, and one with an unscored completion.
REWARDS = [1.0, 0.0, 0.25, 0.0, 0.5, 0.5, 0.5, 0.5, 1.0, float("nan"), 0.0, 0.0]


class Scripted:
    """A reward that gives what it was told to."""

    def scores(self, answers: Any) -> list[float]:
        return REWARDS


def trainer_of(folder: Path, **changes: Any) -> Any:
    """TRL's trainer on the tiny model, whose rewards are ours."""
    path = tiny_folder(folder / "model")
    batch = {"per_device_train_batch_size": len(QUESTIONS) * NUM_COMPLETIONS}
    batch |= {"num_generations": NUM_COMPLETIONS, "max_completion_length": MAX_TOKENS}
    plain = {"use_cpu": True, "bf16": False, "activation_checkpointing": False, "report_to": []}
    plain |= {"disable_dropout": True, "temperature": TEMPERATURE}
    plain |= {"gradient_checkpointing": None}  # its old name, which transformers warns of

    def rewards(completions: Any, **_: Any) -> list[float | None]:
        return [None if reward != reward else reward for reward in REWARDS]

    return trl.GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(path),
        reward_funcs=rewards,
        args=trl.GRPOConfig(output_dir=str(folder / "trl"), **batch | plain | changes),
        train_dataset=Dataset.from_dict({"prompt": QUESTIONS}),
        processing_class=AutoTokenizer.from_pretrained(path),
    )


def sampled_by(trainer: Any) -> dict[str, torch.Tensor]:
    """TRL's own batch: it samples, scores and normalises, then shortens two of the completions."""
    torch.manual_seed(0)
    trainer.current_gradient_accumulation_steps = 1
    rows = [{"prompt": question} for question in QUESTIONS for _ in range(NUM_COMPLETIONS)]
    batch = trainer._generate_and_score_completions(rows)
    # The random model hardly ever ends; lengths must differ for reductions to differ.
    batch["completion_mask"][1, 2:] = 0
    batch["completion_mask"][8, 4:] = 0
    batch["num_items_in_batch"] = batch["completion_mask"].sum()
    return batch


def ours(policy: Policy, batch: Any, section: config.Grpo) -> tuple[OnPolicy, Batch]:
    """Our method, and what it collects where the engine says what TRL's model said."""

    def unpadded(which: str) -> list[tuple[int, ...]]:
        rows = zip(batch[f"{which}_ids"], batch[f"{which}_mask"], strict=True)
        return [tuple(row[mask.bool()].tolist()) for row, mask in rows]

    engine = ScriptedEngine([Completion(ids, "", False) for ids in unpadded("completion")])
    decoding, limit = Decoding(MAX_TOKENS, TEMPERATURE), microbatch_limit(10_000)
    scorer = Scorer(policy.model)
    student = RolloutWorker(policy, scorer, engine, decoding, NUM_COMPLETIONS, limit, 0)
    scripted: Reward = Scripted()
    method = OnPolicy(student, [(1.0, Grpo(section, student, LiveTeacher(), [scripted]))])
    prompts = [
        PromptPair(Example(question, question), ids, ids)
        for question, ids in zip(QUESTIONS, unpadded("prompt")[::NUM_COMPLETIONS], strict=True)
    ]
    return method, method.collect(prompts, 0)


def gradient(model: Any, loss: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def with_given(rollout: Rollout, old: list[float], frozen: list[float]) -> Rollout:
    num = len(rollout.completion.token_ids)
    log_q = {"sampled_log_q": tuple(old[:num]), "frozen_log_q": tuple(frozen[:num])}
    return replace(rollout, signals=(replace(rollout.signals[0], **log_q),))


SEQUENCE, CONSTANT = {"reduction": "sequence"}, {"reduction": "constant"}
UNSCALED, HELD = {"normalise_by_deviation": False}, {"kl_weight": 0.04, "kl_by_ratio": False}
CASES = {
    "grpo": SEQUENCE,
    "grpo, kl, two bounds": SEQUENCE | HELD | {"clip_low": 0.1, "clip_high": 0.3},
    "dapo": {"reduction": "token", "clip_high": 0.28},
    "dr_grpo": CONSTANT | UNSCALED,
    "dr_grpo, kl": CONSTANT | UNSCALED | {"kl_weight": 0.1},
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("updates", [1, 2])
def test_loss_advantages_and_gradient_equal_trls(tmp_path: Path, name: str, updates: int) -> None:
    tree = {"rewards": [{"type": "rubric"}], "updates_per_batch": updates}
    section = config.Grpo.model_validate(tree | CASES[name])
    trainer = trainer_of(
        tmp_path,
        loss_type=name.split(",")[0],
        beta=section.kl_weight,
        epsilon=section.clip_low,
        epsilon_high=section.clip_high,
        use_bias_correction_kl=section.kl_by_ratio,
        scale_rewards="group" if section.normalise_by_deviation else "none",
    )
    theirs = sampled_by(trainer)
    model = trainer.model
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    policy = build_policy(model, tokenizer, config.FullFineTuning())
    model.train()  # TRL files its metrics by the mode
    method, batch = ours(policy, theirs, section)

    advantages = torch.tensor([r.signals[0].advantages[0] for r in batch.rollouts])
    torch.testing.assert_close(advantages, theirs["advantages"], atol=1e-5, rtol=0)

    # The same log-probabilities, for both: far enough from the present ones to be clipped.
    with torch.no_grad():
        ids_BL = torch.cat([theirs["prompt_ids"], theirs["completion_ids"]], 1)
        mask_BL = torch.cat([theirs["prompt_mask"], theirs["completion_mask"]], 1)
        log_q_BT, _, _ = trainer._get_per_token_logps_and_entropies(
            model, ids_BL, mask_BL, theirs["completion_ids"].shape[1]
        )
    old_BT = log_q_BT + 0.4 * torch.randn_like(log_q_BT)
    frozen_BT = log_q_BT + 0.5 * torch.randn_like(log_q_BT)
    theirs["ref_per_token_logps"] = frozen_BT
    if updates > 1:
        theirs["old_per_token_logps"] = old_BT
    rows = zip(batch.rollouts, old_BT.tolist(), frozen_BT.tolist(), strict=True)
    rollouts = [with_given(*row) for row in rows]

    expected = trainer._compute_loss(model, theirs)
    expected_gradient = gradient(model, expected)
    loss, metrics = method.loss(rollouts, batch.num_learned_tokens)
    found_gradient = gradient(model, loss)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    torch.testing.assert_close(found_gradient, expected_gradient, atol=1e-5, rtol=1e-4)
    shown = trainer._metrics["train"]["clip_ratio/region_mean"][-1]
    assert metrics["loss/ratio_clipped_share"].item() == pytest.approx(shown, abs=1e-6)
    assert (shown > 0) == (updates > 1)

    # In micro-batches, too: TRL's whole batch is our sum over them.
    split = split_microbatches(rollouts, 1, packs=True)
    losses = [method.loss(microbatch, batch.num_learned_tokens)[0] for microbatch in split]
    assert len(losses) == len(rollouts)
    total = torch.stack(losses).sum()
    assert total.item() == pytest.approx(expected.item(), abs=1e-5)
    torch.testing.assert_close(gradient(model, total), expected_gradient, atol=1e-5, rtol=1e-4)
