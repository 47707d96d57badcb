"""Every section of a configuration, and how it is read. A docstring under each field."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rcsd.config.base import Section, load, parse
from rcsd.config.data import (
    Data,
    GenericRubrics,
    JsonlData,
    NoisyRubrics,
    NoPlacebo,
    Placebo,
    RandomRubrics,
    RarData,
    ReducedRubrics,
    Rubrics,
    ShuffledRubrics,
    TaskData,
    TaskName,
    WorldData,
)
from rcsd.config.engines import (
    AnyEngine,
    HfEngine,
    LocalEngine,
    RefuseStale,
    VllmEngine,
    VllmServer,
    WeightStale,
    engine_by_type,
    max_lag_steps,
    warn_of_drift,
)
from rcsd.config.evaluation import EarlyStop, EvalConfig, Evaluation
from rcsd.config.graders import (
    AskCriterion,
    AskHolistic,
    Asks,
    AskSeveral,
    CodeJudge,
    Judge,
    Judging,
    ModelJudge,
)
from rcsd.config.methods import (
    JSD,
    AnswerReward,
    Criterion,
    Distill,
    EntryClip,
    ForwardKL,
    FullSupport,
    Grpo,
    NoClip,
    Phase,
    PhaseMethod,
    ReverseKL,
    Reward,
    RubricReward,
    SampledToken,
    Schedule,
    Sft,
    Srpo,
    Sum,
    Suppress,
    Term,
    TokenClip,
    TopK,
    distillations,
    objectives,
)
from rcsd.config.model import FullFineTuning, Lora, Model
from rcsd.config.run import (
    DEFAULT_MAX_TOKENS_PER_MICROBATCH,
    Budget,
    Config,
    EmaTeacher,
    FrozenTeacher,
    LiveTeacher,
    Optim,
    Processes,
    RubricGrammar,
    Sampling,
    Stage,
    Views,
)
from rcsd.runs import RunFolder


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Configuration from a YAML file and ``key=value`` overrides such as ``optim.lr=1e-5``.

    Raises:
        ConfigError: Naming the key that is wrong and, where it is misspelt, its nearest neighbour.
    """
    return load(Config, path, overrides)


def load_eval_config(path: str | Path, overrides: Sequence[str] = ()) -> EvalConfig:
    """Held-out sets and a model from a YAML file and overrides such as ``num_samples=8``.

    Raises:
        ConfigError: As `load_config`.
    """
    return load(EvalConfig, path, overrides)


def load_judging(path: str | Path, overrides: Sequence[str] = ()) -> Judging:
    """A judge from a YAML file and overrides such as ``judge.temperature=0.7``.

    Raises:
        ConfigError: As `load_config`.
    """
    return load(Judging, path, overrides)


def parse_config(tree: Mapping[str, Any], source: str = "config") -> Config:
    """Configuration from a tree of plain values.

    Raises:
        ConfigError: As `load_config`.
    """
    return parse(Config, tree, source)


def config_of_run(folder: RunFolder) -> Config:
    """Configuration of a run, as its record has it.

    Raises:
        UserError: If the record is broken.
    """
    return parse_config(folder.read_record()["config"], str(folder.record))
