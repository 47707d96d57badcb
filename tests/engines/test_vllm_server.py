"""vLLM over HTTP, against a server on loopback that answers as vLLM does, without vLLM."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from tests.support.scripted_server import ScriptedServer
from tests.support.tiny import tiny_folder
from tests.training.test_trainer import FULL, LORA, run_until_killed, settings, trajectory

from rcsd import config
from rcsd.distributed import Terminated
from rcsd.engines.vllm_requests import (
    checked_completion,
    has_log_q,
    policy_log_q,
    request_seed,
    sampling_fields,
)
from rcsd.engines.vllm_server import VllmServer
from rcsd.errors import ConfigError, RunError
from rcsd.models.policy import Policy, load_policy
from rcsd.runs import RunFolder
from rcsd.training.trainer import run
from rcsd.types import Completion, Decoding

PROMPTS = [[5, 6, 7], [8, 9], [5, 6, 7], [10, 11, 12, 13], [5, 6, 7]]
DECODING = Decoding(max_tokens=6, temperature=1.0)
Make = Callable[..., VllmServer]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture
def server(folder: str) -> Iterator[ScriptedServer]:
    served = ScriptedServer(folder, is_dev=True)
    yield served
    served.close()


@pytest.fixture
def make(server: ScriptedServer, folder: str, tmp_path: Path) -> Make:
    """Builds engines of the server, each with a policy of its own that has moved by a seed."""

    def build(seed: int = 1, training: dict[str, Any] = LORA, **changes: Any) -> VllmServer:
        policy = moved(policy_in(folder, training), seed)
        return VllmServer(policy, section(server, tmp_path, **changes))

    return build


@pytest.fixture(scope="module")
def ready(
    folder: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ScriptedServer, VllmServer]]:
    """A server and an engine that is at its first version, for tests that change neither."""
    served = ScriptedServer(folder)
    chosen = section(served, tmp_path_factory.mktemp("ready"), batch_size=1)
    made = VllmServer(policy_in(folder), chosen)
    made.sync(0)
    yield served, made
    served.close()


def policy_in(folder: str, training: dict[str, Any] = LORA) -> Policy:
    return load_policy(config.Model.model_validate({"path": folder, "training": training}))


def moved(policy: Policy, seed: int) -> Policy:
    """The same policy with other weights, as an optimizer's step leaves them."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in policy.trainable.values():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return policy


def section(server: ScriptedServer, tmp_path: Path, **changes: Any) -> config.VllmServer:
    tree = {"type": "vllm_server", "url": server.url, "shared_folder": tmp_path / "shared"}
    return config.VllmServer.model_validate({**tree, "patience_seconds": 5, **changes})


def assert_by_present_weights(made: VllmServer, said: Completion) -> None:
    own = policy_log_q(made.policy, PROMPTS[0], said.token_ids, 1.0)
    assert said.log_q == pytest.approx(own, abs=1e-5)


# What is asked for


def test_a_requests_seed_hangs_on_the_seed_and_the_index_alone() -> None:
    seeds = {request_seed(seed, index) for seed in range(20) for index in range(50)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)
    drawn = np.random.SeedSequence([3, 4]).generate_state(1, np.uint64)[0]
    assert request_seed(3, 4) == int(drawn) // 2


def test_a_request_says_every_field_that_a_model_could_fill_with_habits_of_its_own() -> None:
    assert sampling_fields(Decoding(7, 0.8, 0.9, 20), 3, (1, 2)) == {
        "max_tokens": 7, "temperature": 0.8, "top_p": 0.9, "top_k": 20, "min_p": 0.0,
        "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "seed": 3,
        "logprobs": 0, "ignore_eos": True, "stop_token_ids": [1, 2],
    }  # fmt: skip
    assert sampling_fields(Decoding(7), 3, (1,))["temperature"] == 0
    for temperature in (0.005, 2.5):
        with pytest.raises(ConfigError, match=r"vLLM samples from 0.01 to 2.0"):
            sampling_fields(Decoding(7, temperature), 3, (1,))


def test_log_probabilities_are_kept_only_where_they_are_those_of_the_whole_vocabulary() -> None:
    assert all(map(has_log_q, (Decoding(5), Decoding(5, 0.7))))
    sampled = Decoding(5, 1.0)
    for cut in (replace(sampled, top_p=0.9), replace(sampled, top_k=20), Decoding(5, regex="a+")):
        assert not has_log_q(cut)


def test_prompts_and_completions_are_token_ids_and_the_text_is_the_policys_own(
    server: ScriptedServer, make: Make
) -> None:
    made = make()
    made.sync(3)
    server.asked.clear()
    completions = made.sample(PROMPTS, DECODING, seed=7)
    sent = server.bodies("/v1/completions")
    assert sorted(body["prompt"] for body in sent) == sorted(PROMPTS)
    assert {body["seed"] for body in sent} == {request_seed(7, n) for n in range(5)}
    assert len({body["cache_salt"] for body in sent}) == 1
    assert {body["model"] for body in sent} == set(server.adapters)
    decode = made.policy.tokenizer.decode
    for completion in completions:
        ids = list(completion.token_ids)
        assert completion.text == decode(ids, skip_special_tokens=True)
        assert completion.version == 3
    assert_by_present_weights(made, completions[0])


def test_sharing_prompts_out_among_engines_and_batches_changes_no_draw(
    server: ScriptedServer, make: Make, tmp_path: Path
) -> None:
    whole = make()
    policy, chosen = whole.policy, section(server, tmp_path, batch_size=1)
    other = VllmServer(policy, chosen, is_main=False)
    whole.sync(5)
    loads = len(server.bodies("/v1/load_lora_adapter"))
    other.sync(5)  # another process knows the version's name, and writes nothing
    assert len(server.bodies("/v1/load_lora_adapter")) == loads
    all_of_them = whole.sample(PROMPTS, DECODING, seed=7)
    assert len({c.token_ids for c in (all_of_them[0], all_of_them[2], all_of_them[4])}) > 1
    shared = other.sample(PROMPTS[:2], DECODING, seed=7)
    shared += other.sample(PROMPTS[2:], DECODING, seed=7, first=2)
    assert shared == all_of_them
    assert whole.sample(PROMPTS, DECODING, seed=8) != all_of_them


def test_a_language_is_sent_as_it_is_and_a_server_that_refuses_it_is_quoted(
    ready: tuple[ScriptedServer, VllmServer],
) -> None:
    server, made = ready
    [said] = made.sample(PROMPTS[:1], Decoding(4, 1.0, regex="[a-c]+"), seed=0)
    assert server.bodies("/v1/completions")[-1]["structured_outputs"] == {"regex": "[a-c]+"}
    assert said.log_q == ()
    server.faults.append((400, '{"error": {"message": "Grammar error: lookahead"}}'))
    with pytest.raises(RunError, match=r"refused with 400.*Grammar error: lookahead"):
        made.sample(PROMPTS[:1], Decoding(4, 1.0, regex="(?=a)"), seed=0)


# Versions


@pytest.mark.parametrize("training", [LORA, FULL])
def test_samples_follow_each_version_and_older_ones_go(
    server: ScriptedServer, make: Make, tmp_path: Path, training: dict[str, Any]
) -> None:
    before = {name: value.clone() for name, value in server.base.state_dict().items()}
    made = make(training=training)
    for version in range(4):
        made.sync(version)
        [said] = made.sample(PROMPTS[:1], Decoding(6), seed=0)
        assert_by_present_weights(made, said)
        assert said.version == version
        moved(made.policy, version)
    kept = sorted(path.name for path in (tmp_path / "shared").glob("rcsd-*"))
    assert [name.rsplit("-", 1)[1] for name in kept] == ["2", "3"]
    if training is LORA:
        assert sorted(server.adapters) == kept
        assert all(torch.equal(v, before[n]) for n, v in server.base.state_dict().items())
        assert server.bodies("/collective_rpc") == []


@pytest.mark.parametrize("training", [LORA, FULL])
def test_a_server_that_was_started_again_ends_the_run_until_weights_are_pushed_again(
    server: ScriptedServer, make: Make, training: dict[str, Any]
) -> None:
    made = make(training=training, batch_size=1)
    made.sync(1)
    said = made.sample(PROMPTS, DECODING, seed=7)

    def restarting(answer: Any) -> Any:
        server.restart()
        return answer

    server.faults.extend([None, None, restarting])
    for _ in range(2):  # in the middle of sampling, and before it
        with pytest.raises(RunError, match=r"started again, go on with --resume"):
            made.sample(PROMPTS, DECODING, seed=7)
    made.sync(1)
    assert made.sample(PROMPTS, DECODING, seed=7) == said


def test_what_an_earlier_run_left_is_not_taken_for_this_ones(
    server: ScriptedServer, make: Make
) -> None:
    make(seed=1).sync(0)
    second = make(seed=2)
    second.sync(0)
    [said] = second.sample(PROMPTS[:1], Decoding(6), seed=0)
    assert_by_present_weights(second, said)
    salts = {body["cache_salt"] for body in server.bodies("/v1/completions")}
    assert len(salts) == 2


def test_a_server_that_does_not_take_weights_is_refused_with_what_it_needs(
    server: ScriptedServer, make: Make
) -> None:
    made, listed = make(), (200, json.dumps({"data": []}))
    server.faults.extend([listed, (500, "LoRA rank 4 is greater than max_lora_rank 2"), listed])
    with pytest.raises(RunError, match=r"max_lora_rank 2.*Start the server with --enable-lora"):
        made.sync(0)
    server.is_dev = False
    with pytest.raises(RunError, match="VLLM_SERVER_DEV_MODE=1"):
        make(training=FULL).sync(0)


def test_weights_that_arrive_wrongly_are_refused_at_every_step(
    server: ScriptedServer, make: Make
) -> None:
    made = make(training=FULL)
    made.sync(0)
    moved(made.policy, 1)
    server.faults.append((200, '{"results": [null]}'))  # of /collective_rpc: says yes, does nothing
    with pytest.raises(RunError, match=r"differ by .* nats per token .*above engine.max_gap_nats"):
        made.sync(1)


def test_a_folder_belongs_to_one_run(make: Make, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    with FileLock(tmp_path / "shared" / ".lock"), pytest.raises(RunError, match="another run has"):
        make()


# A server that answers garbage


def first(**changes: Any) -> Callable[[Any], Any]:
    """Another first choice."""
    return lambda said: said | {"choices": [said["choices"][0] | changes]}


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ((200, "<html>login</html>"), "the answer is not a vLLM server's: Invalid JSON"),
        ((200, '{"model": "x"}'), "Field required at choices"),
        (first(token_ids=[5, 10**6, 5, 5, 5, 5]), "the token 1000000, and the vocabulary has"),
        (first(logprobs=None), "none returned"),
        (
            first(token_ids=[5, 5], logprobs={"token_logprobs": [-1, -1]}),
            "ended a completion after 2 tokens without an end token, where 6",
        ),
        (lambda said: said | {"choices": said["choices"] * 2}, "2 completions in place of one"),
        (lambda said: said | {"model": "other"}, "model other answered a request to"),
        ((400, '{"error": "no"}'), "refused with 400"),
    ],
)
def test_garbage_ends_the_run_and_is_named(
    ready: tuple[ScriptedServer, VllmServer], fault: Any, problem: str
) -> None:
    server, made = ready
    server.faults.append(fault)
    with pytest.raises(RunError, match=problem):
        made.sample(PROMPTS[:1], DECODING, seed=7)


def test_completions_that_cannot_have_been_sampled_so_are_refused(
    ready: tuple[ScriptedServer, VllmServer],
) -> None:
    policy = ready[1].policy
    end = policy.end_ids[0]
    assert checked_completion([4], [5, end], [], Decoding(4), policy, 0).finished
    with pytest.raises(FloatingPointError, match="not numbers"):
        checked_completion([4], [5, 6], [-1.0, float("nan")], Decoding(2), policy, 0)
    with pytest.raises(RunError, match="went on after an end token"):
        checked_completion([4], [5, end, 5], [], Decoding(4), policy, 0)
    with pytest.raises(RunError, match="returned 1 log-probabilities of 2 tokens"):
        checked_completion([4], [5, 6], [-1.0], Decoding(2), policy, 0)


# At the start


def test_a_server_of_other_weights_or_other_log_probabilities_is_refused(
    server: ScriptedServer, make: Make, tmp_path: Path
) -> None:
    other = policy_in(tiny_folder(tmp_path / "other", seed=1))
    with pytest.raises(RunError, match="it has other weights, another tokenizer or another prec"):
        VllmServer(other, section(server, tmp_path))
    server.mode = "raw_logprobs"
    with pytest.raises(RunError, match="without --logprobs-mode processed_logprobs"):
        make()
    server.faults.append((200, '{"data": []}'))
    with pytest.raises(RunError, match="serves no base model"):
        make()


def test_a_server_with_too_little_room_is_refused_before_the_run(
    server: ScriptedServer, folder: str, tmp_path: Path
) -> None:
    server.max_model_len, policy, chosen = 512, policy_in(folder), section(server, tmp_path)
    assert VllmServer(policy, chosen, longest=512)
    with pytest.raises(RunError, match=r"takes 512 tokens .* up to 513; start it with --max-mo"):
        VllmServer(policy, chosen, longest=513)
    with pytest.raises(RunError, match="up to 1024"):  # what the model takes
        VllmServer(policy, chosen, longest=5000)


def test_the_key_is_sent_and_written_nowhere(
    server: ScriptedServer, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"api_key_variable": "SERVER_KEY"}
    monkeypatch.setenv("SERVER_KEY", "sesame")
    make(**changes)
    assert {key for _, _, key in server.asked} == {"Bearer sesame"}
    assert "sesame" not in section(server, tmp_path, **changes).model_dump_json()


def test_an_address_with_a_route_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leave /v1 out"):
        config.VllmServer(type="vllm_server", url="http://gpu7:8000/v1", shared_folder=tmp_path)


# Whole runs


def served(server: ScriptedServer, tmp_path: Path, name: str, **changes: Any) -> config.Config:
    """A LoRA run that samples from the server."""
    engine = section(server, tmp_path).model_dump(mode="json")
    defaults: dict[str, Any] = {
        "model": {"path": server.folder, "training": LORA},
        "engine": engine | changes.pop("engine", {}),
        "optim": {"lr": 1e-2, "warmup_steps": 0},
        "sampling": {"max_tokens": 8},
        "steps": 3,
    }
    return settings(tmp_path, name, **(defaults | changes))


def test_a_run_follows_each_steps_weights_and_resumed_after_a_restart_equals_an_unbroken_one(
    server: ScriptedServer, tmp_path: Path
) -> None:
    whole = run(served(server, tmp_path, "whole", steps=4))
    rows = trajectory(whole)
    assert all(row["engine/log_q_gap_nats_mean"] < 1e-4 for row in rows)
    assert all(0 <= row["engine/kl_nats_mean"] < 1e-6 for row in rows)
    assert rows[0]["loss/divergence_nats_mean"] != rows[2]["loss/divergence_nats_mean"]
    run_until_killed(served(server, tmp_path, "broken", steps=4))
    server.restart()
    resumed = run(served(server, tmp_path, "broken", steps=4), resume=True)
    assert trajectory(resumed) == rows
    assert resumed.completions() == whole.completions()


def test_completions_that_lag_are_learned_from_end_the_run_or_are_weighted(
    server: ScriptedServer, tmp_path: Path
) -> None:
    rows = trajectory(run(served(server, tmp_path, "ahead", overlap=True)))
    assert [row["completion/lag_steps_max"] for row in rows] == [0, 1, 1]
    assert rows[0]["engine/log_q_gap_nats_mean"] < 1e-4 < rows[1]["engine/log_q_gap_nats_mean"]
    strict: dict[str, Any] = {"max_lag_steps": 0}
    with pytest.raises(RunError, match=r"step 2: the engine sampled by the weights of step 0"):
        run(served(server, tmp_path, "refused", overlap=True, engine=strict))
    weighted = strict | {"stale": {"type": "weight", "cap": 1.1}}
    rows = trajectory(run(served(server, tmp_path, "weighted", overlap=True, engine=weighted)))
    assert "engine/importance_weight_mean" not in rows[0]
    assert all(0 < row["engine/importance_weight_mean"] <= 1.1 for row in rows[1:])


# What was begun ahead is waited for where the server may be at work on it.
@pytest.mark.parametrize(
    ("fault", "overlap"),
    [
        *[(fault, False) for fault in ("silence", "drip", (503, "no", {"Retry-After": "4"}))],
        *[("away", overlap) for overlap in (False, True)],
    ],
)
def test_sigterm_ends_a_run_that_waits_for_its_server_within_two_seconds(
    server: ScriptedServer, tmp_path: Path, fault: Any, overlap: bool
) -> None:
    sent = list[float]()

    def terminate() -> None:
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGTERM)

    def on_step(step: int, _: Any) -> None:
        server.fault_of = lambda body: "drop" if fault == "away" else fault
        threading.Timer(0.5, terminate).start()

    settings = served(server, tmp_path, "run", overlap=overlap, save_every_steps=9)
    with pytest.raises(Terminated):
        run(settings, on_step=on_step)
    assert time.monotonic() - sent[0] < 2, time.monotonic() - sent[0]
    assert len(RunFolder(settings.out).metrics()) == 1 + overlap
    server.fault_of = lambda body: None
    assert len(run(settings, resume=True).metrics()) == 3
