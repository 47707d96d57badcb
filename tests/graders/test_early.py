"""A model judge that is asked while completions are still sampled."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.judge_server import JudgeServer
from tests.support.launched import codes, on_ranks
from tests.support.tiny import tiny_model, tiny_tokenizer
from tests.training.test_trainer import settings

from rcsd import config
from rcsd.data.prompts import PromptPair
from rcsd.distributed import Ranks, Terminated
from rcsd.engines.base import PolicyEngine, Tell
from rcsd.engines.fitting import FittingEngine
from rcsd.engines.hf import HfEngine
from rcsd.engines.local import LocalEngine
from rcsd.errors import RunError
from rcsd.graders.rewards import rewards_of
from rcsd.io import write_rows
from rcsd.methods.base import Batch
from rcsd.methods.grpo import Grpo
from rcsd.methods.on_policy import OnPolicy
from rcsd.methods.rollouts import Student
from rcsd.models.memory import batch_limit, microbatch_limit
from rcsd.models.policy import Policy, Scorer, policy_of
from rcsd.models.teacher import LiveTeacher
from rcsd.runs import RunFolder
from rcsd.training.spread import Spread
from rcsd.training.trainer import run
from rcsd.types import Completion, Criterion, Decoding, Example, Rubric

RUBRIC = Rubric((Criterion("Is even.", 3), Criterion("Is clear.", 1)))
PROMPTS = [
    PromptPair(Example(q, q, rubric=RUBRIC), (5 + i, 6, 7), (8,)) for i, q in enumerate("abc")
]


def meets(criterion: str, answer: str, seed: int) -> Any:
    """As the answer's length has it; of some answers the judge is unsure, at first or for good."""
    if not criterion:
        return 1 + len(answer) % 10
    if criterion == "Is clear." and len(answer) % 3 == 0:
        return "maybe" if seed == 0 or len(answer) % 2 else True
    return len(answer) % 2 == 0


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    served = JudgeServer(meets)
    yield served
    served.close()


def policy() -> Policy:
    """Its completions end after eight tokens or so."""
    made = policy_of(tiny_model(), tiny_tokenizer(), config.FullFineTuning())
    return replace(made, end_ids=tuple(range(0, made.vocab_size, 8)))


Heard = Callable[[Tell | None], Tell | None]


class Between:
    """The local engine, and what stands between it and who asks.

    Args:
        heard: What becomes of ``tell``.
    """

    batch_size = 4

    def __init__(self, heard: Heard = lambda tell: tell) -> None:
        self._engine, self._heard = LocalEngine(policy(), 4), heard

    def load(self, version: int) -> None:
        """Nothing to do."""

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        decoding: Decoding,
        seed: int,
        first: int = 0,
        tell: Tell | None = None,
    ) -> list[Completion]:
        return self._engine.sample(prompts, decoding, seed, first, self._heard(tell))


def silent(tell: Tell | None) -> None:
    """What every engine may do: tell nothing. Then all is asked afterwards."""


def method_of(server: JudgeServer, engine: PolicyEngine, cache: Path, **changes: Any) -> OnPolicy:
    judge = {"type": "model", "url": server.url, "model": "m", "cache": cache} | changes
    section = config.Grpo.model_validate({"rewards": [{"type": "rubric", "judge": judge}]})
    rewards = rewards_of(section.rewards, [prompt.example for prompt in PROMPTS])
    made, limit = policy(), microbatch_limit(4096)
    student = Student(made, Scorer(made), engine, Decoding(30, 1.0), 4, limit, 0)
    return OnPolicy(student, [(1.0, Grpo(section, student, LiveTeacher(), rewards))])


def found(batch: Batch) -> dict[str, float]:
    """Metrics without the clock's."""
    return {name: value for name, value in batch.metrics.items() if name != "judge/seconds"}


def asking() -> list[str]:
    """Threads that ask."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("rcsd-judge")]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"asks": {"type": "several", "criteria_per_call": 2}, "max_concurrent": 2},
        {"asks": "holistic", "prices": {"prompt": 0.3, "completion": 0.7}},
    ],
)
def test_asked_early_it_says_and_counts_what_it_does_when_asked_afterwards(
    server: JudgeServer, tmp_path: Path, changes: dict[str, Any]
) -> None:
    early = method_of(server, Between(), tmp_path / "early.sqlite", **changes)
    after = method_of(server, Between(silent), tmp_path / "after.sqlite", **changes)
    for step in (0, 1, 0):  # the last from the cache
        batch, bodies = early.collect(PROMPTS, step), sorted(map(str, server.asked))
        server.asked.clear()
        expected = after.collect(PROMPTS, step)
        assert (batch.rollouts, found(batch)) == (expected.rollouts, found(expected))
        assert bodies == sorted(map(str, server.asked))
        assert len(bodies) == len(set(bodies))
        server.asked.clear()
    assert batch.metrics["judge/num_cached"] > 0
    assert batch.metrics["judge/num_calls"] >= 20
    assert asking() == []


def test_the_first_question_arrives_before_the_last_completion_ends(tmp_path: Path) -> None:
    asked, waited = threading.Event(), list[bool]()

    def meets_and_says(*given: Any) -> Any:
        asked.set()
        return meets(*given)

    def waiting(tell: Tell | None) -> Tell:
        assert tell is not None

        def told(index: int, completion: Completion) -> None:
            tell(index, completion)
            waited.append(asked.wait(10))

        return told

    server = JudgeServer(meets_and_says)
    try:
        method_of(server, Between(waiting), tmp_path / "c.sqlite").collect(PROMPTS, 0)
    finally:
        server.close()
    assert waited == [True] * 12  # the first one too: eleven were still to come


@pytest.mark.parametrize("error", [FloatingPointError("not numbers"), Terminated()])
def test_a_sampler_that_fails_leaves_no_thread_that_goes_on_asking(
    server: JudgeServer, tmp_path: Path, error: BaseException
) -> None:
    def failing(tell: Tell | None) -> Tell:
        assert tell is not None
        places = list[int]()

        def told(index: int, completion: Completion) -> None:
            places.append(index)
            tell(index, completion)
            if len(places) == 6:
                while not server.asked:
                    time.sleep(0.01)
                raise error

        return told

    server.faults.extend([(503, "busy")] * 1000)  # asked again for ten minutes
    began = time.monotonic()
    with pytest.raises(type(error)):
        method_of(server, Between(failing), tmp_path / "c.sqlite").collect(PROMPTS, 0)
    assert asking() == []
    assert time.monotonic() - began < 30
    num_asked = len(server.asked)
    time.sleep(0.1)
    assert len(server.asked) == num_asked


@pytest.mark.parametrize(("again", "num_in_vain"), [(3, 0), (4, 5)])
def test_completions_that_are_drawn_anew_are_asked_about_anew_only_if_they_differ(
    server: JudgeServer, tmp_path: Path, again: int, num_in_vain: int
) -> None:
    class Scarce(Between):
        """Draws by the seed 3, runs out of memory after five completions, and draws again."""

        def sample(
            self,
            prompts: Sequence[Sequence[int]],
            decoding: Decoding,
            seed: int,
            first: int = 0,
            tell: Tell | None = None,
        ) -> list[Completion]:
            if self.batch_size < 4:
                return super().sample(prompts, decoding, again, first, tell)
            said = super().sample(prompts, decoding, 3)
            assert tell is not None
            for place in range(5):
                tell(place, said[place])
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    engine = FittingEngine(Scarce(), batch_limit(4))
    early = method_of(server, engine, tmp_path / "early.sqlite", asks="holistic")
    batch = early.collect(PROMPTS, 0)
    assert engine.batch_size.value == 2
    engine = FittingEngine(Scarce(silent), batch_limit(2))
    expected = method_of(server, engine, tmp_path / "after.sqlite", asks="holistic").collect(
        PROMPTS, 0
    )
    assert batch.rollouts == expected.rollouts
    calls = [each.metrics["judge/num_calls"] for each in (batch, expected)]
    assert calls[0] - calls[1] == num_in_vain


def test_a_budget_that_ends_early_is_not_overspent_and_ends_the_run(
    server: JudgeServer, tmp_path: Path
) -> None:
    method = method_of(server, Between(), tmp_path / "c.sqlite", asks="holistic", max_calls=7)
    with pytest.raises(RunError, match="has spent its budget"):
        method.collect(PROMPTS, 0)
    assert len(server.asked) == 7


def judged(folder: Path, server: JudgeServer, name: str, **changes: Any) -> config.Config:
    """A run whose reward is a model's."""
    rubric = [{"criterion": "Is even.", "weight": 1}]
    write_rows(folder / "rows.jsonl", [{"question": f"{n}?", "rubric": rubric} for n in range(4)])
    judge = {"type": "model", "url": server.url, "model": "m", "cache": str(folder / name)}
    judge |= changes.pop("judge", {})
    return settings(
        folder,
        f"run-{name}",
        data={"type": "jsonl", "path": str(folder / "rows.jsonl")},
        method={"type": "grpo", "rewards": [{"type": "rubric", "judge": judge}]},
        **{"completions_per_example": 2, "steps": 2} | changes,
    )


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ((401, "who?"), r"refused with 401: who\?; the key is missing or wrong"),
        ("drop", "no answer"),
    ],
)
def test_an_error_in_the_background_ends_the_run_with_its_own_words(
    server: JudgeServer, tmp_path: Path, fault: Any, said: str
) -> None:
    server.faults.extend([fault] * 1000)
    with pytest.raises(RunError, match=said):
        run(judged(tmp_path, server, "c", judge={"patience_seconds": 0.1}))
    assert asking() == []
    # After the first failure nothing is begun: eight answers are asked about by 16 threads.
    assert len(server.asked) <= 8


@pytest.mark.slow
def test_two_processes_ask_what_one_asks(server: JudgeServer, tmp_path: Path) -> None:
    alone = run(judged(tmp_path, server, "one"))
    num_asked = len(server.asked)
    two = judged(tmp_path, server, "two")
    assert codes(on_ranks([two, two])) == [0, 0]
    for row, other in zip(RunFolder(two.out).metrics(), alone.metrics(), strict=True):
        names = [n for n in row if n.startswith(("reward/", "judge/num"))]
        assert {n: row[n] for n in names} == {n: other[n] for n in names}
    assert len(server.asked) == 2 * num_asked > 0


@pytest.mark.parametrize("kind", [LocalEngine, HfEngine])
def test_engines_tell_each_completion_by_its_place_while_others_go_on(kind: Any) -> None:
    told, prompts = list[tuple[int, Completion]](), [(5 + n, 6, 7) for n in range(12)]

    def tell(index: int, completion: Completion) -> None:
        told.append((index, completion))

    engine = Spread(FittingEngine(kind(policy(), 4), batch_limit(4)), Ranks())
    assert engine.sample(prompts, Decoding(30, 1.0), 0, tell=tell) == [
        completion for _, completion in sorted(told, key=lambda pair: pair[0])
    ]
    assert [index for index, _ in told] != sorted(range(12)) or kind is HfEngine


def test_a_process_is_told_of_its_share_by_the_places_among_all() -> None:
    class Second(Ranks):
        """Of two processes, alone."""

        def all_gather_results(self, work: Any, has_collectives: bool = False) -> list[Any]:
            return [work()]

    told = list[int]()
    engine = Spread(Between(), Second(1, 2))
    engine.sample([(5, 6)] * 7, Decoding(4, 1.0), 0, tell=lambda index, _: told.append(index))
    assert sorted(told) == list(range(7))[Second(1, 2).share(7)] == [3, 4, 5, 6]
