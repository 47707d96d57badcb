"""How far verdicts agree: shares and Cohen's kappa, with intervals over problems.

Legend of axes: c problems, r resamples, 4 pairs of verdicts.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from rcsd.evaluation.statistics import FloatArray, Interval, bootstrap_interval

NUM_RESAMPLES = 4_000


@dataclass(frozen=True)
class Pair:
    """Two verdicts on one criterion of one text.

    Args:
        problem: Resampled as one.
        truth: The verdict that is compared with.
        given: The judge's; None: unscored.
    """

    problem: Hashable
    truth: bool
    given: bool | None


@dataclass(frozen=True)
class Agreement:
    """How a judge's verdicts agree with others. Shares are over the scored ones, where not said.

    Args:
        num_verdicts: All that were asked for.
        num_unscored: Of them, those that the judge left open.
        num_met: Of the scored ones, those that are met in truth.
        num_unmet: Of the scored ones, those that are not.
        accuracy: Share that agrees; None: nothing was scored.
        lowest: Share of all that agrees if every unscored one is wrong.
        highest: If every unscored one is right.
        kappa: Cohen's: agreement beyond what both judges' shares of met verdicts make by chance;
            None where one of them says always the same.
        false_met: Share of the unmet that is called met; None: there are none.
        false_unmet: Share of the met that is called unmet; None: there are none.
    """

    num_verdicts: int
    num_unscored: int
    num_met: int
    num_unmet: int
    accuracy: Interval | None
    lowest: float
    highest: float
    kappa: Interval | None
    false_met: Interval | None
    false_unmet: Interval | None


def agreement(pairs: Sequence[Pair], seed: int = 0) -> Agreement:
    """Of pairs of verdicts, at least one.

    Args:
        pairs: The verdicts.
        seed: Of the resampling.
    """
    scored = [pair for pair in pairs if pair.given is not None]
    num, num_right = len(pairs), sum(pair.given == pair.truth for pair in scored)
    num_unscored = num - len(scored)
    return Agreement(
        num_verdicts=num,
        num_unscored=num_unscored,
        num_met=sum(pair.truth for pair in scored),
        num_unmet=sum(not pair.truth for pair in scored),
        accuracy=share([(p.problem, p.given == p.truth) for p in scored], seed),
        lowest=num_right / num,
        highest=(num_right + num_unscored) / num,
        kappa=kappa(scored, seed),
        false_met=share([(p.problem, bool(p.given)) for p in scored if not p.truth], seed),
        false_unmet=share([(p.problem, not p.given) for p in scored if p.truth], seed),
    )


def share(values: Sequence[tuple[Hashable, float]], seed: int = 0) -> Interval | None:
    """Mean with an interval over problems; None of nothing."""
    if not values:
        return None
    clusters = [problem for problem, _ in values]
    return bootstrap_interval(
        [float(value) for _, value in values], clusters, seed, num_resamples=NUM_RESAMPLES
    )


def kappa(pairs: Sequence[Pair], seed: int = 0) -> Interval | None:
    r"""Cohen's kappa, with a percentile interval over problems.

    ``kappa = (p_o - p_e) / (1 - p_e)``, p_o the share of equal verdicts and p_e the share that two
    judges with these shares of met verdicts would agree on by chance (Cohen, "A coefficient of
    agreement for nominal scales", Educational and Psychological Measurement 20, 1960).

    Args:
        pairs: None of them unscored.
        seed: Of the resampling. Resamples in which both say always the same have no kappa, and are
            left out.

    Returns:
        None where both say always the same: all agreement may be chance.
    """
    places: dict[Hashable, int] = {}
    for pair in pairs:
        places.setdefault(pair.problem, len(places))
    count_c4 = np.zeros((len(places), 4))
    for pair in pairs:
        count_c4[places[pair.problem], 2 * int(pair.truth) + bool(pair.given)] += 1
    if not pairs or math.isnan(mean := float(_kappa(count_c4.sum(axis=0)))):
        return None
    rng, num = np.random.default_rng(seed), len(places)
    drawn_rc = rng.multinomial(num, np.full(num, 1 / num), NUM_RESAMPLES)
    low, high = np.nanquantile(_kappa(drawn_rc @ count_c4), (0.025, 0.975))
    return Interval(mean, float(low), float(high), num)


def _kappa(count_r4: FloatArray) -> FloatArray:
    """Counts of (truth, given) as unmet unmet, unmet met, met unmet, met met; NaN: undefined."""
    p_r4 = count_r4 / count_r4.sum(axis=-1, keepdims=True)
    both, truth, given = p_r4[..., 3], p_r4[..., 2] + p_r4[..., 3], p_r4[..., 1] + p_r4[..., 3]
    observed = p_r4[..., 0] + both
    chance = truth * given + (1 - truth) * (1 - given)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(chance < 1, (observed - chance) / (1 - chance), np.nan)


@dataclass(frozen=True)
class Placebo:
    """A judge that reads nothing; its kappa is 0.

    Args:
        name: What it says.
        accuracy: That it is expected to reach.
    """

    name: str
    accuracy: float


def placebos(truths: Sequence[bool]) -> tuple[Placebo, ...]:
    """What is reached without reading, on true verdicts, at least one."""
    rate = sum(truths) / len(truths)
    return (
        Placebo("always met", rate),
        Placebo("always unmet", 1 - rate),
        Placebo("a coin, met as often as the truth", rate**2 + (1 - rate) ** 2),
    )
