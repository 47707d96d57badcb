"""Failed requests of a judge: a fault of one prompt, or of the job."""

import re
from typing import Literal

from rcsd.errors import RunError
from rcsd.http import Reply

FIRST_ALIKE, MAX_ALIKE = 3, 20
"""Requests in a row that fail alike and end a job: before any reply, and later."""
MIN_ANSWERS = 3
"""Different answers that these requests are about: one answer may have many criteria."""

Trouble = Literal["refused", "too long", "garbage", "failed"]
"""Trouble of one prompt: a filter or a moderator refused it; it is too long; the reply broke the
schema; any other, which may be the job's as well."""

_REMEDIES = {
    401: "the key is missing or wrong: set judge.api_key_variable and that variable",
    402: "the account has no credit or quota left",
    403: "the key may not use this model",
    404: "judge.url or judge.model is wrong: the address ends before /chat/completions",
}
_OTHER_REMEDY = (
    "see what it says, and judge.response_format, judge.limit_name, judge.temperature, "
    "judge.sends_seed and judge.extra, which change what is sent"
)
_LENGTH = re.compile(
    r"(?i)context.{0,20}(?:length|window|size)|maximum.{0,20}context"
    r"|\b(?:prompt|input|messages?)\b.{0,40}too (?:long|large)"
)
_FILTER = re.compile(
    r"(?i)content.?(?:filter|policy|management|moderation)|responsible ?ai|flagged|moderation"
    r"|(?:usage|safety) (?:policy|policies|guidelines)|safety system"
)
_BROKEN = re.compile(r"json_validate_failed|(?i:failed to (?:generate|validate) JSON)")
_FORMAT = re.compile(r"(?i)response_?format|json_?(?:schema|object)|structured.?output|guided")


def refuses_format(reply: Reply) -> bool:
    """True if a refusal is about the format of replies that was requested."""
    text = reply.text
    return (
        reply.status in (400, 404, 415, 422)
        and bool(_FORMAT.search(text))
        and not _BROKEN.search(text)
    )


def trouble(reply: Reply, names_limit: bool) -> Trouble:
    """Trouble of a refused prompt; ``names_limit``: it may be that of the reply's token limit."""
    status, text = reply.status, reply.text
    if status == 413:
        return "too long"
    if status in (400, 403, 422, 451):
        if _BROKEN.search(text):
            return "garbage"
        if _LENGTH.search(text) and not names_limit:
            return "too long"
        if _FILTER.search(text):
            return "refused"
    return "failed"


def refusal(reply: Reply) -> RunError:
    """Error of a refused request, with its remedy."""
    what = f"{reply.source}: refused with {reply.status}: {reply.message}"
    status = 402 if reply.is_quota else reply.status
    return RunError(f"{what}; {_REMEDIES.get(status, _OTHER_REMEDY)}")


class FailureRun:
    """Failures in a row, without a reply in between.

    ``has_replied``: the model has replied in this process; ``is_proven``: or in an earlier one, as
    the cache shows. Before, a failure is more likely the job's than one prompt's.
    """

    def __init__(self) -> None:
        self.has_replied = self.is_proven = False
        self._first: RunError | None = None
        self._kind, self._num, self._answers = "", 0, set[int]()

    def end(self) -> None:
        """Note a reply."""
        self.has_replied = self.is_proven = True
        self._num, self._answers, self._first = 0, set(), None

    def add(self, kind: str, error: RunError, answer: int, is_own: bool) -> None:
        """Note a failure; RunError if there are too many of its kind.

        ``is_own``: the server says that it is the prompt's; then it ends a job only where nothing
        was ever replied.
        """
        if is_own and self.is_proven:
            return
        if kind != self._kind:
            self._kind, self._num, self._answers = kind, 0, set()
        self._num += 1
        self._answers.add(answer)
        if not is_own:
            self._first = self._first or error
        limit = MAX_ALIKE if is_own or self.is_proven else FIRST_ALIKE
        if self._num >= limit and len(self._answers) >= MIN_ANSWERS:
            raise RunError(
                f"{self._num} requests in a row, for {len(self._answers)} answers, failed alike; "
                f"the last: {error}. Replies so far are in the cache"
            )

    def check(self) -> None:
        """Raise the first failure where a job ends without a reply, and none ever came."""
        if self._first is not None and not self.is_proven:
            raise self._first
