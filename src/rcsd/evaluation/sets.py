"""The sets that an evaluation asks, and those whose options are compared instead."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rcsd import config
from rcsd.data.benchmarks import Problem
from rcsd.data.benchmarks.load import example_of, problems
from rcsd.data.load import load_examples
from rcsd.types import Example


@dataclass(frozen=True)
class AskedSet:
    """A held-out set.

    Args:
        examples: Its questions.
        problems: The same with texts for log-likelihoods, where its options are compared; empty:
            its questions are answered.
        record: What was left out of a benchmark, and where it comes from; empty: it is none.
    """

    examples: Sequence[Example]
    problems: Sequence[Problem] = ()
    record: Mapping[str, object] = field(default_factory=dict)


def asked_set(section: config.AskedData) -> AskedSet:
    """The set of a data section.

    Raises:
        DataError: As `rcsd.data.load.load_examples`.
        ConfigError: Likewise.
    """
    if not isinstance(section, config.TaskData):
        return AskedSet(load_examples(section)[0])
    found, record = problems(section)
    compared = found if section.ask == "loglikelihood" else ()
    return AskedSet([example_of(problem) for problem in found], compared, record)
