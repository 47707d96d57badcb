"""Sign of a criterion as its words read: one set of rules for imports and for `rubrics check`.

Rules look at the head of the sentence, not at what it is about: "States that the drug should not be
taken" is no avoidance. They are of English alone.
"""

import re
from typing import NamedTuple

from rcsd.config.data import Pitfalls


class Polarity(NamedTuple):
    """Sign that the words of a criterion give its points, and the rule that read it.

    Args:
        sign: +1 for a merit, -1 for a mistake, 0 where the words allow both.
        rule: Name of the rule.
    """

    sign: int
    rule: str


# Words for what is wrong in itself

_DEFECT_VERB = (
    r"(?:omit|ignor|neglect|overlook|forget|miss(?:es|ed)?\b|skip|leav(?:es?|ing) out|confus"
    r"|conflat|mix(?:es|ing)? up|contradict|fabricat|invent(?!or)|mak(?:es?|ing) up|hallucinat"
    r"|exaggerat|overstat|understat|oversimplif|overgenerali|overcomplicat|fail|violat|trivialis|trivializ"
    r"|downplay|misinterpret|misappl|misstat|misrepresent|misattribut|mis-?us|misidentif|mislead"
    r"|misunderst|miscalculat|misquot|misread|misdiagnos|misassign|mislabel|misplac|mischaracteri"
    r"|misspell|misclassif|plagiari|speculat|digress|stigmati|insult|deceiv|threaten)"
)
_BAD = (
    r"(?:invented|fabricated|made[- ]up|hallucinated|wrong|incorrect|inaccurate|erroneous|invalid"
    r"|misleading|irrelevant|unrelated|extraneous|unnecessary|unjustified|unsupported|unfounded"
    r"|unproven|unsafe|harmful|dangerous|inappropriate|contraindicated|offensive|outdated|improper"
    r"|biased|rude|condescending|overly|excessive|too (?!many? of)|insufficient"
    r"|false(?! (?:positive|negative|discovery|alarm))|factual(?:ly)? (?:errors?|incorrect\w*)"
    r"|(?:(?!standard|type)[\w-]+ )?(?:errors|error(?= in\b|$|[.,])|mistakes?|typos?|misspellings?"
    r"|misconceptions?)\b"
    r"|profanity|swear\w*|insults?|slurs?|(?:\w+ )?jargon|slang|bias|plagiarism|hallucinations?"
    r"|contradictions?|stereotypes?|fluff|filler)"
)
_WRONGLY = (
    r"(?:wrongly|incorrectly|falsely|erroneously|mistakenly|improperly|inappropriately|inaccurately"
    r"|unnecessarily|needlessly|prematurely|unfairly)"
)
_WHICH_IS_WRONG = r"which is (?:an? )?(?:common )?(?:error|mistake|wrong|incorrect)\b"
_GOOD = (
    r"(?:polite|clear|concise|accurate|correct|empathetic|respectful|helpful|relevant|complete"
    r"|thorough|readable|factual|honest|truthful|consistent|coherent|logical|precise|appropriate"
    r"|compassionate|professional|balanced|easy to|well[- ]\w+)"
)

_ANSWER = (
    r"(?:(?:the|an?|any|this|its|model's|final) )*(?:answer|response|solution|explanation|student"
    r"|assistant|model|chatbot|ai|reply|output|essay|summary|code|text|tone|derivation|calculation"
    r"|proof|argument|discussion|interpretation|plan|letter|report)s?"
)
_HEAD = rf"^\W*(?:it |{_ANSWER} (?:that |which )?)?(?:\w+ly )??"
_NOT = r"(?:does|do|did|will|has|is|are) not (?:\w+ly )?"
_OUGHT_NOT = r"(?:should|must|shall|ought) (?:not|never)\b(?! only)"
_ANY = r"(?:(?:any|an?|the|its|of|use of|using) )*"
_AVOID = r"(?:avoid|refrain(?:s|ing)? from|abstain|steers? (?:\w+ )?clear|stays? (?:away|clear))"

# Verbs whose absence is a fault, and verbs whose absence may be a fault or a merit

_REPORT = (
    r"(?:mention|stat|not[ei]|explain|address|discuss|clarif|specif|acknowledg|identif|describ"
    r"|defin|recogni[sz]|differentiat|distinguish|emphasi[sz]|highlight|list|refer|indicat|ask"
    r"|account for|consider|warn|inform|outlin|answer|respond|justif|cit[ei]|demonstrat|point out"
    r"|elaborat|diagnos|provid|deriv|calculat|comput|verif|check|conclud|compar|summari[sz]|reach"
    r"|follow the|meet the|adhere to|"
    r"(?:includ|give|contain|offer|show|present)\w* (?:an?|the|its|enough|sufficient)\b)"
)
_ADVISE = r"(?:recommend|suggest|advis[ei]|prescrib|propos|encourag|endors|promot)"
_MISSED = (
    r"(?:mention|explanation|evidence|sources?|citations?|references?|reason(?:s|ing)?|units?"
    r"|examples?|conclusion|justification|discussion|derivation|answer|details?|plan|disclaimer)"
)
_HOLDS = (
    r"(?:contain|includ|ha[sv]|us[ei]|provid|giv|mak|cit[ei]|present|offer|introduc|show|add|ask|describ|select"
    r"|choos|pick|appl)\w*"
)

_HAS = rf"(?:{_HOLDS}|there (?:is|are))"

# What turns a merit into a mistake: "Calls an ambulance although the symptoms are mild."
_HEDGE = (
    r"\b(?:without|although|though|despite|unnecessar\w*|needless\w*|instead|rather than|only"
    r"|before|not|non|mild|minor|against|delay\w*|later|but|however|even|overly|too|no|never|none"
    r"|unless|alternative)\b"
)
_SEEK = (
    rf"{_HEAD}(?=(?:{_ADVISE}|instruct|urg|tell|direct|refer|send))"
    r"(?:\w+ .*\b(?:seek|call|contact|consult|see|visit|go(?:ing)? to|get)(?:s|ing)?\b.*"
    r"|(?:refer|direct|send)\w* .*)\b(?:emergency|medical|ambulance|doctor|physician|dentist"
    r"|pharmacist|911|112|hospital|crisis|poison control"
    r"|(?:professional|urgent|immediate) (?:help|care|advice))\b"
)

_RULES: tuple[tuple[Polarity, re.Pattern[str]], ...] = tuple(
    (Polarity(sign, rule), re.compile("|".join(patterns)))
    for sign, rule, patterns in (
        (-1, "mistake", (  # it fails to avoid, does not avoid, evades
            rf"{_HEAD}(?:fail(?:s|ed|ing|ure)? |{_NOT}(?={_AVOID}))",
            rf"{_HEAD}avoids (?:(?:answer|address|respond|acknowledg)ing|the (?:question|topic))",
            rf"{_HEAD}is not (?:\w+ly )?{_GOOD}(?! (?:who|whether|how|why|what|that|if))\b",
        )),
        (+1, "avoidance", (  # it avoids, must not, does not omit, has no errors
            rf"{_HEAD}(?:(?:should|must|to) )?(?:\w+ly )?{_AVOID}",
            rf"{_HEAD}(?:do not|{_OUGHT_NOT}|(?:does|do) not (?:\w+ly )?{_DEFECT_VERB})",
            rf"^(?:\w+ that |ensures? )?{_ANSWER} (?:{_OUGHT_NOT}|(?:should|must) {_AVOID})",
            rf"^ensures? (?:that )?{_ANSWER} (?:does not|{_AVOID})",
            rf"{_HEAD}(?:(?:does|do) not {_WRONGLY}\b|(?:is|are) not (?:\w+ly )?{_BAD})",
            rf"{_HEAD}(?:does|do) not (?:contain|have|make|introduce) {_ANY}(?:\w+ )?{_BAD}",
            rf"{_HEAD}(?:never |(?:{_HAS} )?no ){_ANY}(?:{_DEFECT_VERB}|{_WRONGLY}|{_BAD})",
            rf"{_HEAD}(?:is )?free (?:of|from) ",
            rf"^(?:warn|caution|guard|alert)\w* against (?:{_WRONGLY}|{_DEFECT_VERB}|{_BAD})",
            r"^(?:must|should) (?:ignore|omit)\b.*\b(?:incorrect|irrelevant)\b",
            rf"^{_ANSWER} (?:must|should) (?:ignore|omit)\b.*\b(?:incorrect|irrelevant)\b",
        )),
        (+1, "absence of what is wrong", (  # it does not recommend unproven drugs
            rf"{_HEAD}(?:{_NOT}|never )(?!mention|address|discuss|warn)\w+ {_ANY}(?:\w+ly )?{_BAD}",
            rf"{_HEAD}(?:{_NOT}|never )(?:assum|imply|implies|claim|deviat|rely solely)",
            rf"{_HEAD}(?:{_NOT}|never ).*, {_WHICH_IS_WRONG}",
        )),
        (0, "absence", (  # it does not recommend surgery
            rf"{_HEAD}(?:{_NOT}|never )(?:{_ADVISE}|mention {_DEFECT_VERB})",
        )),
        (-1, "omission", (  # it does not mention, gives no reason, lacks
            rf"{_HEAD}(?:{_NOT}|never |cannot ){_REPORT}",
            rf"{_HEAD}(?:{_HAS} )?no (?:\w+ )?{_MISSED}\b",
            rf"{_HEAD}(?:(?:is )?missing (?!data|value)|lack(?:s|ing)?\b|omission of"
            r"|(?:shows?|has|displays?|demonstrates?) (?:an? )?(?:\w+ )?lack of)",
        )),
        (-1, "mistake", (  # it is wrong, ignores, states falsely, endorses any
            rf"{_HEAD}{_WRONGLY}\b|{_HEAD}(?:merely )?{_DEFECT_VERB}",
            rf"{_HEAD}(?:mistakes? .* (?:for|as)|incorrect|wrong)\b",
            rf"{_HEAD}us(?:e|ing) of (?:{_BAD}|non-)",
            rf"{_HEAD}{_HOLDS} {_ANY}(?:\w+ly )?{_BAD}",
            rf"{_HEAD}(?:is|are|sounds) (?:overly|too|excessively|{_WRONGLY}|{_BAD}|rude|vague"
            r"|incomplete|repetitive|dismissive|judgmental|verbose|off[- ]topic)\b",
            rf"{_HEAD}{_ADVISE}\w* (?:(?:the )?(?:use|intake|consumption|administration) of "
            r"|(?:to )?(?:us|tak|giv|try|start)(?:e|ing)? )?any (?!of|one|two|three|other"
            r"|appropriate|suitable|reasonable|standard|valid|further|additional|relevant)",
            r"^penali[sz]es?\b|^flags (?:any |instances|responses|answers|cases)",
            r"^(?!.*\b(?:must|should|not)\b).*\b(?:penali[sz]ed|(?:are|is) (?:insufficient|invalid)"
            r"|(?:indicates|is|results in) (?:an? )?(?:major |severe )?(?:violation|flaw))\b",
            rf"^(?!.*\bnot\b).*, {_WHICH_IS_WRONG}",
            r"^failing to\b|^responses that merely\b",
        )),
        (+1, "merit", (  # it must, ensures, is clear, sends to a doctor
            r"^(?:ensure|require|verif|advises? ensuring)\w*\b",
            rf"{_HEAD}(?:must|should) (?!incorrect|wrong|be penal|{_DEFECT_VERB})\w+",
            rf"^(?!.*{_HEDGE}){_SEEK}",
            rf"^(?!.*{_HEDGE}){_HEAD}(?:is|are|remains?|stays?) (?:\w+ly )?{_GOOD}\b",
            rf"^(?!.*{_HEDGE}){_HEAD}{_HOLDS} {_ANY}(?:\w+ly )?{_GOOD}\b",
            rf"^(?!.*{_HEDGE})\W*(?:{_ANSWER} )?(?:correctly|accurately|clearly|properly) \w+",
        )),
    )
)  # fmt: skip

# Rules of pitfalls alone, where what an answer does is a mistake unless its words say otherwise.
_WARNS = re.compile(r"^(?:\w+ )?(?:warn|caution|guard|alert)\w*(?: \w+)? against\b")
_DOES = re.compile(
    rf"{_HEAD}(?:(?:stat|us|tak|giv|prescrib|advis|provid)(?:es|ing)|(?:{_ADVISE}|claim|say|assert|impl|assum"
    r"|treat|attribut|rel|blam|order|perform|delay|present|select)(?:s|ies|es|ing))\b(?!.*\b(?:must|should)\b)"
)

# "Critical: ...", "Major violation: ...": what stands before the sentence itself.
_LABEL = re.compile(r"^[A-Z][\w' -]{0,40}:\s+(?=\S)")


def read_polarity(criterion: str) -> Polarity | None:
    """Sign of a criterion by the first rule that matches; None if no rule does."""
    sentence = _sentence(criterion)
    return next((result for result, pattern in _RULES if pattern.search(sentence)), None)


def _sentence(criterion: str) -> str:
    """Sentence in lower case, without labels and short forms ("doesn't")."""
    text = criterion.strip().replace("\u2019", "'")
    while label := _LABEL.match(text):
        text = text[label.end() :]
    return " ".join(text.lower().replace("can't", "cannot").replace("n't", " not").split())


def pitfall_sign(pitfall: str, points: float | None, pitfalls: Pitfalls) -> tuple[int, str]:
    """Sign of a pitfall's points, and the rule that decided it.

    By ``data`` the sign of the points stays, unless the words clearly speak of avoidance; without
    points, and by ``phrasing``, the words decide.

    Raises ValueError if the words must decide and do not, or pitfalls are dropped.
    """
    if pitfalls == "drop":
        raise ValueError("a pitfall, dropped as --pitfalls drop says")
    sentence = _sentence(pitfall)
    reading = read_polarity(pitfall) or Polarity(0, "unclear")
    if points is not None and pitfalls == "data":
        if reading.rule in ("avoidance", "mistake"):
            return reading.sign, reading.rule
        return (-1 if points < 0 else +1), "sign of the data"
    if reading.sign:
        return reading.sign, reading.rule
    if reading.rule == "unclear" and _WARNS.match(sentence):
        return +1, "warning"
    if reading.rule == "unclear" and _DOES.match(sentence):
        return -1, "mistake"
    raise ValueError(f"unclear whether it names a mistake or its avoidance: {pitfall!r}")
