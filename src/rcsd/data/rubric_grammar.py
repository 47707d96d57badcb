"""Regular languages of what a model may write; pure text, for any engine that takes a regex."""

# A text begins with what str.strip leaves, and with none of three that cannot be seen.
_FIRST = r'[^"\\\x00-\x20\x7f-\xa0\u1680\u2000-\u200b\u2028-\u202f\u205f\u3000\ue000\ufeff]'
_CHARACTER = r'[^"\\\x00-\x1f\x7f-\x9f\u2028\u2029]|\\["\\/]'
_POINTS = r"(?:[1-9][0-9]?(?:\.[0-9]{1,2})?|100|0\.(?:[1-9][0-9]?|0[1-9]))"


def rubric_regex(max_criteria: int, max_characters: int) -> str:
    r"""Regular expression of every rubric in the form of `rubric_json`, on one line.

    ``[{"criterion": "...", "weight": 3}, ...]`` with at least one positive weight, weights of
    0.01 to 100 with two decimals at most, and their negatives. What it matches, JSON and
    `rcsd.data.rubric.parse_rubric` read. Escapes are limited to ``\"``, ``\\`` and ``\/``: other
    characters stand for themselves, and control characters are refused. Halves of surrogate pairs
    match in Python, but no model can write them: its bytes are UTF-8.

    Args:
        max_criteria: Most criteria, at least 1; llguidance takes up to 80.
        max_characters: Longest text of a criterion in characters, at least 1; an escape counts one.
    """
    if max_criteria < 1 or max_characters < 1:
        raise ValueError("a rubric needs room for one criterion of one character")
    text = f'(?:{_FIRST}|\\\\["\\\\/])(?:{_CHARACTER}){{0,{max_characters - 1}}}'

    def criterion(sign: str) -> str:
        return rf'\{{"criterion": "{text}", "weight": {sign}{_POINTS}\}}'

    positive, negative, either = criterion(""), criterion("-"), criterion("-?")
    # From the last place to the first: a positive criterion and then any, or a negative one first.
    places = positive
    for room in range(1, max_criteria):
        places = f"(?:{positive}(?:, {either}){{0,{room}}}|{negative}, {places})"
    return rf"\[{places}\]"
