"""Every section of a configuration, and how it is read. A docstring under each field."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rcsd.config.methods import (
    JSD,
    AnswerReward,
    Distill,
    EntryClip,
    ForwardKL,
    FullSupport,
    Grpo,
    NoClip,
    ReverseKL,
    Reward,
    RubricReward,
    SampledToken,
    Sft,
    Suppress,
    TokenClip,
    TopK,
)
from rcsd.config.parts import (
    Data,
    EmaTeacher,
    Evaluation,
    FrozenTeacher,
    FullFineTuning,
    GenericRubrics,
    HfEngine,
    JsonlData,
    LiveTeacher,
    Lora,
    Model,
    NoisyRubrics,
    NoPlacebo,
    Optim,
    Placebo,
    RandomRubrics,
    RarData,
    ReducedRubrics,
    RubricGrammar,
    Rubrics,
    Sampling,
    ShuffledRubrics,
    Views,
    WorldData,
)
from rcsd.config.roots import (
    Arm,
    Config,
    Evaluating,
    Pipeline,
    PipelineEvaluation,
    PlaceboArm,
    Stage,
    Writing,
)
from rcsd.config.section import (
    Section,
    load,
    parse,
)

__all__ = [
    "JSD",
    "AnswerReward",
    "Arm",
    "Config",
    "Data",
    "Distill",
    "EmaTeacher",
    "EntryClip",
    "Evaluating",
    "Evaluation",
    "ForwardKL",
    "FrozenTeacher",
    "FullFineTuning",
    "FullSupport",
    "GenericRubrics",
    "Grpo",
    "HfEngine",
    "JsonlData",
    "LiveTeacher",
    "Lora",
    "Model",
    "NoClip",
    "NoPlacebo",
    "NoisyRubrics",
    "Optim",
    "Pipeline",
    "PipelineEvaluation",
    "Placebo",
    "PlaceboArm",
    "RandomRubrics",
    "RarData",
    "ReducedRubrics",
    "ReverseKL",
    "Reward",
    "RubricGrammar",
    "RubricReward",
    "Rubrics",
    "SampledToken",
    "Sampling",
    "Section",
    "Sft",
    "ShuffledRubrics",
    "Stage",
    "Suppress",
    "TokenClip",
    "TopK",
    "Views",
    "WorldData",
    "Writing",
    "load_config",
    "load_evaluating",
    "load_pipeline",
    "parse_config",
]


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Configuration from a YAML file and ``key=value`` overrides such as ``optim.lr=1e-5``.

    Raises:
        ConfigError: Naming the key that is wrong and, where it is misspelt, its nearest neighbour.
    """
    return load(Config, path, overrides)


def load_pipeline(path: str | Path, overrides: Sequence[str] = ()) -> Pipeline:
    """Pipeline from a YAML file and ``key=value`` overrides such as ``writer.steps=20``.

    Raises:
        ConfigError: As `load_config`.
    """
    return load(Pipeline, path, overrides)


def load_evaluating(path: str | Path, overrides: Sequence[str] = ()) -> Evaluating:
    """Held-out sets and a model from a YAML file and overrides such as ``num_samples=8``.

    Raises:
        ConfigError: As `load_config`.
    """
    return load(Evaluating, path, overrides)


def parse_config(tree: Mapping[str, Any], source: str = "config") -> Config:
    """Configuration from a tree of plain values.

    Raises:
        ConfigError: As `load_config`.
    """
    return parse(Config, tree, source)
