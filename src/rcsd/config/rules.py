"""Combinations that a run cannot have, each refused with the way out."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rcsd.config.methods import (
    Criterion,
    Distill,
    Grpo,
    PhaseMethod,
    Sft,
    Srpo,
    distillations,
    objectives,
    reinforcements,
)
from rcsd.config.presets import PRESETS

if TYPE_CHECKING:
    from rcsd.config.run import Config, Stage


def check_stage(stage: "Stage") -> None:
    """Refuse settings that contradict each other; ValueError says which, and the way out."""
    for find in (_preset, _views, _objectives, _repeated_updates, _drawn, _overlap):
        for fault in find(stage):
            raise ValueError(fault)


def check_run(run: "Config") -> None:
    """Refuse settings of a run that contradict each other, as `check_stage`."""
    if run.processes.sharding == "fsdp" and run.overlap:
        raise ValueError(
            "overlap samples from an unsharded copy, and fsdp has none; leave one of them out"
        )
    if run.rubrics.placebo.type != "none" and not run.uses_rubrics:
        raise ValueError(
            "no view shows the rubric and no reward goes by it, so a placebo replaces nothing: "
            "leave rubrics.placebo out, or take a view with rubric"
        )


def _preset(stage: "Stage") -> Iterator[str]:
    for preset in {section.preset for section in distillations(stage.method)} - {None}:
        for section in ("views", "sampling"):
            for key, value in PRESETS[str(preset)].get(section, {}).items():
                if getattr(getattr(stage, section), key) != value:
                    name = f"{section}.{key}: {value}"
                    yield f"the preset {preset} has {name}; leave that out, or the preset"


def _views(stage: "Stage") -> Iterator[str]:
    views, measured = stage.views, ["eval/score_mean", "eval/accuracy_mean"]
    if not stage.has_teacher_view and (views.analysis or stage.teacher.type != "frozen"):
        yield f"{stage.method.type} has no teacher's view; leave views.analysis and teacher out"
    if not stage.has_teacher_view and views.teacher_kwargs:
        yield f"{stage.method.type} has no teacher's view; leave views.teacher_kwargs out"
    if views.writes == "rubric":
        measured = ["eval/f1_mean"]
        if stage.learned_view not in ("none", "answer"):
            yield "with views.writes: rubric the view that is learned is none or answer, no rubric"
        if "solution" in f"{views.student} {views.teacher}":
            yield "with views.writes: rubric a view shows answer and rubric at most"
    elif stage.sampling.grammar is not None:
        yield "sampling.grammar holds to rubrics: set views.writes: rubric"
    if views.writes == "rubric" and stage.evaluation and stage.evaluation.judge.type != "code":
        yield "evaluation.judge reads answers: with views.writes: rubric leave it out"
    stop = stage.evaluation.early_stop if stage.evaluation is not None else None
    if stop is not None and stop.metric not in measured:
        yield (
            f"evaluation.early_stop.metric: {stop.metric} is not measured with views.writes: "
            f"{views.writes}; take {' or '.join(measured)}"
        )


def _objectives(stage: "Stage") -> Iterator[str]:
    first_steps = sum(phase.steps or 0 for phase in stage.phases)
    if first_steps >= stage.steps:
        yield (
            f"the phases before the last take {first_steps} steps of {stage.steps}, so the last "
            "one never begins; set steps higher"
        )
    for phase in stage.phases:
        for method in objectives(phase.method):
            name = _name(method)
            is_distilled = isinstance(method, Distill) and name != "sampled_token"
            if stage.sampling.grammar is not None and not is_distilled:
                yield f"{name} needs samples of the student itself; leave sampling.grammar out"
            if isinstance(method, Grpo | Srpo):
                yield from _reward(
                    stage, method, phase.completions_per_example or stage.completions_per_example
                )
            if isinstance(method, Criterion):
                yield from _criterion(stage)


def _repeated_updates(stage: "Stage") -> Iterator[str]:
    """Methods that learn from the sampled tokens alone know no ratio to their probability."""
    for phase in stage.phases:
        leaves = objectives(phase.method)
        if any(grpo.updates_per_batch > 1 for grpo in reinforcements(phase.method)):
            for name in {_name(leaf) for leaf in leaves} & {"sampled_token", "suppress"}:
                yield f"{name} needs fresh samples of the student; leave updates_per_batch out"


def _drawn(stage: "Stage") -> Iterator[str]:
    """An expectation over the student's distribution needs samples of it and of no other."""
    sampling, stale = stage.sampling, getattr(stage.engine, "stale", None)
    is_cut = sampling.top_p < 1 or sampling.top_k is not None
    sampled = [part for part in distillations(stage.method) if _name(part) == "sampled_token"]
    if sampled and is_cut:
        yield "sampled_token needs the student's own samples: leave sampling.top_p and top_k out"
    if is_cut and any(grpo.kl_weight > 0 for grpo in reinforcements(stage.method)):
        yield "kl_weight needs the student's own samples: leave sampling.top_p and top_k out"
    if (is_cut or sampling.grammar is not None) and getattr(stale, "type", None) == "weight":
        yield (
            "engine.stale: weight needs probabilities of all tokens that were sampled from: leave "
            "sampling.top_p, top_k and grammar out, or set engine.max_lag_steps"
        )
    for leaf in objectives(stage.method):
        if isinstance(leaf, Srpo | Criterion) and _name(leaf.distill) == "sampled_token":
            yield (
                f"{leaf.type} picks tokens by what was sampled, and sampled_token is a mean over "
                "all samples: take another divergence"
            )
    for temperature in {part.temperature for part in sampled} - {sampling.temperature}:
        yield (
            f"sampled_token needs samples at the temperature of its loss: method {temperature:g}, "
            f"sampling.temperature {sampling.temperature:g}; set both to the same"
        )


def _reward(stage: "Stage", method: Grpo | Srpo, num_completions: int) -> Iterator[str]:
    [reward], teacher = reinforcements(method), stage.teacher.type
    if stage.views.writes == "rubric":
        yield f"{method.type} rewards answers: leave views.writes out"
    if num_completions < 2:
        yield (
            f"{method.type} compares the completions of an example: set completions_per_example "
            "to 2 or more"
        )
    if reward.kl_weight > 0 and teacher != "frozen":
        yield f"kl_weight holds the student near the frozen teacher, not {teacher}; leave one out"


def _criterion(stage: "Stage") -> Iterator[str]:
    if stage.views.writes == "rubric" or "rubric" not in stage.views.teacher:
        yield "criterion judges answers by the rubric that the teacher is shown"
    if stage.views.analysis:
        yield "an analysis would tell of the criteria taken out; leave views.analysis out"


def _overlap(stage: "Stage") -> Iterator[str]:
    """Samples are a step old, which a gradient that is an expectation over them cannot be."""
    if not stage.overlap:
        return
    if isinstance(stage.method, Sft):
        yield "overlap: sft learns from no samples of the student; leave overlap out"
    for leaf in objectives(stage.method):
        if (name := _name(leaf)) not in ("distill", "criterion"):
            yield f"overlap: {name} needs fresh samples of the student; leave overlap out"
    if (kind := stage.engine.type) in ("hf", "vllm"):
        yield f"overlap: engine {kind} draws from the process's random numbers; take local"


def _name(method: PhaseMethod | Sft) -> str:
    is_sampled = isinstance(method, Distill) and method.divergence.type == "sampled_token"
    return "sampled_token" if is_sampled else method.type
