"""Several models as one judge."""

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rcsd import config
from rcsd.graders.base import Judge, Judgement, require_rubric
from rcsd.graders.judge.judge import Answers, ModelJudge
from rcsd.types import Criterion, Rubric

_WORDS = {True: "met", False: "not met", None: "unscored"}


class JudgePanel(Judge):
    """Majority of several judges: a verdict is what more than half of all of them say.

    A tie is unscored, and so is what too many leave unscored. Agreement is over the verdicts that
    all judges give, without those of checks in code.
    """

    def __init__(self, section: config.JudgePanel) -> None:
        self._judges: Sequence[Judge] = [ModelJudge(each) for each in section.judges]
        self._names = [each.model for each in section.judges]
        self._runs_checks = section.judges[0].runs_checks
        self._votes = Counter[int]()  # by the number of judges that call a criterion met

    def resampled(self, sample: int) -> "JudgePanel":
        """The same judges with other seeds, on the same budgets."""
        panel = copy.copy(self)
        panel._votes = Counter()
        panel._judges = [each.resampled(sample) for each in self._judges]
        return panel

    def judgements(self, answers: Answers) -> list[Judgement]:
        """One for each example and text, in order; raises as `ModelJudge.judgements`."""
        columns = zip(*(judge.judgements(answers) for judge in self._judges), strict=True)
        return [
            self._majority(require_rubric(example), of)
            for (example, _), of in zip(answers, columns, strict=True)
        ]

    def metrics(self) -> dict[str, float]:
        """Sums over the judges, the verdicts of all, and those that they differ on."""
        total = Counter[str]()
        for judge in self._judges:
            total.update(judge.metrics())
        num = self._votes.total()
        num_differ = num - self._votes[0] - self._votes[len(self._judges)]
        total["judge/num_checked"] //= len(self._judges)  # each counts them
        return {**total, "judge/num_compared": num, "judge/num_differ": num_differ}

    def record(self) -> dict[str, Any]:
        """Record and costs of each judge, and their agreement.

        ``differ_share`` is the share of criteria on which not all say the same.
        """
        num = self._votes.total()
        agreement = {
            "num_compared": num,
            "differ_share": self.metrics()["judge/num_differ"] / num if num else None,
            "fleiss_kappa": fleiss_kappa(self._votes, len(self._judges)),
        }
        judges = [
            {"name": name, **judge.record(), **judge.metrics()}
            for name, judge in zip(self._names, self._judges, strict=True)
        ]
        return {"judges": judges, "agreement": agreement}

    def _majority(self, rubric: Rubric, of: Sequence[Judgement]) -> Judgement:
        columns = [self._vote(of, index, each) for index, each in enumerate(rubric.criteria)]
        return Judgement.from_verdicts(rubric, *zip(*columns, strict=True))

    def _vote(
        self, of: Sequence[Judgement], index: int, criterion: Criterion
    ) -> tuple[bool | None, str, str]:
        """Verdict on a criterion, the reason where it is missing, and all explanations."""
        votes = [each.verdicts[index] for each in of]
        if self._runs_checks and criterion.check is not None:
            return votes[0], "", ""
        counts, reasons = Counter(votes), [each.reasons[index] for each in of]
        if not counts[None]:
            self._votes[counts[True]] += 1
        rows = zip(self._names, votes, of, reasons, strict=True)
        explanation = "\n".join(
            f"{name}: {_WORDS[vote]}. {reason or each.explanations[index]}".rstrip()
            for name, vote, each, reason in rows
        )
        verdict = next((vote for vote in (True, False) if 2 * counts[vote] > len(votes)), None)
        if verdict is not None:
            return verdict, "", explanation
        # Runs that are rewarded by the judge look for this word.
        tally = ", ".join(f"{counts[vote]} {word}" for vote, word in _WORDS.items())
        return None, "budget" if "budget" in reasons else f"no majority: {tally}", explanation


def fleiss_kappa(votes: Counter[int], num_judges: int) -> float | None:
    """Fleiss' kappa of verdicts; None where all are the same, or there are none.

    ``kappa = (P - P_e) / (1 - P_e)``, P the share of equal pairs of judges in the mean over
    criteria, ``P_e = p^2 + (1 - p)^2`` with p the share met of all verdicts (Fleiss, "Measuring
    nominal scale agreement among many raters", Psychological Bulletin 76, 1971).

    ``votes`` are numbers of criteria by the number of judges that call them met.
    """
    num, n = votes.total(), num_judges
    if not num:
        return None
    met = sum(k * count for k, count in votes.items()) / (num * n)
    equal = sum((k * (k - 1) + (n - k) * (n - k - 1)) * count for k, count in votes.items())
    observed, chance = equal / (num * n * (n - 1)), met**2 + (1 - met) ** 2
    return (observed - chance) / (1 - chance) if chance < 1 else None
