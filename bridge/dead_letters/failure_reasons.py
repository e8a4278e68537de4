"""The keywords in the headers of a message that could not be handled: why, and where."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

MALFORMED: Final = "malformed"
UNDECODABLE: Final = "undecodable"
INVALID_ADDRESS: Final = "invalid-address"
SEVERAL_ADDRESSES: Final = "several-addresses"
UNKNOWN_MESSAGE: Final = "unknown-message"
UNRESOLVED: Final = "unresolved"
UNREADABLE_ANSWER: Final = "unreadable-answer"
PROVIDER_FAILURE: Final = "provider-failure"
REFUSED_VALUE: Final = "refused-value"

REASONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        UNKNOWN_MESSAGE: "the provider does not know the message",
        UNRESOLVED: "there is no API token to look the address up with, and nobody has announced the message",
        INVALID_ADDRESS: "the message's address is not an e-mail address",
        SEVERAL_ADDRESSES: "the message went to several addresses, and the event does not say which one it is about",
        MALFORMED: "the body is not an event that can be read",
        UNDECODABLE: "the message's properties cannot be decoded",
        UNREADABLE_ANSWER: "the provider's answer about the message cannot be read",
        PROVIDER_FAILURE: "the provider did not answer, or with an error, each time that it was asked",
        REFUSED_VALUE: "the database refuses a value of the event",
    }
)
"""Reason -> what it means."""

PARSE: Final = "parse"
PROVIDER: Final = "provider"
DATABASE: Final = "database"
PLACES: Final = (PARSE, PROVIDER, DATABASE)
"""Where an attempt can fail."""
