import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rcsd import config
from rcsd.config import Section, load_config, parse_config
from rcsd.config.base import RENAMED, has_key, override, parse
from rcsd.config.other_libraries import KEYS, SETTINGS
from rcsd.errors import ConfigError
from rcsd.recipes import pipeline_config, study_config
from rcsd.recipes.pipeline_config import Pipeline, WriterSettings
from rcsd.recipes.study_config import Study

JSD_0 = {"type": "distill", "divergence": {"type": "jsd", "beta": 0}}
ONE = {"type": "student_top_k", "k": 1}


def smallest(**more: Any) -> dict[str, Any]:
    """The keys that have no default, and more."""
    return {
        "model": {"path": "some/model"},
        "data": {"type": "world", "num_examples": 8},
        "method": {"type": "distill"},
        "optim": {"lr": 1e-4},
        "steps": 2,
        "out": "runs/a",
    } | more


def refusal(tree: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as error:
        parse_config(tree)
    return str(error.value)


@pytest.fixture
def run_yaml(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(smallest()), encoding="utf-8")
    return path


# The tree itself


def sections() -> list[type[Section]]:
    values = [v for of in (config, pipeline_config, study_config) for v in vars(of).values()]
    return [v for v in values if isinstance(v, type) and issubclass(v, Section) and v != Section]


def annotated_sections(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type(Section)) and issubclass(annotation, Section):
        yield annotation
    for part in get_args(annotation):
        yield from annotated_sections(part)


def test_every_section_can_be_reached_from_what_a_command_is_given() -> None:
    found: set[type[Section]] = set()
    ahead: list[type[Section]] = [config.Config, config.EvalConfig, config.Judging]
    ahead += [Pipeline, WriterSettings, Study]
    while ahead:
        section = ahead.pop()
        found.add(section)
        for field in section.model_fields.values():
            ahead += [s for s in annotated_sections(field.annotation) if s not in found]
    bases = {config.FileData, config.ServerSection, pipeline_config.Recipe}
    assert found | bases == set(sections())


def test_sections_are_frozen_and_closed_and_every_field_has_a_docstring() -> None:
    for section in sections():
        assert section.__doc__
        assert section.model_config.get("frozen"), section
        assert section.model_config.get("extra") == "forbid", section
        fields = section.model_fields.items()
        # What a type selects, the section's docstring says.
        bare = [name for name, of in fields if not of.description and name != "type"]
        assert (section, bare) == (section, [])


def test_a_run_says_what_it_is_about_and_the_rest_has_defaults() -> None:
    required = [name for name, f in config.Config.model_fields.items() if f.is_required()]
    assert sorted(required) == ["data", "method", "model", "optim", "out", "steps"]
    settings = parse_config(smallest(evaluation={"data": {"type": "jsonl", "path": "a.jsonl"}}))
    assert (settings.views.teacher, settings.teacher.type) == ("rubric", "frozen")
    assert isinstance(settings.method, config.Distill)
    assert isinstance(settings.method.clip, config.NoClip)
    assert parse_config(settings.model_dump(mode="json")) == settings


# Unions


@pytest.mark.parametrize("name", ["none", "generic", "shuffled", "random", "reduced", "noisy"])
def test_a_placebos_name_is_short_for_its_type(run_yaml: Path, name: str) -> None:
    settings = load_config(run_yaml, [f"rubrics.placebo={name}"])
    assert settings.rubrics.placebo.type == name
    assert settings == parse_config(smallest(rubrics={"placebo": {"type": name}}))
    assert parse_config(settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": {"type": "distil"}}, "method: .*'distill'.*'sft'"),
        ({"method": {"type": "distill", "clip": {"type": "none", "max_nats": 1}}}, "max_nats: unk"),
        ({"rubrics": {"placebo": "shufled"}}, "'none', 'generic', .*did you mean 'shuffled'"),
        ({"rubrics": {"placebo": {"type": "nosy"}}}, "did you mean 'noisy'"),
        ({"rubrics": {"placebo": "xyz"}}, "'shuffled', 'random', 'reduced', 'noisy', got"),
        ({"rubrics": {"placebo": {"type": "generic", "seed": 1}}}, "placebo.seed: unknown key"),
        ({"rubrics": {"placebo": {"type": "reduced", "kept_share": 1}}}, "kept_share: .*less"),
        ({"rubrics": {"placebo": {"type": "noisy", "replaced_share": 0}}}, "share: .*greater"),
        ({"rubrics": {"placebo": None}}, "rubrics.placebo: "),
        ({"method": JSD_0}, "method.divergence.beta: "),
        ({"method": {"type": "distill", "support": ONE}}, "method.support: .*always zero"),
        ({"data": {"type": "jsonl", "path": "a", "jsonl": "a"}}, "data.jsonl: unknown key"),
        ({"data": {"type": "rar"}}, "config: data.path: Field required$"),
        ({"max_tokens_per_microbatch": "auto"}, "set a number; 'rcsd plan'.*got 'auto'"),
        ({"steps": 0}, "steps: .*greater than or equal to 1, got 0"),
    ],
)
def test_what_a_union_or_a_range_does_not_allow_is_refused(changes: Any, message: str) -> None:
    assert re.search(message, refusal(smallest(**changes)))


def test_a_placebo_that_nobody_sees_is_refused() -> None:
    placebo = {"placebo": "random"}
    hidden = {"views": {"teacher": "solution"}, "rubrics": placebo}
    assert "no view shows the rubric" in refusal(smallest(**hidden))
    answers = {"method": {"type": "sft", "view": "none"}, "rubrics": placebo}
    assert "no view shows the rubric" in refusal(smallest(**answers))
    learned = answers | {"views": {"writes": "rubric"}}
    assert parse_config(smallest(**learned)).rubrics.placebo.type == "random"


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_key_of_an_earlier_version_names_the_new_one(old: str, new: str) -> None:
    assert refusal(smallest(**{old: 1})) == f"config: {old}: is now called '{new}'"
    changes = Path(__file__).parents[2] / "CHANGELOG.md"
    assert f"| `{old}` | `{new}` |" in changes.read_text("utf-8")


def test_every_key_that_a_hint_names_exists() -> None:
    roots = (config.Config, config.EvalConfig)
    keys = [key for text in SETTINGS for match in KEYS.findall(text) for key in match.split("|")]
    assert [key for key in keys if not any(has_key(of, key.split(".")) for of in roots)] == []


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("num_generations", "(TRL); here: 'completions_per_example'"),
        ("gradient_checkpointing", "(transformers); here: 'model.activation_checkpointing'"),
        ("optim.learning_rate", "(transformers); here: 'optim.lr'"),
        ("evaluation.max_new_tokens", "(transformers); here: 'evaluation.max_tokens'"),
        ("method.beta", "(TRL); here: 'method.kl_weight' of grpo, 'method.divergence.beta' of jsd"),
        ("data.max_response_length", "(verl); here: 'sampling.max_tokens'"),
        ("actor_rollout_ref.rollout.n", "(verl); here: 'completions_per_example'"),
        ("actor_rollout_ref.actor.optim.lr", "(verl); here: 'optim.lr'"),
        ("trainer.total_epochs", "(verl); here: 'steps' of 'examples_per_step' examples: an"),
        ("num_mini_batches", "(open-instruct); here: 'method.updates_per_batch'"),
        ("logging_steps", "(transformers); here: none, since every step is logged"),
    ],
)
def test_a_setting_of_another_library_names_the_one_here(
    run_yaml: Path, key: str, hint: str
) -> None:
    tree = smallest(evaluation={"data": {"type": "world", "num_examples": 4}})
    override(tree, [f"{key}=1"])
    assert refusal(tree).startswith(f"config: unknown setting {key} {hint}")
    with pytest.raises(ConfigError, match="unknown setting"):
        load_config(run_yaml, [f"{key}=1"])


def test_hints_at_other_libraries_follow_the_section_that_is_read() -> None:
    tree = {"model": {"path": "m"}, "out": "o", "max_new_tokens": 4, "num_generations": 2}
    with pytest.raises(ConfigError) as error:
        parse(config.EvalConfig, tree, "eval")
    assert "max_new_tokens (transformers); here: 'max_tokens'" in str(error.value)
    assert "num_generations (TRL); here: 'num_samples'" in str(error.value)
    [line] = refusal(smallest(data={"train_files": "a", "train_batch_size": 4})).splitlines()
    assert "train_files (verl); here: 'data.path'; unknown setting data.train_batch_size" in line


@pytest.mark.parametrize("key", ["support", "clip"])
def test_sampled_token_takes_no_support_and_no_clip_and_reads_back(key: str) -> None:
    method = {"type": "distill", "divergence": {"type": "sampled_token"}}
    parsed = parse_config(smallest(method=method))
    assert parse_config(parsed.model_dump(mode="json")) == parsed
    other = {"support": {"type": "full"}, "clip": {"type": "token"}}[key]
    assert f"sampled_token takes no {key};" in refusal(smallest(method=method | {key: other}))


# Wrong keys and values


@pytest.mark.parametrize(
    ("name", "neighbour"),
    [
        ("stepps", "steps"),
        ("model.pth", "path"),
        ("model.training.rnk", "rank"),
        ("data.num_exampels", "num_examples"),
        ("method.support.kk", "k"),
        ("method.divergence.betta", "beta"),
        ("evaluation.every_step", "every_steps"),
        ("evaluation.data.splitt", "split"),
        ("engine.batchsize", "batch_size"),
        ("sampling.max_token", "max_tokens"),
    ],
)
def test_a_misspelt_key_names_its_nearest_neighbour(name: str, neighbour: str) -> None:
    tree = smallest(
        model={"path": "some/model", "training": {"type": "lora"}},
        method={
            "type": "distill",
            "divergence": {"type": "jsd"},
            "support": {"type": "teacher_top_k"},
        },
        evaluation={"data": {"type": "world", "num_examples": 4}},
        engine={"type": "hf"},
    )
    override(tree, [f"{name}=1"])
    assert refusal(tree) == f"config: {name}: unknown key; did you mean '{neighbour}'?"


@given(st.text(min_size=1, max_size=12))
def test_any_unknown_key_is_refused_with_a_hint(key: str) -> None:
    if key in config.Sampling.model_fields:
        return
    text = refusal(smallest(sampling={key: 1}))
    assert f"sampling.{key}: unknown key; did you mean '" in text


@pytest.mark.parametrize("key", ["model", "data", "method", "optim", "steps", "out"])
def test_a_missing_key_is_named(key: str) -> None:
    tree = smallest()
    del tree[key]
    assert refusal(tree) == f"config: {key}: Field required"


def test_all_mistakes_are_told_at_once_each_by_its_key_alone() -> None:
    training = {"type": "lora", "target_modules": 3}
    tree = smallest(steps=0, stepps=1, optim={}, model={"path": "m", "training": training})
    named = [line.split(": ")[1] for line in refusal(tree).splitlines()]
    assert set(named) == {"steps", "stepps", "optim.lr", "model.training.target_modules"}


# Files and overrides


@pytest.mark.parametrize("text", ["1e-5", "0.00001", "1.0e-05", "'1e-5'"])
def test_an_override_becomes_a_number(run_yaml: Path, text: str) -> None:
    assert load_config(run_yaml, [f"optim.lr={text}"]).optim.lr == 1e-5


def test_overrides_reach_nested_sections_that_the_file_does_not_have(run_yaml: Path) -> None:
    overrides = ["rubrics.placebo.type=noisy", "rubrics.placebo.replaced_share=0.3"]
    settings = load_config(run_yaml, [*overrides, "evaluation={data: {type: rar, path: x.jsonl}}"])
    assert settings.rubrics.placebo == config.NoisyRubrics(replaced_share=0.3)
    assert settings.evaluation is not None
    assert settings.evaluation.data == config.RarData(path=Path("x.jsonl"))


def test_the_last_override_counts_and_may_hold_an_equals_sign_or_null(run_yaml: Path) -> None:
    overrides = ["steps=5", "steps=7", "out=a=b", "optim.max_grad_norm=null", "evaluation=null"]
    settings = load_config(run_yaml, overrides)
    assert (settings.steps, settings.out, settings.optim.max_grad_norm) == (7, Path("a=b"), None)
    overrides.append("evaluation.data={type: world, num_examples: 4}")
    assert load_config(run_yaml, overrides).evaluation is not None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        *((each, "expected key=value") for each in ("optim.lr", "=3", "--steps")),
        ("steps.more=1", "steps is a value, not a section"),
        ("steps=[1", "override 'steps="),
        ("optim.rl=1", r"optim\.rl: unknown key; did you mean 'lr'"),
    ],
)
def test_a_wrong_override_is_refused(run_yaml: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(run_yaml, [override])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"model: {path: x}", r"run\.yaml: data: Field required"),
        (b"a: [1", "not YAML"),
        (b"\xff\xfe", "not YAML"),
        (b"", "expected sections"),
        (b"- 1\n", "expected sections"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(
    run_yaml: Path, content: bytes, message: str
) -> None:
    run_yaml.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_config(run_yaml)


def test_a_file_that_is_not_there_or_is_a_folder_is_refused(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "none.yaml", "no such file"), (tmp_path, "cannot be read")):
        with pytest.raises(ConfigError, match=message):
            load_config(path)
