"""Combinations that a run cannot have, each refused with the way out."""

from typing import TYPE_CHECKING

from rcsd.config.engines import AnyEngine
from rcsd.config.methods import (
    AnyMethod,
    Criterion,
    Distill,
    Grpo,
    PhaseMethod,
    Sft,
    Srpo,
    distillations,
    objectives,
)
from rcsd.config.presets import PRESETS

if TYPE_CHECKING:
    from rcsd.config.run import Config, Stage


def check_stage(stage: "Stage") -> None:
    """Refuse settings that contradict each other, apart from model and folder.

    Raises:
        ValueError: Saying which, and the way out.
    """
    _match_the_preset(stage)
    _show_what_the_method_reads(stage)
    _stop_by_a_measured_metric(stage)
    _reach_every_phase(stage)
    for phase in stage.phases:
        for method in objectives(phase.method):
            _sample_what_it_needs(stage, method)
            num = phase.completions_per_example or stage.completions_per_example
            _reward_what_can_be_compared(stage, method, num)
            _take_criteria_out(stage, method)
    if stage.overlap:
        _overlap(stage.engine, stage.method)


def check_run(run: "Config") -> None:
    """Refuse settings of a whole run that contradict each other.

    Raises:
        ValueError: Saying which, and the way out.
    """
    if run.processes.sharding == "fsdp" and run.overlap:
        raise ValueError(
            "overlap samples from an unsharded copy of the policy, and processes.sharding: fsdp "
            "has none; leave one of them out"
        )
    if run.processes.sharding == "fsdp" and run.max_tokens_per_microbatch == "auto":
        raise ValueError(
            "max_tokens_per_microbatch: auto tries what fits in each process by itself, and passes "
            "over sharded weights take all of them; set a number"
        )
    if run.rubrics.placebo.type != "none" and not run.uses_rubrics:
        raise ValueError(
            "no view shows the rubric and no reward goes by it, so a placebo replaces nothing: "
            "leave rubrics.placebo out, or take a view with rubric"
        )


def _match_the_preset(stage: "Stage") -> None:
    for preset in {section.preset for section in distillations(stage.method)} - {None}:
        for section in ("views", "sampling"):
            for key, value in PRESETS[str(preset)].get(section, {}).items():
                if getattr(getattr(stage, section), key) != value:
                    raise ValueError(
                        f"the preset {preset} has {section}.{key}: {value}; "
                        "leave that out, or the preset"
                    )


def _show_what_the_method_reads(stage: "Stage") -> None:
    views, has_other_teacher = stage.views, stage.views.analysis or stage.teacher.type != "frozen"
    if stage.method.type == "sft" and has_other_teacher:
        raise ValueError(
            "sft writes no analysis and its habits are the frozen weights'; "
            "leave views.analysis and teacher out"
        )
    if not stage.has_teacher_view and has_other_teacher:
        raise ValueError(
            f"{stage.method.type} has no teacher's view and no other teacher than the frozen "
            "weights; leave views.analysis and teacher out"
        )
    if views.writes == "answer":
        if stage.sampling.grammar is not None:
            raise ValueError("sampling.grammar holds to rubrics: set views.writes: rubric")
        return
    if stage.learned_view not in ("none", "answer"):
        raise ValueError(
            "with views.writes: rubric the view that is learned is none or answer; "
            "a writer that is shown the rubric learns to copy it"
        )
    if "solution" in f"{views.student} {views.teacher}":
        raise ValueError("with views.writes: rubric a view shows answer and rubric at most")


def _stop_by_a_measured_metric(stage: "Stage") -> None:
    stop = stage.evaluation.early_stop if stage.evaluation is not None else None
    writes_rubrics = stage.views.writes == "rubric"
    if stop is not None and (stop.metric == "eval/f1_mean") != writes_rubrics:
        measured = "eval/f1_mean" if writes_rubrics else "eval/score_mean or eval/accuracy_mean"
        raise ValueError(
            f"evaluation.early_stop.metric: {stop.metric} is not measured with views.writes: "
            f"{stage.views.writes}; take {measured}"
        )


def _reach_every_phase(stage: "Stage") -> None:
    first_steps = sum(phase.steps or 0 for phase in stage.phases)
    if first_steps >= stage.steps:
        raise ValueError(
            f"the phases before the last take {first_steps} steps of {stage.steps}, so the last "
            "one never begins; set steps higher"
        )


def _sample_what_it_needs(stage: "Stage", method: PhaseMethod | Sft) -> None:
    name = "sampled_token" if _is_sampled_token(method) else method.type
    if stage.sampling.grammar is not None and (
        name == "sampled_token" or not isinstance(method, Distill)
    ):
        raise ValueError(
            f"{name} needs samples of the student itself, and "
            "a grammar masks its tokens; leave sampling.grammar out"
        )


def _reward_what_can_be_compared(
    stage: "Stage", method: PhaseMethod | Sft, num_completions: int
) -> None:
    if not isinstance(method, Grpo | Srpo):
        return
    if stage.views.writes == "rubric":
        raise ValueError(f"{method.type} rewards answers: leave views.writes out")
    if num_completions < 2:
        raise ValueError(
            f"{method.type} compares the completions of an example: set completions_per_example "
            "to 2 or more"
        )
    reward = method.reward if isinstance(method, Srpo) else method
    if reward.kl_weight > 0 and stage.teacher.type != "frozen":
        raise ValueError(
            f"kl_weight holds the student near the frozen weights, and the teacher's are "
            f"{stage.teacher.type}; leave kl_weight or teacher out"
        )


def _take_criteria_out(stage: "Stage", method: PhaseMethod | Sft) -> None:
    if not isinstance(method, Criterion):
        return
    if stage.views.writes == "rubric" or "rubric" not in stage.views.teacher:
        raise ValueError("criterion judges answers by the rubric that the teacher is shown")
    if stage.views.analysis:
        raise ValueError(
            "criterion takes criteria out of the teacher's view, whose analysis would "
            "still tell of them; leave views.analysis out"
        )


def _overlap(engine: AnyEngine, method: AnyMethod) -> None:
    """Refuse to sample a step ahead where the gradient is an expectation over fresh samples."""
    if isinstance(method, Sft):
        raise ValueError("overlap: sft learns from no samples of the student; leave overlap out")
    for leaf in objectives(method):
        is_exact = isinstance(leaf, Distill | Criterion)
        is_sampled = any(_is_sampled_token(section) for section in distillations(leaf))
        if is_sampled or not is_exact:
            raise ValueError(
                f"overlap: {'sampled_token' if is_exact else leaf.type} needs fresh samples of the "
                "student, and these are a step old; leave overlap out"
            )
    if engine.type in ("hf", "vllm"):
        raise ValueError(
            f"overlap: engine {engine.type} draws from the process's random numbers, as dropout "
            "does; take engine local or vllm_server, or leave overlap out"
        )


def _is_sampled_token(method: PhaseMethod | Sft) -> bool:
    return isinstance(method, Distill) and method.divergence.type == "sampled_token"
