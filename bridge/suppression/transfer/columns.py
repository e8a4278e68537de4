"""Which column of a file is what: the exports of other systems are known by their headers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from bridge.suppression.policy import Reason
from bridge.suppression.transfer import exporting
from bridge.suppression.transfer.reasons import UnknownReasonError, reason_in_name, reason_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Source = Literal["bridge", "ses", "sendgrid", "mailgun", "postmark", "telnyx", "mailchimp", "coss", "other"]

_ADDRESSES: Final = ("address", "emailaddress", "email", "to", "recipient")
_TIMES: Final = ("createdat", "created", "lastupdatetime", "timestamp", "time", "date")
_ENDS: Final = ("expiresat", "expires", "expiry")
_NO_SIGN: Final = re.compile(r"[^a-z0-9]+")
_SHOWN: Final = 200
"""Characters of a header that a message quotes."""

_OWN: Final = frozenset({"address", "reason", "original", "firsteventat", "lasteventat", "count"})


class _Export(NamedTuple):
    """How another system's export is known, and which of its columns is what. Names are as `_plain` makes them."""

    source: Source
    address: str
    all_of: frozenset[str]
    """Columns that it must have."""
    one_of: frozenset[str] = frozenset()
    """Columns of which it must have one."""
    reason: str = ""
    every: Reason | None = None
    times: tuple[str, ...] = _TIMES
    origin: str = ""
    status: str = ""


_E_MAIL_ADDRESS: Final = frozenset({"emailaddress"})
_EXPORTS: Final = (
    _Export(
        "postmark",
        "emailaddress",
        _E_MAIL_ADDRESS | {"suppressionreason"},
        reason="suppressionreason",
        origin="origin",
    ),
    _Export(
        "mailchimp",
        "emailaddress",
        _E_MAIL_ADDRESS,
        frozenset({"unsubtime", "unsubreason", "unsubcampaigntitle", "unsubcampaignid"}),
        every=Reason.UNSUBSCRIBE,
        times=("unsubtime",),
    ),
    _Export(
        "mailchimp",
        "emailaddress",
        _E_MAIL_ADDRESS,
        frozenset({"cleantime", "cleancampaigntitle", "cleancampaignid"}),
        every=Reason.HARD_BOUNCE,
        times=("cleantime",),
    ),
    _Export("ses", "emailaddress", _E_MAIL_ADDRESS, frozenset({"reason", "lastupdatetime"}), reason="reason"),
    _Export("mailchimp", "emailaddress", _E_MAIL_ADDRESS),
    _Export("telnyx", "to", frozenset({"to", "reason"}), reason="reason", status="status"),
    # What SendGrid calls the reason is the other server's answer.
    _Export("sendgrid", "email", frozenset({"email", "created"}), times=("created",)),
    _Export("coss", "address", frozenset({"address", "reason"}), reason="reason"),
    _Export(
        "mailgun",
        "address",
        frozenset({"address"}),
        frozenset({"code", "error"}),
        every=Reason.HARD_BOUNCE,
    ),
    _Export("mailgun", "address", frozenset({"address", "tags"}), every=Reason.UNSUBSCRIBE),
    _Export("mailgun", "address", frozenset({"address", "createdat"})),
)
"""The first that fits."""


class UnrecognisedColumnsError(ValueError):
    """The columns do not say which addresses are suppressed, or why. The message says what is missing."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Where in a row what stands; None: nowhere."""

    source: Source
    """Whose export it is."""
    width: int
    """How many columns there are."""
    address: int
    reason: int | None = None
    every: Reason | None = None
    """The reason of every row, where no column has it."""
    time: int | None = None
    expires: int | None = None
    origin: int | None = None
    """Postmark's: who has suppressed it."""
    status: int | None = None
    """Telnyx's: whether it is still suppressed."""
    own: tuple[int | None, ...] = ()
    """Of our own export: the place of each of its columns."""


def recognise(names: Sequence[str], *, reason: Reason | None = None, file_name: str = "") -> Columns:
    """The columns of a file with this header. Case, blanks, order, and columns that are not needed do not matter.

    Args:
        names: the cells of the header.
        reason: of every row, whatever the file says.
        file_name: may say what is in the file (`suppression_bounces.csv`), where no column does.

    Raises:
        UnrecognisedColumnsError: no column has addresses, or nothing says why they are suppressed.
    """
    at: dict[str, int] = {}
    for place, name in enumerate(names):
        at.setdefault(_plain(name), place)
    address = next((at[name] for name in _ADDRESSES if name in at), None)
    if address is None:
        raise UnrecognisedColumnsError(
            f"no column has the addresses: the header is '{_quoted(names)}', and one column must be called address, "
            "email, EmailAddress, Email Address, recipient or to"
        )
    found = _known(at, address, len(names))
    every = reason or found.every or (None if found.reason is not None else reason_in_name(file_name))
    if every is None and found.reason is None:
        raise UnrecognisedColumnsError(
            f"nothing says why the addresses are suppressed: the header is '{_quoted(names)}', without a reason, and the "
            "name of the file does not say it; give --reason"
        )
    return _with_reason(found, every)


def recognise_row(
    cells: Sequence[str], *, reason: Reason | None = None, file_name: str = ""
) -> Columns | None:
    """The columns of a CSV file without a header, as SES takes it: an address, and perhaps its reason.

    Args:
        cells: of the first row.
        reason: of every row, whatever the file says.
        file_name: may say what is in the file.

    Returns:
        None if this row is a header.

    Raises:
        UnrecognisedColumnsError: nothing says why the addresses are suppressed.
    """
    if not cells or "@" not in cells[0]:
        return None
    every = reason
    if every is None and len(cells) > 1:
        try:
            reason_of(cells[1])
        except UnknownReasonError:
            pass
        else:
            return Columns("ses", len(cells), 0, reason=1)
    every = every or reason_in_name(file_name)
    if every is None:
        raise UnrecognisedColumnsError(
            "line 1: there is no header, and nothing says why the addresses are suppressed; give --reason"
        )
    return Columns("other", len(cells), 0, every=every)


def _known(at: Mapping[str, int], address: int, width: int) -> Columns:
    if at.keys() >= _OWN:
        names = (*exporting.COLUMNS, exporting.EVIDENCE)
        own = tuple(at.get(_plain(name)) for name in names)
        return Columns("bridge", width, at["address"], at["reason"], own=own)
    for export in _EXPORTS:
        if at.keys() >= export.all_of and (not export.one_of or at.keys() & export.one_of):
            return Columns(
                export.source,
                width,
                at[export.address],
                at.get(export.reason),
                every=export.every,
                time=_first(at, export.times),
                expires=_first(at, _ENDS),
                origin=at.get(export.origin),
                status=at.get(export.status),
            )
    return Columns(
        "other", width, address, at.get("reason"), time=_first(at, _TIMES), expires=_first(at, _ENDS)
    )


def _with_reason(found: Columns, every: Reason | None) -> Columns:
    if every is None:
        return found
    return Columns(
        found.source, found.width, found.address, every=every, time=found.time, expires=found.expires,
        status=found.status, own=found.own,
    )  # fmt: skip


def _first(at: Mapping[str, int], names: Sequence[str]) -> int | None:
    return next((at[name] for name in names if name in at), None)


def _plain(name: str) -> str:
    return _NO_SIGN.sub("", name.lower())


def _quoted(names: Sequence[str]) -> str:
    text = ",".join(names)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
