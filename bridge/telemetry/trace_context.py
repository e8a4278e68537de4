"""Trace contexts as W3C Trace Context has them in headers: read strictly, and kept with a message. It needs no library."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
"""Names of the headers, in HTTP and in AMQP: https://www.w3.org/TR/trace-context/, and for AMQP its registry of protocols."""

TRACEPARENT_LENGTH: Final = 55
"""Of a valid one of version 00."""
SAMPLED: Final = 0x01
_KNOWN_FLAGS: Final = 0x03
"""Sampled, and random trace id (level 2). Others have no meaning yet, and are not passed on."""
_VERSION: Final = "00"
_TRACEPARENT_FORM: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16

_MEMBER: Final = re.compile(
    r"[a-z0-9][a-z0-9_\-*/@]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_MAX_MEMBERS: Final = 32
_MAX_STATE: Final = 512
"""Characters of a `tracestate` that must be passed on; more is shortened as the specification says (3.3.1.5)."""
_LONG_MEMBER: Final = 128


class TraceContext(NamedTuple):
    """Which trace something belongs to, and after which span it comes."""

    traceparent: str
    """Of version 00, valid: 55 characters."""
    tracestate: str = ""
    """What other systems have added; empty if nothing."""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits."""
        return self.traceparent[3:35]

    @property
    def span_id(self) -> str:
        """16 hexadecimal digits."""
        return self.traceparent[36:52]

    @property
    def sampled(self) -> bool:
        """Whether the trace is recorded."""
        return bool(int(self.traceparent[53:], 16) & SAMPLED)

    @property
    def text(self) -> str:
        """Both in one text, to be stored: the `traceparent`, and behind a space the `tracestate`, if there is one."""
        return f"{self.traceparent} {self.tracestate}" if self.tracestate else self.traceparent


def new_context(trace_id: int, span_id: int, tracestate: str = "") -> TraceContext:
    """The context of a span that is recorded."""
    return TraceContext(f"{_VERSION}-{trace_id:032x}-{span_id:016x}-{SAMPLED:02x}", tracestate)


def from_headers(traceparents: Sequence[str], tracestates: Sequence[str]) -> TraceContext | None:
    """The context in the headers of a request or a message; None if there is none, or an invalid one.

    Args:
        traceparents: the values of all headers of this name; several are invalid.
        tracestates: the same; several are one list. An invalid list is left out.
    """
    if len(traceparents) != 1 or (found := _TRACEPARENT_FORM.fullmatch(traceparents[0])) is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == _VERSION and more is not None):
        return None
    if trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    known = int(flags, 16) & _KNOWN_FLAGS
    return TraceContext(f"{_VERSION}-{trace_id}-{span_id}-{known:02x}", _valid_state(tracestates))


def from_text(text: str | None) -> TraceContext | None:
    """The context in a text that was stored; None if there is none, or somebody has changed it into an invalid one."""
    if not text:
        return None
    traceparent, _, tracestate = text.partition(" ")
    return from_headers([traceparent], [tracestate] if tracestate else [])


def _valid_state(values: Sequence[str]) -> str:
    """The list, shortened to `_MAX_STATE`: first without its long members, then without its last ones."""
    members = [member.strip(" \t") for value in values for member in value.split(",")]
    members = [member for member in members if member]
    keys = {member.partition("=")[0] for member in members}
    if len(members) > _MAX_MEMBERS or len(keys) != len(members) or not all(map(_MEMBER.fullmatch, members)):
        return ""
    if len(",".join(members)) > _MAX_STATE:
        members = [member for member in members if len(member) <= _LONG_MEMBER]
    while len(",".join(members)) > _MAX_STATE:
        members.pop()
    return ",".join(members)
