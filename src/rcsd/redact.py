"""Text without secrets, with control characters made visible."""

import json
import logging
import os
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

REDACTED = "[redacted]"
MIN_SECRET_CHARACTERS = 8
"""Shorter values of the environment are taken for words."""

_SECRET_NAME = re.compile(
    r"(?i)(?:TOKEN|KEY|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL)S?(?:_|$)"
    r"(?!.*(?:FILE|PATH|DIR|NAME)$)"
)
# Prefixes as their issuers publish them. What follows is bounded below, so that words are spared.
_SHAPES = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"hf_[A-Za-z0-9]{20,}"  # Hugging Face
    # OpenAI, Anthropic, OpenRouter
    r"|sk-(?=[\w-]{0,64}?\d)(?=[\w-]{0,64}?[A-Za-z0-9]{16})[\w-]{20,}"
    r"|gh[opsru]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{20,}"
    r"|A(?:KIA|SIA)[A-Z0-9]{16}"  # AWS
    r"|AIza[\w-]{35}"  # Google
    r"|xox[a-z]-[A-Za-z0-9-]{10,}"  # Slack
    r"|eyJ[\w-]{8,512}\.eyJ[\w-]{8,4096}\.[\w-]*"  # a JSON web token
    r")"
    r"|-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----(?:.*?-----END [A-Z ]{0,32}PRIVATE KEY-----|.*)",
    re.DOTALL,
)
_BEARER = re.compile(r"(?i)\b(bearer\s{1,8})(?=\S{0,64}?\d)[\w.~+/-]{16,}=*")
# One slash too: pathlib makes https:/user:word@host of an address.
_USER = re.compile(r"(:/{1,2})[^\s/?#]{1,512}@")
_QUERY = re.compile(
    r"(?i)([?&](?:[\w-]{0,40}[_-])?(?:access|api|auth)?"
    r"(?:token|key|secret|password|passwd|pwd|signature|sig|credential|auth)=)[^\s&#'\"]+"
)

_registered: set[str] = set()


def register_secret(value: str) -> None:
    """Take a value for a secret from now on, whatever the name of its variable.

    Words of a few letters, such as ``EMPTY`` for servers that want no key, and short numbers are
    spared.
    """
    is_plain = value.isalpha() or value.isdigit()
    if len(value) >= MIN_SECRET_CHARACTERS or (len(value) >= 4 and not is_plain):
        _registered.update((value, json.dumps(value)[1:-1], quote(value, safe="")))


def without_registered(text: str) -> str:
    """Text without the registered secrets, for replies that must otherwise stay as they are."""
    return _without(_registered, text)


def _without(secrets: Iterable[str], text: str) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        if secret not in REDACTED:
            text = text.replace(secret, REDACTED)
    return text


def redacted(text: str) -> str:
    """Text without secrets; what stood in their place is `REDACTED`.

    Secrets are registered values, those of environment variables whose names say so, keys of
    well-known shape, and in addresses the user's part and parameters such as ``token=``.
    """
    secrets = [
        value
        for name, value in os.environ.items()
        if len(value) >= MIN_SECRET_CHARACTERS and _SECRET_NAME.search(name)
    ]
    text = _without({*secrets, *_registered}, text)
    text = _SHAPES.sub(REDACTED, text)
    text = _BEARER.sub(rf"\1{REDACTED}", text)
    text = _USER.sub(rf"\1{REDACTED}@", text)
    return _QUERY.sub(rf"\1{REDACTED}", text)


# Controls but line ends and tabs, marks of direction, lone surrogates, noncharacters.
_HAZARDS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
    + "]"
)


def visible_text(text: str) -> str:
    """Text with everything that a page or a terminal might obey turned into something to look at.

    Control characters, direction marks (which can reorder what is read) and what UTF-8 or HTML
    cannot hold (lone surrogates, noncharacters) become their code point: ``<U+001B>``. Line ends
    and tabs stay. This does not escape markup: the template does.
    """
    return _HAZARDS.sub(lambda match: f"<U+{ord(match[0]):04X}>", text.replace("\r\n", "\n"))


def shown_text(text: str) -> str:
    """A text for a terminal or a log: no secrets, no control characters."""
    return visible_text(redacted(text))


def guard_libraries() -> None:
    """Let the log lines and warnings of all libraries pass through `shown_text`.

    Our own warnings are for users: where they were raised in the code is left out.
    """
    logging.setLogRecordFactory(_guarded_record)
    warnings.formatwarning = _guarded_warning


def _guarded_record(*arguments: Any, **named: Any) -> logging.LogRecord:
    record = logging.LogRecord(*arguments, **named)
    record.msg, record.args = shown_text(record.getMessage()), ()
    return record


_formatted = warnings.formatwarning


def _guarded_warning(
    message: Warning | str, category: type[Warning], filename: str, *place: Any, **named: Any
) -> str:
    if category is UserWarning and Path(filename).is_relative_to(Path(__file__).parent):
        return shown_text(f"Warning: {message}\n")
    return shown_text(_formatted(message, category, filename, *place, **named))
