import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pydantic
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rcsd import config
from rcsd.config import Section, load_config, parse_config
from rcsd.config.base import RENAMED
from rcsd.errors import ConfigError
from rcsd.recipes import pipeline_config, study_config
from rcsd.recipes.pipeline_config import Pipeline, WriterSettings
from rcsd.recipes.study_config import Study


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
    return [
        value
        for value in [
            *vars(config).values(),
            *vars(pipeline_config).values(),
            *vars(study_config).values(),
        ]
        if isinstance(value, type) and issubclass(value, Section) and value is not Section
    ]


def annotated_sections(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in get_args(annotation):
        yield from annotated_sections(part)


def test_every_section_can_be_reached_from_what_a_command_is_given() -> None:
    found: set[type[Section]] = set()
    ahead: list[type[Section]] = [
        config.Config,
        config.EvalConfig,
        Pipeline,
        WriterSettings,
        Study,
        config.Judging,
    ]
    while ahead:
        section = ahead.pop()
        found.add(section)
        for field in section.model_fields.values():
            ahead += [s for s in annotated_sections(field.annotation) if s not in found]
    assert found | {config.FileData, config.AskedModel} == set(sections())


@pytest.mark.parametrize("section", sections())
def test_every_section_and_every_field_has_a_docstring(section: type[Section]) -> None:
    assert section.__doc__
    fields = section.model_fields.items()
    # What a type selects, the section's docstring says.
    assert [name for name, of in fields if not of.description and name != "type"] == []


@pytest.mark.parametrize("section", sections())
def test_every_section_is_frozen_and_takes_no_unknown_key(section: type[Section]) -> None:
    assert section.model_config.get("frozen")
    assert section.model_config.get("extra") == "forbid"


def test_a_field_cannot_be_set_afterwards() -> None:
    settings = parse_config(smallest())
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        settings.steps = 3


def test_a_run_says_what_it_is_about_and_the_rest_has_defaults() -> None:
    required = [name for name, f in config.Config.model_fields.items() if f.is_required()]
    assert sorted(required) == ["data", "method", "model", "optim", "out", "steps"]
    settings = parse_config(smallest())
    assert settings.views.teacher == "rubric"
    assert isinstance(settings.method, config.Distill)
    assert isinstance(settings.method.clip, config.NoClip)
    assert isinstance(settings.teacher, config.FrozenTeacher)


def test_what_a_run_records_reads_back_to_the_same_run() -> None:
    settings = parse_config(smallest(evaluation={"data": {"type": "jsonl", "path": "a.jsonl"}}))
    assert parse_config(settings.model_dump(mode="json")) == settings


# Unions


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ({"type": "distill"}, config.Distill),
        ({"type": "sft"}, config.Sft),
        ({"type": "suppress"}, config.Suppress),
    ],
)
def test_type_selects_the_alternative(method: dict[str, Any], kind: type[Section]) -> None:
    assert isinstance(parse_config(smallest(method=method)).method, kind)


def test_a_knob_exists_only_where_it_means_something() -> None:
    text = refusal(smallest(method={"type": "distill", "clip": {"type": "none", "max_nats": 1.0}}))
    assert "method.clip.max_nats: unknown key" in text


def test_an_alternative_that_there_is_not_names_those_that_there_are() -> None:
    text = refusal(smallest(method={"type": "distil"}))
    assert "method: " in text
    assert "'distill'" in text
    assert "'sft'" in text


@pytest.mark.parametrize("name", ["none", "generic", "shuffled", "random", "reduced", "noisy"])
def test_a_placebos_name_is_short_for_its_type(run_yaml: Path, name: str) -> None:
    settings = load_config(run_yaml, [f"rubrics.placebo={name}"])
    assert settings.rubrics.placebo.type == name
    assert settings == parse_config(smallest(rubrics={"placebo": {"type": name}}))
    assert parse_config(settings.model_dump(mode="json")) == settings


def test_a_placebos_knobs_stand_beside_its_type(run_yaml: Path) -> None:
    overrides = ["rubrics.placebo.type=noisy", "rubrics.placebo.replaced_share=0.3"]
    settings = load_config(run_yaml, overrides)
    assert settings.rubrics.placebo == config.NoisyRubrics(replaced_share=0.3)


@pytest.mark.parametrize(
    ("placebo", "message"),
    [
        ("shufled", "rubrics.placebo: .*'none', 'generic', .*did you mean 'shuffled'"),
        ({"type": "nosy"}, "did you mean 'noisy'"),
        ("xyz", "'none', 'generic', 'shuffled', 'random', 'reduced', 'noisy', got"),
        ({"type": "shuffled", "kept_share": 0.5}, "rubrics.placebo.kept_share: unknown key"),
        ({"type": "generic", "seed": 1}, "rubrics.placebo.seed: unknown key"),
        ({"type": "reduced", "kept_share": 1}, "rubrics.placebo.kept_share: .*less than 1"),
        ({"type": "noisy", "replaced_share": 0}, "replaced_share: .*greater than 0"),
        (None, "rubrics.placebo: "),
    ],
)
def test_a_placebo_that_there_is_not_is_refused(placebo: Any, message: str) -> None:
    assert re.search(message, refusal(smallest(rubrics={"placebo": placebo})))


def test_a_placebo_that_nobody_sees_is_refused() -> None:
    placebo = {"placebo": "random"}
    hidden = {"views": {"teacher": "solution"}, "rubrics": placebo}
    assert "no view shows the rubric" in refusal(smallest(**hidden))
    answers = {"method": {"type": "sft", "view": "none"}, "rubrics": placebo}
    assert "no view shows the rubric" in refusal(smallest(**answers))
    learned = answers | {"views": {"writes": "rubric"}}
    assert parse_config(smallest(**learned)).rubrics.placebo.type == "random"


@pytest.mark.parametrize("beta", [0, 1, -0.5, 2])
def test_jsd_at_its_ends_is_refused(beta: float) -> None:
    text = refusal(
        smallest(method={"type": "distill", "divergence": {"type": "jsd", "beta": beta}})
    )
    assert "method.divergence.beta: " in text


def test_one_renormalised_token_is_refused_and_one_with_a_tail_is_not() -> None:
    support = {"type": "student_top_k", "k": 1}
    text = refusal(smallest(method={"type": "distill", "support": support}))
    assert "method.support: " in text
    assert "always zero" in text
    with_tail = {"type": "distill", "support": support | {"outside": "tail"}}
    assert parse_config(smallest(method=with_tail)).method.type == "distill"


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_key_of_an_earlier_version_names_the_new_one(old: str, new: str) -> None:
    assert refusal(smallest(**{old: 1})) == f"config: {old}: is now called '{new}'"
    assert f"| `{old}` | `{new}` |" in (Path(__file__).parents[2] / "CHANGELOG.md").read_text(
        "utf-8"
    )


@pytest.mark.parametrize("key", ["support", "clip"])
def test_sampled_token_takes_no_support_and_no_clip_and_reads_back(key: str) -> None:
    method = {"type": "distill", "divergence": {"type": "sampled_token"}}
    parsed = parse_config(smallest(method=method))
    assert parse_config(parsed.model_dump(mode="json")) == parsed
    other = {"support": {"type": "full"}, "clip": {"type": "token"}}[key]
    assert f"sampled_token takes no {key};" in refusal(smallest(method=method | {key: other}))


# Wrong keys and values


@pytest.mark.parametrize(
    ("place", "key", "neighbour"),
    [
        ((), "stepps", "steps"),
        (("model",), "pth", "path"),
        (("model", "training"), "rnk", "rank"),
        (("data",), "num_exampels", "num_examples"),
        (("method", "support"), "kk", "k"),
        (("method", "divergence"), "betta", "beta"),
        (("evaluation",), "every_step", "every_steps"),
        (("evaluation", "data"), "splitt", "split"),
        (("engine",), "batchsize", "batch_size"),
        (("sampling",), "max_token", "max_tokens"),
    ],
)
def test_a_misspelt_key_names_its_nearest_neighbour(
    place: tuple[str, ...], key: str, neighbour: str
) -> None:
    tree = smallest(
        model={"path": "some/model", "training": {"type": "lora"}},
        method={
            "type": "distill",
            "support": {"type": "teacher_top_k"},
            "divergence": {"type": "jsd"},
        },
        evaluation={"data": {"type": "world", "num_examples": 4}},
        engine={"type": "hf"},
        sampling={},
    )
    section = tree
    for part in place:
        section = section[part]
    section[key] = 1
    name = ".".join([*place, key])
    assert refusal(tree) == f"config: {name}: unknown key; did you mean '{neighbour}'?"


def test_a_key_that_is_called_like_its_sections_type_is_unknown_too() -> None:
    text = refusal(smallest(data={"type": "jsonl", "path": "a.jsonl", "jsonl": "a.jsonl"}))
    assert text.startswith("config: data.jsonl: unknown key")


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


def test_a_missing_key_inside_a_union_is_named_without_the_unions_type() -> None:
    assert refusal(smallest(data={"type": "rar"})) == "config: data.path: Field required"


def test_a_wrong_value_is_shown_with_what_is_allowed() -> None:
    text = refusal(smallest(steps=0))
    assert "steps: " in text
    assert "greater than or equal to 1" in text
    assert "got 0" in text


def test_a_value_of_the_wrong_kind_is_named_by_its_key_alone() -> None:
    training = {"type": "lora", "target_modules": 3}
    for line in refusal(smallest(model={"path": "m", "training": training})).splitlines():
        assert line.startswith("config: model.training.target_modules: ")


def test_all_mistakes_are_told_at_once() -> None:
    lines = refusal(smallest(steps=0, stepps=1, optim={})).splitlines()
    assert len(lines) == 3


# Files and overrides


@pytest.mark.parametrize("text", ["1e-5", "0.00001", "1.0e-05", "'1e-5'"])
def test_an_override_becomes_a_number(run_yaml: Path, text: str) -> None:
    assert load_config(run_yaml, [f"optim.lr={text}"]).optim.lr == 1e-5


def test_overrides_reach_nested_sections_that_the_file_does_not_have(run_yaml: Path) -> None:
    overrides = [
        "method.clip.type=token",
        "method.clip.max_nats=3",
        "evaluation={data: {type: rar, path: x.jsonl}}",
    ]
    settings = load_config(run_yaml, overrides)
    assert isinstance(settings.method, config.Distill)
    assert settings.method.clip == config.TokenClip(max_nats=3)
    assert settings.evaluation is not None
    assert settings.evaluation.data == config.RarData(path=Path("x.jsonl"))


def test_the_last_override_counts(run_yaml: Path) -> None:
    assert load_config(run_yaml, ["steps=5", "steps=7"]).steps == 7


def test_an_override_may_hold_an_equals_sign_and_null(run_yaml: Path) -> None:
    assert load_config(run_yaml, ["out=a=b"]).out == Path("a=b")
    assert load_config(run_yaml, ["optim.max_grad_norm=null"]).optim.max_grad_norm is None


@pytest.mark.parametrize("override", ["optim.lr", "=3", "--steps"])
def test_an_override_of_another_form_is_refused(run_yaml: Path, override: str) -> None:
    with pytest.raises(ConfigError, match="expected key=value"):
        load_config(run_yaml, [override])


def test_an_override_inside_a_value_is_refused(run_yaml: Path) -> None:
    with pytest.raises(ConfigError, match="steps is a value, not a section"):
        load_config(run_yaml, ["steps.more=1"])


def test_an_override_that_is_not_yaml_is_refused(run_yaml: Path) -> None:
    with pytest.raises(ConfigError, match="override 'steps="):
        load_config(run_yaml, ["steps=[1"])


def test_a_misspelt_override_names_its_nearest_neighbour(run_yaml: Path) -> None:
    with pytest.raises(ConfigError, match=r"optim\.rl: unknown key; did you mean 'lr'"):
        load_config(run_yaml, ["optim.rl=1"])


def test_errors_name_the_file(run_yaml: Path) -> None:
    run_yaml.write_text("model: {path: x}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"run\.yaml: data: Field required"):
        load_config(run_yaml)


@pytest.mark.parametrize(
    ("content", "message"),
    [
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
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)
