"""vLLM itself, without a GPU: it samples what the policy would, whatever the policy has become.

Slow, and only where vLLM is installed. One engine holds adapters, one all weights.
"""

import hashlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.test_trainer import LORA

from rcsd import config
from rcsd.data.rubric import parse_rubric
from rcsd.data.rubric_grammar import rubric_regex
from rcsd.engines.vllm import VllmEngine
from rcsd.engines.vllm_requests import policy_log_q
from rcsd.engines.vllm_server import VllmServer
from rcsd.errors import RunError
from rcsd.models.hub import model_folder
from rcsd.models.policy import Policy, load_policy
from rcsd.types import Completion, Decoding

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
    pytest.mark.filterwarnings("ignore"),  # vLLM and what it imports warn of much
]

MICRO = "builtin:micro"
QUESTIONS = ["What is the energy of a lamp of 60 W after 5 s?", "How far?", "Why is the sky blue?"]
SAMPLED = Decoding(max_tokens=24, temperature=0.8)


def build_policy(training: str) -> Policy:
    section = LORA if training == "lora" else {"type": "full"}
    return load_policy(config.Model.model_validate({"path": MICRO, "training": section}))


def moved(policy: Policy, seed: int, by: float = 0.03) -> None:
    """Other weights, as an optimizer's step leaves them."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in policy.trainable.values():
        parameter.data += by * torch.randn(parameter.shape, generator=generator)


def section(**changes: Any) -> config.VllmEngine:
    tree = {"type": "vllm", "kv_cache_gib": 0.25, "compiled": False, **changes}
    return config.VllmEngine.model_validate(tree)


@pytest.fixture(scope="module")
def adapters() -> tuple[Policy, VllmEngine]:
    policy = build_policy("lora")
    return policy, VllmEngine(policy, section(), longest=512)


@pytest.fixture(scope="module")
def whole() -> tuple[Policy, VllmEngine]:
    policy = build_policy("full")
    return policy, VllmEngine(policy, section(), longest=512)


def prompts(policy: Policy) -> list[list[int]]:
    """Questions, and a prompt so long that vLLM caches its keys and values."""
    return [*(policy.tokenizer(question)["input_ids"] for question in QUESTIONS), [5, 6, 7, 8] * 40]


def assert_by_present_weights(policy: Policy, said: list[Completion], temperature: float) -> None:
    for prompt, completion in zip(prompts(policy), said, strict=True):
        own = policy_log_q(policy, prompt, completion.token_ids, temperature)
        assert completion.log_q == pytest.approx(own, abs=1e-4)


def weights_hash(engine: VllmEngine) -> str:
    """Of all base weights that vLLM holds; adapters' buffers are no parameters."""

    def of(model: Any) -> str:
        found = hashlib.sha256()
        for name, value in sorted(model.named_parameters()):
            found.update(name.encode() + value.detach().numpy().tobytes())
        return found.hexdigest()

    [said] = engine._llm.apply_model(of)
    return said


# Adapters


def test_the_base_is_the_same_bit_for_bit_after_fifty_versions_and_samples_follow_each(
    adapters: tuple[Policy, VllmEngine],
) -> None:
    policy, engine = adapters
    asked = prompts(policy)
    engine.sync(0)
    weights = weights_hash(engine)
    texts = set()
    for version in range(1, 51):
        moved(policy, version, by=0.01)
        engine.sync(version)
        if version % 10 == 0:
            said = engine.sample(asked, SAMPLED, seed=3)
            assert {completion.version for completion in said} == {version}
            assert_by_present_weights(policy, said, 0.8)
            texts.add(tuple(completion.text for completion in said))
    assert len(texts) > 1
    assert weights_hash(engine) == weights
    assert len(engine._llm.llm_engine.list_loras()) == 1


# All weights


@pytest.mark.parametrize("temperature", [None, 0.8, 2.0])
def test_samples_follow_all_weights_the_tied_head_included(
    whole: tuple[Policy, VllmEngine], temperature: float | None
) -> None:
    policy, engine = whole
    for version in range(3):
        moved(policy, version)
        engine.sync(version)
        said = engine.sample(prompts(policy), Decoding(24, temperature), seed=3)
        assert {completion.version for completion in said} == {version}
        assert_by_present_weights(policy, said, temperature or 1.0)


def test_a_head_that_is_left_behind_is_refused(
    whole: tuple[Policy, VllmEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, engine = whole
    monkeypatch.setattr("rcsd.engines.vllm._pack_head", lambda model: None)
    moved(policy, 9, by=0.1)
    with pytest.raises(RunError, match=r"differ by .* nats per token"):
        engine.sync(9)
    monkeypatch.undo()
    engine.sync(10)


# Draws


def test_draws_hang_on_seed_and_index_and_leave_the_processs_numbers_alone(
    whole: tuple[Policy, VllmEngine],
) -> None:
    policy, engine = whole
    asked = prompts(policy) * 3
    state = torch.get_rng_state()
    said = engine.sample(asked, SAMPLED, seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    shared = engine.sample(asked[:4], SAMPLED, seed=5)
    shared += engine.sample(asked[4:], SAMPLED, seed=5, first=4)
    assert [c.token_ids for c in shared] == [c.token_ids for c in said]
    assert said[0].token_ids != said[4].token_ids
    for completion in said:
        text = policy.tokenizer.decode(list(completion.token_ids), skip_special_tokens=True)
        assert completion.text == text


def test_a_grammar_holds_and_tells_no_log_probabilities(whole: tuple[Policy, VllmEngine]) -> None:
    policy, engine = whole
    regex = rubric_regex(3, 40)
    for completion in engine.sample(prompts(policy), Decoding(200, 1.0, regex=regex), seed=1):
        assert completion.finished
        assert parse_rubric(json.loads(completion.text))
        assert completion.log_q == ()


def test_a_prompt_without_room_is_refused(whole: tuple[Policy, VllmEngine]) -> None:
    with pytest.raises(RunError, match="maximum context length is 512 tokens"):
        whole[1].sample([[5] * 520], SAMPLED, seed=1)
    with pytest.raises(RunError, match="without an end token, where 24 were requested"):
        whole[1].sample([[5] * 508], SAMPLED, seed=1)


# A server


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A real server of the micro model, which takes adapters."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = f"--host 127.0.0.1 --port {port} --dtype float32 --max-model-len 512 --enforce-eager "
    words += "--kv-cache-memory-bytes 268435456 --enable-lora --max-lora-rank 8 --max-logprobs 20 "
    words += "--lora-target-modules q_proj k_proj v_proj o_proj gate_proj up_proj down_proj "
    words += "--logprobs-mode processed_logprobs"
    surroundings = os.environ | {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_LOGGING_LEVEL": "ERROR",
    }
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model"]
    process = subprocess.Popen(
        [*command, str(model_folder(MICRO)), *words.split()], env=surroundings
    )
    try:
        yield f"http://127.0.0.1:{port}"  # an engine waits until it is up
    finally:
        process.terminate()
        process.wait(60)


def test_a_server_samples_and_follows_adapters_as_the_process_does(
    url: str, tmp_path: Path
) -> None:
    policy = build_policy("lora")
    chosen = config.VllmServer(type="vllm_server", url=url, shared_folder=tmp_path / "shared")
    engine = VllmServer(policy, chosen, longest=512)
    asked, said = prompts(policy), list[Completion]()
    for version in range(3):
        moved(policy, version)
        engine.sync(version)
        said = engine.sample(asked, Decoding(24, 1.0), seed=3)
        assert_by_present_weights(policy, said, 1.0)
        assert {completion.version for completion in said} == {version}
    shared = engine.sample(asked[:1], Decoding(24, 1.0), seed=3)
    shared += engine.sample(asked[1:], Decoding(24, 1.0), seed=3, first=1)
    assert [c.token_ids for c in shared] == [c.token_ids for c in said]
