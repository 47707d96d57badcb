"""What accuracy a set gives away: to guessing, and to one letter for all of its questions."""

from collections import Counter
from collections.abc import Sequence

from rcsd.types import LETTERS, Example


def placebo_accuracies(examples: Sequence[Example]) -> dict[str, float | str]:
    """What stands beside the accuracy of a set whose questions all have options.

    ``chance``: the expectation of an answer drawn at random, the mean of 1 / number of options.
    ``majority``: the share of questions that their most frequent right letter answers, and
    ``majority_letter``, that letter (the first, where several are as frequent). Shuffled options
    bring the latter down to the former, but for sampling.

    Args:
        examples: The set.

    Returns:
        Nothing where a question has no options.
    """
    choices = [(e.grading.options, e.reference_answer) for e in examples if e.grading is not None]
    if not choices or len(choices) < len(examples) or not all(options for options, _ in choices):
        return {}
    counts: Counter[str] = Counter()
    for options, reference in choices:
        right = (reference or "").strip()
        texts = [option.strip() for option in options]
        # As in grading: a letter of the options before a text of one.
        is_letter = right in LETTERS[: len(options)]
        counts[right if is_letter else LETTERS[texts.index(right)]] += 1
    letter, number = min(counts.items(), key=lambda item: (-item[1], item[0]))
    return {
        "chance": sum(1 / len(options) for options, _ in choices) / len(choices),
        "majority": number / len(choices),
        "majority_letter": letter,
    }
