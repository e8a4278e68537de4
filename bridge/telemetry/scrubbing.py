"""Masks addresses in logs, unless that is turned off, and always hides secrets.

Our code masks the addresses that it logs. This catches those in texts of others: a database that quotes its parameters, a
library that names a URL, the last line of a traceback.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

from pydantic import BaseModel, SecretStr

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from structlog.typing import EventDict, WrappedLogger

HIDDEN: Final = "***"

SHORTEST_SECRET: Final = 6
"""Characters. A shorter secret would match ordinary words. In a URL it is hidden all the same."""

_PATTERNS: Final = (
    # Up to the last @ before a blank or the end of the authority: a password may have an @ that is not encoded.
    (re.compile(r"(?<=://)[^\s/\"'<>]*(?=@)"), "://"),
    (re.compile(r"(?<=/webhooks/msndr/)[^\s/?#\"'<>]+"), "/webhooks/msndr/"),
    (re.compile(r"(?i)(?<=\bbearer )[^\s\"'<>,]+"), "earer "),
    (re.compile(r"(?i)(?<=\bbasic )[a-z0-9+/=]{8,}"), "asic "),
    (re.compile(r"(?i)(?<=\bpassword=)(?:'[^']*'|\"[^\"]*\"|[^\s&,;)'\"]+)"), "assword="),
)
"""Patterns that are always hidden, each with a text that must occur for a match (a quick check)."""

_ADDRESS: Final = re.compile(
    r"""
    (?P<local> "(?:[^"\\\n]|\\.)+" | [^\s"<>()\[\],:;\\@]+ )
    (?P<at> @ | %40 )
    (?P<domain> \[[^\]\s]*\] | [^\s@"'<>()\[\],:;\\=?&]+ )
    """,
    re.VERBOSE,
)
_MASKED: Final = re.compile(r"[\"']?.?\*\*\*|[\"']?//\*\*\*")
_NODE: Final = "rabbit"
"""RabbitMQ's nodes are named `rabbit@host`: without a dot in the host that is not an address."""

_SIGNS_OF_ADDRESSES: Final = ("@", "%40")
_AFTER_A_LETTER: Final = f"{HIDDEN}@"

_OURS: Final = frozenset({"timestamp", "level", "action", "logger"})
"""Keys whose values are always our own."""
_WHERE: Final = "where"
"""A key whose value is a word, `@` and a host."""

_URL: Final = re.compile(r"[^:]+://(?P<user>[^:/@]*):(?P<password>.*)@")
"""As SQLAlchemy and RabbitMQ's clients read a URL: the password may have characters that should be encoded."""


def masked(address: str) -> str:
    """`jane@example.org` -> `j***@example.org`; text that is not an address -> `***`."""
    local, at, domain = address.rpartition("@")
    return f"{local[:1]}{HIDDEN}{at}{domain}" if at else HIDDEN


class Scrubber:
    """The last processor before a line is written: scrubs every text in it."""

    def __init__(self, secrets: Iterable[str] = (), *, mask_addresses: bool = True) -> None:
        """Args: texts to hide; whether to mask addresses."""
        # The longest first: one may be a part of another.
        known = sorted({one for one in secrets if one}, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, known))) if known else None
        self._signs = (
            *known,
            *(sign for _, sign in _PATTERNS),
            *(_SIGNS_OF_ADDRESSES if mask_addresses else ()),
        )
        self._masks = mask_addresses

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        for key, value in event.items():
            if key in _OURS or value is None or (type(value) is str and not self._is_suspicious(value)):
                continue  # nearly always: logging a line for each event must be cheap
            event[key] = self._value(value, masks=self._masks and key != _WHERE)
        return event

    def scrub_all(self, events: Sequence[EventDict]) -> None:
        """Scrub every text in these events. Nearly always one look at all of them says that there is nothing to hide."""
        texts: list[str] = []
        only_texts = True
        for event in events:
            for key, value in event.items():
                if key in _OURS or value is None:
                    continue
                if type(value) is str:
                    texts.append(_without_mask(value))
                else:
                    only_texts = False
        if only_texts and not self._has_sign("\n".join(texts)):
            return
        for event in events:
            self(None, "", event)

    def _is_suspicious(self, text: str) -> bool:
        return self._has_sign(_without_mask(text))

    def _has_sign(self, text: str) -> bool:
        for sign in self._signs:  # noqa: SIM110 -- `any` would cost three times as much, for each text of each line
            if sign in text:
                return True
        return False

    def text(self, text: str, *, masks: bool | None = None) -> str:
        """The text without secrets, and with masked addresses unless that is turned off."""
        if self._secrets is not None:
            text = self._secrets.sub(HIDDEN, text)
        text = without_secrets(text)
        if (self._masks if masks is None else masks) and ("@" in text or "%40" in text):
            return _ADDRESS.sub(_mask, text)
        return text

    def _value(self, value: Any, *, masks: bool) -> Any:
        if isinstance(value, str):
            return self.text(value, masks=masks)
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, dict):
            return {
                self._value(key, masks=masks): self._value(item, masks=masks) for key, item in value.items()
            }
        if isinstance(value, list | tuple | set | frozenset):
            return [self._value(item, masks=masks) for item in value]
        return self.text(str(value), masks=masks)


def _without_mask(text: str) -> str:
    return text[5:] if text[1:5] == _AFTER_A_LETTER else text  # our code has masked it


def without_secrets(text: str) -> str:
    """The text without secrets that are recognised by their place: credentials in URLs, tokens of the webhook."""
    for pattern, sign in _PATTERNS:
        if sign in text:
            text = pattern.sub(HIDDEN, text)
    return text


def secrets_of(settings: BaseModel) -> frozenset[str]:
    """Every secret of these settings, in the forms that may occur in a text: raw, and percent-encoded; of a URL the password."""
    return frozenset(
        text
        for secret in _secrets_in(settings)
        for text in _forms(secret.get_secret_value())
        if len(text) >= SHORTEST_SECRET
    )


def _secrets_in(value: Any) -> Iterator[SecretStr]:
    if isinstance(value, SecretStr):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets_in(getattr(value, name))
    elif isinstance(value, tuple):
        for item in value:
            yield from _secrets_in(item)


def _forms(secret: str) -> Collection[str]:
    if "://" not in secret:
        token = secret.rpartition(":")[2]  # of `name:scopes:TOKEN`
        return {secret, quote(secret, safe=""), token}
    found = _URL.match(secret)
    if (
        found is None or found["password"] == found["user"]
    ):  # `guest`: hiding the word would hide the user's name
        return ()
    password = found["password"]
    return {password, unquote(password), quote(unquote(password), safe="")}


def _mask(found: re.Match[str]) -> str:
    local, at, domain = found["local"], found["at"], found["domain"]
    if _MASKED.fullmatch(local) or (local == _NODE and "." not in domain):
        return found[0]
    opening = local[0] if local[0] in "\"'" and len(local) > 1 else ""
    shown = opening if opening == '"' else opening + local[len(opening)]
    return f"{shown}{HIDDEN}{at}{domain}"
