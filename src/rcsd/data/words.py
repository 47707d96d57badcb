"""Content words of criteria, and the similarity of two criteria."""

import functools
import math

from rapidfuzz import fuzz, utils

# The words that criteria are phrased with, whatever they ask for.
PHRASING = frozenset(
    # One text: as a list it would take a hundred lines.
    """a an the and or of to in is are was be that this it its as for with by on from at into not no
    than if how why what which when answer answers response solution explanation student must should
    may might can does do correct correctly accurate accurately clear clearly explicit explicitly
    proper properly state states identify identifies explain explains describe describes mention
    mentions include includes including provide provides demonstrate demonstrates show shows discuss
    discusses address addresses note notes use uses using avoid avoids omit omits ensure ensures
    require requires""".split()  # noqa: SIM905
)


@functools.lru_cache(maxsize=4096)
def content_words(text: str) -> tuple[str, ...]:
    """Words in lower case without those that criteria are phrased with; all, if none is left."""
    words = tuple(utils.default_process(text).split())
    return tuple(word for word in words if word not in PHRASING) or words


def text_similarity(one: str, other: str, cutoff: float = 0.0) -> float:
    """Similarity of the content words of two criteria, in [0, 1]: 1 if they are the same.

    The geometric mean of ``token_set_ratio``, which forgives a longer wording, and
    ``token_sort_ratio``, which does not forgive a vague one. Numbers and negations hardly count.
    Similarities below the cutoff may be given as 0.
    """
    a, b = " ".join(content_words(one)), " ".join(content_words(other))
    in_order = fuzz.token_sort_ratio(a, b, score_cutoff=100 * cutoff**2)
    return math.sqrt(fuzz.token_set_ratio(a, b) * in_order) / 100 if in_order else 0.0
