"""Polarity of a pitfall from its phrasing: a mistake, or the avoidance of one."""

import re

_SUBJECT = r"^(?:(?:the |an? )?(?:answer|response|solution|explanation)s? (?:that |which )?)?"
_VIOLATION = (  # it fails, omits, gets wrong, lacks, takes one thing for another, is penalised
    _SUBJECT + r"(?:merely |wrongly |incorrectly )?(?:fail|flag|omit|ignor|neglect|overlook|confus"
    r"|mistak|misinterpret|misappl|state)\w*\b",
    _SUBJECT + r"(?:(?:incorrect|wrong|mis(?:use|misrepresent|misattribut|stat|assign))\w*"
    r"|missing|lack(?:s|ing)|omission of|us(?:es?|ing|e of) (?:wrong|incorrect|non-standard))\b",
    _SUBJECT + r"(?:us|present|provid|select|giv|treat)(?:es|ing)\b.*\binstead of\b",
    r"^penali[sz]es?\b",
    r"^(?!.*\b(?:must|should)\b).*\b(?:penali[sz]ed|invalid|(?:indicates|is|results in) (?:an? )?"
    r"(?:major |severe )?(?:violation|flaw|penalty))\b",
    r"^(?:the \w+ )?(?:does|do) not (?:(?:mention|state|note|indicate|acknowledge) that"
    r"|(?:address|discuss|explain|consider|clarify|specify|provide|account for)\b)",
)
_AVOIDANCE = (  # it avoids, does not, warns against, must ignore what is incorrect
    r"\b(?:avoid|refrain)(?:s|ing)?\b|\b(?:should|must|may|can) ?not\b",
    r"\b(?:does|do) not\b(?! mention\b)",
    r"\b(?:warn|caution|alert|guard)(?:s|ing)?(?: \w+)? against\b",
    r"\b(?:must|should) (?:ignore|omit)\b.*\b(?:incorrect|irrelevant)\b",
)
_DEMAND = (  # it ensures, advises; the answer must
    r"^(?:ensure|advise|require|verif)\w*\b",
    _SUBJECT + r"(?:must|should) (?!(?:incorrect|wrong|fail|omit|ignor|neglect)\w*\b)\w+",
)

# The sign that a phrasing gives; the first rule that matches decides. Data sets write pitfalls both
# as what a good answer avoids and as what a bad answer does.
_RULES = tuple(
    (rule, sign, re.compile("|".join(patterns), re.IGNORECASE))
    for rule, sign, patterns in (
        ("violation", -1, _VIOLATION),
        ("avoidance", +1, _AVOIDANCE),
        ("demand", +1, _DEMAND),
    )
)

# "Critical: ...", "Major violation: ...": what stands before the sentence itself.
_LABEL = re.compile(r"^[A-Z][\w' -]{0,40}:\s+(?=\S)")


def polarity(pitfall: str) -> tuple[int, str]:
    """Sign of a pitfall's points, and the name of the rule that decided.

    The sign is -1 for a mistake, which costs points when it is met, +1 for its avoidance. Labels
    before the sentence are passed over.

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
