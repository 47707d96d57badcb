"""Adapters: what they cover, and that a merged export is the policy."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from tests.models.test_zoo import FAST, SLOW, log_p, tiny
from tests.support.launched import codes, on_ranks
from tests.support.tiny import tiny_folder, tiny_shape, tiny_tokenizer
from tests.training.test_launch import FSDP, assert_same, made
from tests.training.test_trainer import LORA, Tree, check_resumes_exactly, settings
from torch import Tensor
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM

from rcsd import config
from rcsd.engines.weight_sync import check_adapter
from rcsd.errors import ConfigError, ModelError
from rcsd.models.adapters import coverage
from rcsd.models.packing import padded
from rcsd.models.policy import Policy, load_policy
from rcsd.models.save import export_merged, load_trained, save_model
from rcsd.models.scorer import Scorer
from rcsd.runs import RunFolder
from rcsd.training.trainer import run

ROWS = padded([[5, 6, 7], [8, 9]], [[9, 10, 30], [11, 12, 13, 40]], 0)
EXPERTS = ["experts.gate_up_proj", "experts.down_proj"]
ATTENTION = ["q_proj", "v_proj"]


def saved(model: Any, folder: Path) -> str:
    """A model with the tiny tokenizer in a folder."""
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def load(path: str | Path, **training: Any) -> Policy:
    """A policy with adapters, or whole where nothing is said of training."""
    section = {"path": str(path), "training": training or {"type": "full"}}
    return load_policy(config.Model.model_validate(section))


def scores(policy: Policy) -> Tensor:
    """Log-probabilities of a few completions."""
    return log_p(Scorer(policy.model), ROWS)


def move(policy: Policy) -> Tensor:
    """One step uphill of all that is trained; returns the scores after it."""
    policy.model.zero_grad()
    scores(policy).sum().backward()
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in policy.trainable.items():
            if "lora_" in name:
                parameter += 0.05 * torch.randn(parameter.shape, generator=draw)
            elif parameter.grad is not None:
                parameter += 0.01 * parameter.grad / (parameter.grad.norm() + 1e-6)
        return scores(policy)


def check_export(path: str, folder: Path, **training: Any) -> Policy:
    """What is trained moves the scores, and the plain model that is exported has them."""
    policy = load(path, **training)
    before = scores(policy).detach()
    expected = move(policy)
    assert (expected - before).abs().max() > 1e-3
    save_model(policy, folder / "model", "card")
    out = folder / "model"
    if policy.has_adapters:
        section = config.Model.model_validate({"path": path, "training": training})
        out = folder / "merged"
        export_merged(section, folder / "model", out)
        torch.testing.assert_close(scores(load(folder / "model")), expected, atol=2e-5, rtol=0)
    [kind] = AutoConfig.from_pretrained(out).architectures or []
    plain = getattr(transformers, kind).from_pretrained(out).eval()
    torch.testing.assert_close(log_p(Scorer(plain), ROWS), expected, atol=2e-5, rtol=0)
    return policy


@pytest.mark.parametrize(
    "name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_a_step_in_adapters_and_in_full_is_exported(name: str, tmp_path: Path) -> None:
    path = saved(tiny(name), tmp_path / "base")
    check_export(path, tmp_path / "lora", **LORA)
    check_export(path, tmp_path / "full", type="full")


@pytest.mark.parametrize("name", ["qwen3_moe", "mixtral", "olmoe", "gpt_oss", "llama4_text"])
def test_experts_are_trained_and_exported(name: str, tmp_path: Path) -> None:
    path = saved(tiny(name), tmp_path / "base")
    policy = check_export(
        path, tmp_path, **LORA, target_modules=ATTENTION, target_parameters=EXPERTS
    )
    trained = coverage(policy.model, policy.trained)
    assert trained["layers"] == dict.fromkeys(ATTENTION, 2)
    assert trained["target_parameters"] == dict.fromkeys(sorted(EXPERTS), 2)
    assert not trained["experts_left_out"]


def test_experts_alone_can_have_adapters(tmp_path: Path) -> None:
    path = saved(tiny("gpt_oss"), tmp_path / "base")
    check_export(path, tmp_path, **LORA, target_modules=[], target_parameters=EXPERTS)


@pytest.mark.parametrize("name", ["gpt_oss", "granitemoe", "jetmoe", "phimoe", "qwen3_moe"])
def test_experts_that_stay_frozen_are_told_with_their_share(name: str, tmp_path: Path) -> None:
    path = saved(tiny(name), tmp_path / "base")
    names = ["kv_proj"] if name == "jetmoe" else ATTENTION
    policy = load(path, **LORA, target_modules=names)
    stacks = [p.numel() for p in policy.model.parameters() if p.ndim == 3]
    trained = coverage(policy.model, policy.trained)
    assert sum(trained["experts_left_out"].values()) == pytest.approx(
        sum(stacks) / trained["all_parameters"]
    )
    [note] = policy.notes
    assert "stay frozen" in note
    # The names are those that adapters take.
    parameters = list(trained["experts_left_out"])
    covered = load(path, **LORA, target_modules=names, target_parameters=parameters)
    assert not covered.notes


def test_what_is_trained_is_in_the_record_and_on_the_screen(tmp_path: Path, rcsd: Any) -> None:
    path = saved(tiny("gpt_oss"), tmp_path / "base")
    section = settings(tmp_path, "run", model={"path": path, "training": LORA}, steps=1)
    (tmp_path / "run.yaml").write_text(section.model_dump_json())
    code, out, err = rcsd("train", tmp_path / "run.yaml")
    assert code == 0, err
    trained = json.loads((tmp_path / "run" / "run.json").read_text())["trained"]
    assert trained["layers"] == dict.fromkeys(["k_proj", "o_proj", "q_proj", "v_proj"], 2)
    assert trained["layers_left_out"] == {"lm_head": 1}
    assert trained["share"] == trained["parameters"] / trained["all_parameters"]
    assert f"Trained: {trained['parameters']:,} of" in out
    assert "2 q_proj" in out
    assert "experts' weights (experts.gate_up_proj, experts.down_proj: 30% of all)" in err


def test_a_run_that_trains_experts_resumes_exactly(tmp_path: Path) -> None:
    training = LORA | {"target_modules": ATTENTION, "target_parameters": EXPERTS}
    path = saved(tiny("mixtral"), tmp_path / "base")
    check_resumes_exactly(tmp_path, model={"path": path, "training": training})


@pytest.mark.slow
def test_two_sharded_processes_train_experts_as_one_does(tmp_path: Path) -> None:
    training = LORA | {"target_modules": ATTENTION, "target_parameters": EXPERTS}
    saved(tiny("mixtral"), tmp_path / "model")
    two = made(tmp_path, "two", training, **FSDP)
    assert codes(on_ranks([two, two])) == [0, 0]
    assert_same(RunFolder(two.out), run(made(tmp_path, "one", training)))


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"target_modules": ["q_proj", "qq_proj"]}, "no 'qq_proj'"),
        ({"target_parameters": ["experts.gate"]}, r"no 'experts\.gate'"),
        ({"target_modules": ["q_proj", "router"]}, r"does nothing to .*router"),
        ({"target_modules": []}, "target_modules"),
    ],
)
def test_names_without_an_effect_are_refused(training: Tree, message: str, tmp_path: Path) -> None:
    path = saved(tiny("phimoe"), tmp_path / "base")
    with pytest.raises(ModelError, match=message):
        load(path, **LORA | training)


def test_layers_whose_weight_is_read_without_a_call_get_no_adapter(tmp_path: Path) -> None:
    if transformers.__version__.startswith("5.0."):
        pytest.skip("that release calls the layer")
    path = saved(tiny("jamba"), tmp_path / "base")
    trained = coverage((policy := load(path, **LORA)).model, policy.trained)
    assert "dt_proj" not in trained["layers"]
    assert trained["layers_left_out"]["dt_proj"] == 1
    with pytest.raises(ModelError, match=r"does nothing to .*dt_proj"):
        load(path, **LORA, target_modules=["dt_proj"])


def test_experts_and_dropout_are_refused(tmp_path: Path) -> None:
    training = LORA | {"dropout": 0.1}
    with pytest.raises(ConfigError, match="no dropout"):
        settings(
            tmp_path,
            "run",
            model={"path": "m", "training": training | {"target_parameters": ["x"]}},
        )


@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize(
    "targets", [["lm_head"], ["embed_tokens"], ["q_proj", "embed_tokens", "lm_head"]]
)
def test_adapters_of_heads_and_embeddings_are_exported(
    targets: list[str], is_tied: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**tiny_shape(), tie_word_embeddings=is_tied))
    path = saved(model, tmp_path / "base")
    policy = check_export(path, tmp_path, **LORA, target_modules=targets)
    with pytest.raises(ModelError, match="vLLM takes no adapter of "):
        check_adapter(policy)


@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("modules", [["embed_tokens"], ["lm_head"], ["embed_tokens", "lm_head"]])
@pytest.mark.filterwarnings("ignore:Model (has|with) `tie_word_embeddings=True`")
def test_a_foreign_adapter_with_whole_modules_is_merged(
    modules: list[str], is_tied: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**tiny_shape(), tie_word_embeddings=is_tied)).eval()
    model.name_or_path = saved(model, tmp_path / "base")
    foreign = get_peft_model(
        model, LoraConfig(target_modules=["q_proj"], modules_to_save=modules, task_type="CAUSAL_LM")
    )
    with torch.no_grad():
        for parameter in (p for p in foreign.parameters() if p.requires_grad):
            parameter += 0.1 * torch.randn(parameter.shape)
        expected = log_p(Scorer(foreign), ROWS)
    foreign.save_pretrained(str(tmp_path / "adapter"))
    merged = load(tmp_path / "adapter")
    torch.testing.assert_close(scores(merged), expected, atol=2e-5, rtol=0)
    save_model(merged, tmp_path / "whole", "card")
    torch.testing.assert_close(scores(load(tmp_path / "whole")), expected, atol=2e-5, rtol=0)


def test_vllm_is_given_no_adapter_that_it_does_not_take(tmp_path: Path) -> None:
    path = saved(tiny("gpt_oss"), tmp_path / "base")
    check_adapter(load(path, **LORA))
    check_adapter(load(path))
    with pytest.raises(ModelError, match=r"no adapter of .*experts"):
        check_adapter(load(path, **LORA, target_parameters=EXPERTS))


def test_an_adapter_is_trained_on_evaluated_and_exported(tmp_path: Path, rcsd: Any) -> None:
    path = tiny_folder(tmp_path / "model")
    section = {"path": path, "training": LORA}
    first = run(settings(tmp_path, "first", model=section, steps=2))
    expected = scores(load_trained(config.Model.model_validate({"path": str(first.path)})).policy)
    # Fresh adapters and all weights begin as the adapter's model.
    for training in (LORA, {"type": "full"}):
        torch.testing.assert_close(scores(load(first.model, **training)), expected)
    torch.testing.assert_close(
        scores(load_trained(config.Model(path=str(first.model))).policy), expected
    )
    code, _, err = rcsd("export", first.model, "--out", tmp_path / "plain")
    assert code == 0, err
    torch.testing.assert_close(scores(load(tmp_path / "plain")), expected)
    # An adapter upon an adapter.
    upon = {"path": str(first.model), "training": LORA}
    second = run(settings(tmp_path, "second", model=upon, steps=2))
    policy = load_trained(config.Model(path=str(second.path))).policy
    assert not torch.allclose(scores(policy), expected)
    torch.testing.assert_close(scores(load(second.model)), scores(policy))
    export_merged(config.Model.model_validate(upon), second.model, tmp_path / "out")
    torch.testing.assert_close(scores(load(tmp_path / "out")), scores(policy))


def test_an_adapters_own_template_is_used_and_else_its_bases(tmp_path: Path) -> None:
    path = tiny_folder(tmp_path / "base")
    save_model(load(path, **LORA), tmp_path / "adapter", "card")
    template = tmp_path / "adapter" / "chat_template.jinja"
    template.write_text(template.read_text() + "{# of the adapter #}")
    assert "of the adapter" in load(tmp_path / "adapter").tokenizer.chat_template
    for file in (tmp_path / "adapter").glob("*token*"):
        file.unlink()
    assert "of the adapter" not in load(tmp_path / "adapter").tokenizer.chat_template


def edit(file: Path, **changes: Any) -> None:
    """Change keys of a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_an_adapter_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path, folder = tiny_folder(tmp_path / "base"), tmp_path / "adapter"
    save_model(load(path, **LORA), folder, "card")
    written = folder / "adapter_config.json"
    edit(written, target_modules=["q_proj", "v_proj"])
    with pytest.raises(ModelError, match="has no place for"):
        load(folder)
    edit(written, target_modules=[*ATTENTION, "k_proj", "o_proj", "lm_head"])
    with pytest.raises(ModelError, match=r"lacks .*lm_head"):
        load(folder)
    edit(written, base_model_name_or_path=str(tmp_path / "gone"))
    with pytest.raises(ModelError, match=r"cannot load '.*gone', the base of the adapter in .*ada"):
        load(folder)
    edit(written, base_model_name_or_path=str(folder))
    with pytest.raises(ModelError, match="its own base"):
        load(folder)
    edit(written, base_model_name_or_path=None)
    with pytest.raises(ModelError, match="names no base"):
        load(folder)
    written.write_text("{")
    with pytest.raises(ModelError, match="adapter"):
        load(folder)


def test_learned_prompts_are_no_adapter_to_merge(tmp_path: Path) -> None:
    path, folder = tiny_folder(tmp_path / "base"), tmp_path / "adapter"
    save_model(load(path, **LORA), folder, "card")
    prompts = {"peft_type": "PROMPT_TUNING", "task_type": "CAUSAL_LM", "num_virtual_tokens": 2}
    prompts |= {"base_model_name_or_path": path}
    (folder / "adapter_config.json").write_text(json.dumps(prompts))
    with pytest.raises(ModelError, match="learned prompts"):
        load(folder)
