"""Polarity of a pitfall from its phrasing: a mistake, or the avoidance of one."""

import re

_SUBJECT = r"(?i)^(?:(?:the |an? )?(?:answer|response|solution|explanation)s? (?:that |which )?)?"

# The sign that a phrasing gives; the first rule that matches decides. Data sets write pitfalls both
# as what a good answer avoids and as what a bad answer does.
_RULES: tuple[tuple[str, int, re.Pattern[str]], ...] = (
    (
        "violation: it fails, flags, omits ...",
        -1,
        re.compile(
            _SUBJECT + r"(?:merely |wrongly |incorrectly )?"
            r"(?:fail|flag|omit|ignor|neglect|overlook|confus|mistak|misinterpret|misappl|state)\w*\b"
        ),
    ),
    (
        "violation: incorrectly, missing, wrong ...",
        -1,
        re.compile(
            _SUBJECT + r"(?:(?:incorrect|wrong|mis(?:use|misrepresent|misattribut|stat|assign))\w*"
            r"|missing|lack(?:s|ing)|omission of"
            r"|us(?:es?|ing|e of) (?:wrong|incorrect|non-standard))\b"
        ),
    ),
    (
        "violation: one thing instead of another",
        -1,
        re.compile(
            _SUBJECT + r"(?:us|present|provid|select|giv|treat)(?:es|ing)\b.*\binstead of\b"
        ),
    ),
    (
        "violation: it is penalised, a major flaw ...",
        -1,
        re.compile(
            r"(?i)^penali[sz]es?\b"
            r"|^(?!.*\b(?:must|should)\b).*\b(?:penali[sz]ed|invalid"
            r"|(?:indicates|is|results in) (?:an? )?(?:major |severe )?"
            r"(?:violation|flaw|penalty))\b"
        ),
    ),
    (
        "violation: it does not mention that ...",
        -1,
        re.compile(
            r"(?i)^(?:the \w+ )?(?:does|do) not (?:(?:mention|state|note|indicate|acknowledge) that"
            r"|(?:address|discuss|explain|consider|clarify|specify|provide|account for)\b)"
        ),
    ),
    (
        "avoidance: it avoids, does not, warns against ...",
        +1,
        re.compile(
            r"(?i)\b(?:avoid|refrain)(?:s|ing)?\b|\b(?:should|must|may|can) ?not\b"
            r"|\b(?:does|do) not\b(?! mention\b)"
            r"|\b(?:warn|caution|alert|guard)(?:s|ing)?(?: \w+)? against\b"
        ),
    ),
    (
        "avoidance: it must ignore or omit what is incorrect",
        +1,
        re.compile(r"(?i)\b(?:must|should) (?:ignore|omit)\b.*\b(?:incorrect|irrelevant)\b"),
    ),
    (
        "demand: it ensures, advises ...",
        +1,
        re.compile(r"(?i)^(?:ensure|advise|require|verif)\w*\b"),
    ),
    (
        "demand: the answer must ...",
        +1,
        re.compile(
            _SUBJECT + r"(?:must|should) (?!(?:incorrect|wrong|fail|omit|ignor|neglect)\w*\b)\w+"
        ),
    ),
)

# "Critical: ...", "Major violation: ...": what stands before the sentence itself.
_LABEL = re.compile(r"^[A-Z][\w' -]{0,40}:\s+(?=\S)")


def polarity(pitfall: str) -> tuple[int, str]:
    """Sign of a pitfall's points and the name of the rule that decided.

    Args:
        pitfall: The sentence; labels before it are passed over.

    Returns:
        -1 for a mistake, which costs points when it is met, +1 for its avoidance.

    Raises:
        ValueError: If no rule understands it.
    """
    sentence = pitfall.strip()
    while label := _LABEL.match(sentence):
        sentence = sentence[label.end() :]
    for rule, sign, pattern in _RULES:
        if pattern.search(sentence):
            return sign, rule
    raise ValueError(f"unclear whether it names a mistake or its avoidance: {pitfall!r}")
