"""Presets: what each one fills in, in full, and that nothing else may stand under its name."""

from pathlib import Path
from typing import Any, get_args

import pytest
from tests.training.test_trainer import settings

from rcsd import config
from rcsd.config import parse_config
from rcsd.config.presets import PRESETS, PresetName
from rcsd.errors import ConfigError
from rcsd.training.trainer import run

FORWARD_KL, JSD = {"type": "forward_kl"}, {"type": "jsd", "beta": 0.5}
TOP_20 = {"type": "teacher_top_k", "k": 20, "outside": "renormalise"}
FULL, NO_CLIP, ENTRY = {"type": "full"}, {"type": "none"}, {"type": "entry", "max_nats": 0.05}
# Divergence, support, clip and temperature of the loss; view and analysis; temperature, top-p and
# top-k of the samples.
RESOLVED = {
    name: {
        "method": dict(zip(("divergence", "support", "clip", "temperature"), loss, strict=True)),
        "views": dict(zip(("teacher", "analysis"), views, strict=True)),
        "sampling": dict(zip(("temperature", "top_p", "top_k"), sampling, strict=True)),
    }
    for name, loss, views, sampling in (
        ("rcsd", (FORWARD_KL, TOP_20, NO_CLIP, 1.0), ("rubric", False), (1.0, 1.0, None)),
        ("opsd", (JSD, FULL, NO_CLIP, 1.1), ("solution", False), (1.1, 0.95, 20)),
        ("rgsd", (JSD, FULL, NO_CLIP, 1.0), ("rubric", False), (1.0, 1.0, None)),
        ("rcsd-paper", (FORWARD_KL, TOP_20, ENTRY, 1.0), ("rubric+answer", True), (1.2, 0.95, 20)),
    )
}
GRPO: dict[str, Any] = {"type": "grpo", "rewards": [{"type": "answer"}]}


def tree(preset: Any = None, **more: Any) -> dict[str, Any]:
    method = {"type": "distill"} | ({} if preset is None else {"preset": preset})
    return {
        "model": {"path": "some/model"},
        "data": {"type": "world", "num_examples": 8},
        "method": method,
        "optim": {"lr": 1e-4},
        "steps": 4,
        "out": "runs/a",
        "completions_per_example": 2,
    } | more


def refusal(tree: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as error:
        parse_config(tree)
    return str(error.value)


def nested(preset: str) -> dict[str, dict[str, Any]]:
    """The preset inside every kind of method that holds a distillation."""
    inner = {"type": "distill", "preset": preset}
    last = {"method": {"type": "suppress"}}
    return {
        "sum": {"type": "sum", "terms": [{"method": inner}, {"method": GRPO}]},
        "schedule": {"type": "schedule", "phases": [{"method": inner, "steps": 1}, last]},
        "schedule of sums": {
            "type": "schedule",
            "phases": [
                {"method": GRPO, "steps": 1},
                {"method": {"type": "sum", "terms": [last, {"method": inner}]}},
            ],
        },
        "srpo": {"type": "srpo", "reward": GRPO, "distill": {"preset": preset}},
        "criterion": {"type": "criterion", "distill": {"preset": preset}},
    }


# By hand


def test_every_preset_is_written_out_here() -> None:
    assert set(RESOLVED) == set(PRESETS) == set(get_args(PresetName))


@pytest.mark.parametrize("name", list(RESOLVED))
def test_a_preset_fills_in_what_is_left_out(name: str) -> None:
    resolved = parse_config(tree(name)).model_dump(mode="json")
    expected = RESOLVED[name]
    assert resolved["method"] == {"type": "distill", "preset": name, **expected["method"]}
    assert resolved["views"] == config.Views().model_dump() | expected["views"]
    assert resolved["sampling"] == config.Sampling().model_dump() | expected["sampling"]
    touched = ("method", "views", "sampling")
    plain = parse_config(tree()).model_dump(mode="json")
    assert [key for key in plain if key not in touched and plain[key] != resolved[key]] == []


def test_the_preset_rcsd_is_the_defaults() -> None:
    plain, resolved = parse_config(tree()).model_dump(), parse_config(tree("rcsd")).model_dump()
    assert resolved["method"].pop("preset") == "rcsd"
    assert plain["method"].pop("preset") is None
    assert resolved == plain


# Laws


@pytest.mark.parametrize("name", list(RESOLVED))
def test_what_a_run_records_reads_back(name: str) -> None:
    methods = nested(name)
    if name != "rgsd":  # criterion needs the rubric, and no analysis
        del methods["criterion"]
    for given in [tree(name)] + [tree(method=method) for method in methods.values()]:
        parsed = parse_config(given)
        assert parse_config(parsed.model_dump(mode="json")) == parsed


@pytest.mark.parametrize("name", list(RESOLVED))
def test_what_a_preset_says_may_be_said_again(name: str) -> None:
    said = RESOLVED[name]
    again = tree(views=said["views"], sampling=said["sampling"])
    again["method"] = {"type": "distill", "preset": name, **said["method"]}
    assert parse_config(again) == parse_config(tree(name))


@pytest.mark.parametrize("kind", list(nested("rcsd-paper")))
def test_a_preset_inside_another_method_fills_in_and_holds(kind: str) -> None:
    preset = "rgsd" if kind == "criterion" else "opsd"  # criterion reads the rubric
    method, view = nested(preset)[kind], RESOLVED[preset]["views"]["teacher"]
    parsed = parse_config(tree(method=method))
    assert parsed.sampling.temperature == RESOLVED[preset]["sampling"]["temperature"]
    assert (parsed.views.teacher, '"jsd"' in parsed.method.model_dump_json()) == (view, True)
    other = refusal(tree(method=method, views={"teacher": "rubric+answer"}))
    assert f"the preset {preset} has views.teacher: {view}" in other


@pytest.mark.parametrize("name", list(RESOLVED))
def test_one_step_of_every_preset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("RCSD_CACHE", str(tmp_path / "cache"))
    method = {"type": "distill", "preset": name}
    lengths = {"sampling": {"max_tokens": 6}, "views": {"max_analysis_tokens": 4}}
    folder = run(settings(tmp_path, "run", method=method, steps=1, **lengths))
    row = folder.metrics()[0]
    assert row["optim/grad_norm"] > 0
    assert ("loss/clipped_share" in row) == (name == "rcsd-paper")
    recorded = folder.read_record()["config"]
    assert recorded["method"] == {"type": "distill", "preset": name, **RESOLVED[name]["method"]}
    assert any((tmp_path / "cache").rglob("*.jsonl")) == (name == "rcsd-paper")


# What makes no sense


@pytest.mark.parametrize(
    ("preset", "key", "value"),
    [
        ("rcsd", "divergence", JSD),
        ("rcsd", "support", TOP_20 | {"k": 10}),
        ("rcsd", "clip", {"type": "token"}),
        ("opsd", "temperature", 1.0),
        ("opsd", "clip", {"type": "token"}),
        ("rcsd-paper", "clip", NO_CLIP),
    ],
)
def test_a_method_that_is_not_its_preset_is_refused(preset: str, key: str, value: Any) -> None:
    method = {"type": "distill", "preset": preset, key: value}
    text = refusal(tree(method=method))
    assert text.startswith("config: method: ")
    assert f"the preset {preset} has another {key}" in text
    within = {"type": "sum", "terms": [{"method": GRPO}, {"method": method}]}
    assert refusal(tree(method=within)).startswith("config: method.terms.1.method: ")


@pytest.mark.parametrize(
    ("preset", "section", "key", "value"),
    [
        ("rcsd", "views", "teacher", "rubric+answer"),
        ("opsd", "views", "teacher", "rubric"),
        ("opsd", "sampling", "temperature", 1.0),
        ("rcsd-paper", "views", "analysis", False),
    ],
)
def test_a_run_that_is_not_its_preset_is_refused(
    preset: str, section: str, key: str, value: Any
) -> None:
    text = refusal(tree(preset, **{section: {key: value}}))
    expected = PRESETS[preset][section][key]
    assert text == (
        f"config: Value error, the preset {preset} has {section}.{key}: {expected}; "
        "leave that out, or the preset"
    )


def test_two_presets_in_a_run_are_refused_and_one_twice_is_not() -> None:
    def two(other: str) -> dict[str, Any]:
        phases = [
            {"method": {"type": "distill", "preset": "opsd"}, "steps": 1},
            {"method": {"type": "distill", "preset": other}},
        ]
        return tree(method={"type": "schedule", "phases": phases})

    assert "one preset a run, not opsd and rgsd" in refusal(two("rgsd"))
    assert parse_config(two("opsd")).views.teacher == "solution"


@pytest.mark.parametrize("name", ["ospd", "", 3, True, ["opsd"], {"opsd": 1}])
def test_a_preset_that_there_is_not_is_refused(name: Any) -> None:
    text = refusal(tree(name))
    assert "method.preset: " in text
    assert "'rcsd', 'opsd', 'rgsd' or 'rcsd-paper'" in text


def test_other_methods_have_no_preset_and_sections_beside_one_stay_checked() -> None:
    method = {"type": "sft", "preset": "opsd"}
    assert "method.preset: unknown key" in refusal(tree(method=method))
    for section in ("views", "sampling"):
        assert f"config: {section}: " in refusal(tree("opsd", **{section: 3}))
