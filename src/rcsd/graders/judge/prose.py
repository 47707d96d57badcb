"""Words of a judge around its verdict: what they state, take back or only quote."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from rcsd.graders.judge.objects import STRAIGHT

_STATE = r"(?:met|satisf(?:ied|y|ies)|fulfill?(?:ed|s)?|meets?|pass(?:ed|es)?)"
_NO = (
    r"(?:(?<![a-z])(?:not(?!\W+only)|never|hardly|barely|partially|partly|nearly|almost|cannot)"
    r"|n't)"
)
_ENTRY = (
    r"\b(?:verdict|met|judge?ment|conclusion|criterion(?:\W+\d+)?|mark(?:ed)?|judged?|set)\b"
    r"(?:\W+(?:it|this|is|as|to|be|so|thus|therefore|the|criterion|overall|final))*\W{1,5}"
)
_ENDS = r"(?=\W*$|\W*[,(])"
_NEGATIVE = re.compile(
    r"(?:cannot|can't|not possible to|impossible to|unable to)\W+(?:say|claim|conclude|confirm)\b"
    rf"[^,;:]{{0,60}}\b{_STATE}\b"
    rf"|{_NO}\W+(?:\w+\W+){{0,3}}?{_STATE}\b|\b(?:unmet|unsatisfied|unfulfilled)\b"
    rf"|(?<!n't )(?<!not )\bfail(?:s|ed)?\W+(?:to\W+(?:\w+\W+)?{_STATE}\b"
    r"|(?:on\W+)?(?:the|this)\W+criterion)|\bcriterion\W+(?:\d+\W+)?fail(?:s|ed)\b"
    rf"|{_ENTRY}(?:false|no|fail(?:ed|s)?){_ENDS}"
)
# The same in Chinese, Japanese, Korean, German, Spanish and French.
_OTHER_NEGATIVE = re.compile(
    r"[未不没][^\s\u3002\uff0c]{0,4}(?:满足|符合|达到)|満たしていない|満たしてい?ません|満たさない"
    r"|미충족|충족(?:하지|되지|시키지)|nicht (?:\w+ )?erfüllt|\bno (?:se )?(?:cumple|satisface)"
    r"|n'est (?:\w+ )?pas (?:\w+ )?(?:satisfait|rempli|respecté)"
)
_OTHER_POSITIVE = re.compile(
    r"满足|符合|达到|満たし|満たす|충족|満たさ|\berfüllt|\b(?:cumple|satisface|satisfait|rempli|respecté)\b"
)
_OTHER_NO_CLAIM = re.compile(r"是否|如果|若|かどうか|여부|\b(?:ob|wenn|falls|si)\b|\?|\uff1f")
# A sentence that is nothing but a verdict.
_BARE = re.compile(
    r"\W*(?P<lead>(?:(?:so|thus|hence|therefore|the|answer|verdict|conclusion|judge?ment|result|final"
    r"|i|d|would|call|mark|say|it|this|as|is)\W+)*)"
    r"(?:(?P<no>no|false|fail(?:ed|s)?)|(?P<yes>yes|true)|(?P<unmet>unmet|not\W+(?:met|satisfied))"
    r"|(?P<met>met|satisfied))\W*"
)
_HEADING = re.compile(r"\b(verdict|conclusion|judge?ment|result)\W*\n\s*")
_POSITIVE = re.compile(rf"\b{_STATE}\b|{_ENTRY}(?:true|yes){_ENDS}")
_IN_PART = re.compile(
    r"\b(?:parts?|some|half|one of|only|first|second|aspects?|portions?|elements?|largely|mostly"
    r"|somewhat|several|most)\b"
)
_ON_THE_VERDICT = re.compile(
    r"criteri|requirement|rubric|verdict|judge?ment|standard|\bmet\W*[:=]"
    r"|\b(?:so|thus|hence|therefore|overall|conclusion|conclude|consequently)\b"
    r"|\bfinal(?:ly)?\b(?! answer)"
)
_NO_CLAIM = re.compile(
    r"\b(?:if|whether|unless|(?<!\bi )would|could|should|might|may|must|when|needs?|requires?"
    r"|in order)\b"
    r"|\bto be (?:met|satisfied|fulfill?ed)|\?"
    r"|\b(?:answers?|response|student|text|it|they|author|user|who|which|that)\W+(?:\w+\W+)?"
    r"(?:claim|say|state|ask|assert|insist|argue|demand|tell|declare|pretend|suggest|want)s?\b"
)
_TAKEN_BACK = re.compile(
    r"(?:^|[.!?\n]\s*)(?:wait|actually|instead(?! of)|sorry|oops|hmm+|but|nope|no(?=\s*[,.!:])"
    r"|correction|scratch)\b|<think|\b(?:however|disregard|ignore|i disagree|i was wrong|my mistake"
    r"|mistaken(?:ly)?|would (?:be|have been)|reconsider\w*|second thought|or rather|on reflection"
    r"|(?:that|this|which|it) (?:is|was) (?:wrong|incorrect|not right))\b"
)
_QUOTATION = re.compile(r"\"[^\"\n]*\"|\u00ab[^\u00bb\n]*\u00bb|`[^`\n]*`|(?<!\w)'[^'\n]*'(?!\w)")
_KEY = re.compile(r"[\"'](met|score)[\"']\s*:")
_MARKUP = re.compile(r"```\w*|[*_#>]+")
_SENTENCE_ENDS = re.compile(
    r"[.!?](?=\s|$)|[;\n\u3002\uff0c\uff1b]|,\s*(?=(?:but|so|therefore|thus|hence)\b)"
)
_SCORE = re.compile(
    r"\b(?:scor|rat|giv|grad|deserv|assign|award)(?:e|es|ed|ing|s)?\b[^.\d\n]{0,30}"
    r"(?P<named>\d+(?:\.\d+)?)(?![\d.]*\s*(?:points?|%))"
    r"|(?P<of>\d+(?:\.\d+)?)\s*(?:/|out of)\s*10\b"
)

# A sentence that leads to somebody else's words, or to an example.
_SPEAKERS = (
    r"answers?|response|student|text|it|they|author|candidate|assistant|user|question|prompt"
    r"|instructions?|criterion|writer|essay|solution|submission|which|who|and|then|also"
)
_VERBS = (
    r"(?:say|state|claim|ask|demand|want|quote|tell|instruct|assert|insist|contain|include|embed|end"
    r"|begin|start|give|read|write|show|have|present|suggest|request|append|insert|add|finish|close"
    r")(?:s|es|ed)?|said|told|wrote|has|had"
)
_FILLERS = (
    r"a|an|the|this|following|json|object|text|line|verdict|example|block|string|its|own|itself|me|us"
    r"|judge|to|for|with|in|at|by|as|of|output|reply|return|give|follows|that|end|i|code|and|my"
)
_LEADS_TO_QUOTATION = re.compile(
    rf"\b(?:{_SPEAKERS})\W+(?:(?:\w+ly|itself|even|also|then)\W+)?(?:{_VERBS})\b(?:\W+(?:{_FILLERS})\b){{0,10}}\W*$"
    r"|\b(?:for example|e\.g\.|example|such as|instead of|rather than|not|never)\W*$"
    r"|\bwould (?:have|be|need)\b[^.]{0,30}$"
)
_MINE = re.compile(r"^\W*(?:(?:so|thus|hence|therefore)\W+)?(?:i|we|my|mine|our)\b")
_GOES_ON = re.compile(r"[^\S\n]*(?:[,;:][^\S\n]*[^\W\d_]|[a-z])")


class Statement(NamedTuple):
    """A verdict in words; the number of the criterion that it names, or None."""

    number: int | None
    is_met: bool
    sentence: str


def statements(text: str, is_on_the_verdict: bool = False) -> Iterator[Statement]:
    """Verdicts that sentences of a text state; quotations, conditions and reports are none.

    A sentence counts if it speaks of the criterion or concludes, or all are on the verdict.
    """
    for sentence in _sentences(text):
        if (bare := _BARE.fullmatch(sentence)) and (bare["lead"] or bare["unmet"] or bare["met"]):
            yield Statement(None, not (bare["no"] or bare["unmet"]), sentence.strip())
            continue
        if _OTHER_POSITIVE.search(sentence) and not _OTHER_NO_CLAIM.search(sentence):
            yield Statement(None, not _OTHER_NEGATIVE.search(sentence), sentence.strip())
            continue
        if _NO_CLAIM.search(sentence):
            continue
        if not is_on_the_verdict and not _ON_THE_VERDICT.search(sentence):
            continue
        is_negative = _NEGATIVE.search(sentence) is not None
        is_positive = _POSITIVE.search(sentence) and not _IN_PART.search(sentence)
        if is_negative or is_positive:
            number = re.search(r"\bcriterion\W{1,3}(\d{1,4})\b", sentence)
            yield Statement(number and int(number[1]), not is_negative, sentence.strip())


def stated_scores(text: str) -> list[float]:
    """Scores that sentences of a text name."""
    return [
        float(match["named"] or match["of"])
        for sentence in _sentences(text)
        if not _NO_CLAIM.search(sentence)
        for match in _SCORE.finditer(sentence)
    ]


def takes_back(text: str) -> str:
    """The word by which the text after a verdict takes it back; empty if none does."""
    match = _TAKEN_BACK.search(_plain(text).strip())
    return match[0].strip() if match else ""


def is_within_sentence(after: str) -> bool:
    """True if the sentence goes on after an object: it is spoken of, not given."""
    return _GOES_ON.match(after) is not None


def leads_to_quotation(before: str) -> bool:
    """True if the text before an object ends by calling it somebody else's, or an example."""
    lines = _MARKUP.sub(" ", before.lower()).rstrip().splitlines()
    lead = re.split(r"[.!?](?:\s|$)", lines[-1])[-1] if lines else ""
    return _LEADS_TO_QUOTATION.search(lead) is not None and not _MINE.match(lead)


def _sentences(text: str) -> list[str]:
    return _SENTENCE_ENDS.split(_plain(text))


def _plain(text: str) -> str:
    """Lower case, without markup and quotations."""
    text = _KEY.sub(r"\1:", _MARKUP.sub(" ", text.lower().translate(STRAIGHT)))
    return _QUOTATION.sub(" ", _HEADING.sub(r"\1: ", text))
