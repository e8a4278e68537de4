"""Reads what senders announce: which message they have sent to which address, so that no event of it needs a look-up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from bridge.events import MalformedError, message_id_of
from bridge.suppression.addresses import InvalidAddressError, normalise

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_MESSAGES: Final = 10_000
"""In one announcement."""
_SHOWN_PROBLEMS: Final = 3


class InvalidAnnouncementError(ValueError):
    """It is no announcement; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """The messages of one announcement."""

    addresses: Mapping[str, str]
    """Message id -> address, as the sender wrote it. Of several with one id, the last one."""
    problems: tuple[str, ...]
    """What is wrong with the other messages, such as `messages[3].to: not an e-mail address: …`."""

    @property
    def problem(self) -> str:
        """The problems in one line; empty if there are none."""
        shown = "; ".join(self.problems[:_SHOWN_PROBLEMS])
        more = len(self.problems) - _SHOWN_PROBLEMS
        return f"{shown}; and {more} more" if more > 0 else shown


def read_announcement(body: bytes) -> Announcement:
    """Read a body: `{"messages": [{"id": "1", "to": "jane@example.org"}, …]}` with 1 to 10,000 messages, or one of them alone.

    Raises:
        InvalidAnnouncementError: it is something else. Messages that cannot be read are only reported.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidAnnouncementError(f"not JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidAnnouncementError("an announcement is an object with `messages`, or with `id` and `to`")
    if "messages" not in document:
        return _read_all({"": document})
    messages = document["messages"]
    if not isinstance(messages, list) or not 0 < len(messages) <= MAX_MESSAGES:
        raise InvalidAnnouncementError(f"`messages` must be an array of 1 to {MAX_MESSAGES} messages")
    return _read_all({f"messages[{place}].": message for place, message in enumerate(messages)})


def _read_all(messages: Mapping[str, Any]) -> Announcement:
    addresses: dict[str, str] = {}
    problems: list[str] = []
    for where, message in messages.items():
        try:
            message_id, address = _read(message)
        except InvalidAnnouncementError as error:
            problems.append(f"{where}{error}")
        else:
            addresses[message_id] = address
    return Announcement(addresses, tuple(problems))


def _read(message: Any) -> tuple[str, str]:
    if not isinstance(message, dict):
        raise InvalidAnnouncementError("id: a message is an object with `id` and `to`")
    try:
        message_id = message_id_of(message.get("id"))
    except MalformedError:
        raise InvalidAnnouncementError("id: neither a whole number nor a short text") from None
    to = message.get("to")
    if not isinstance(to, str):
        raise InvalidAnnouncementError("to: not a text")
    try:
        normalise(to)
    except InvalidAddressError as error:
        raise InvalidAnnouncementError(f"to: {error}") from None
    return message_id, to
