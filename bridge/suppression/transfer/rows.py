"""What a row of a file says: an address, why it is suppressed, and since when."""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import TYPE_CHECKING, Final, NamedTuple

from bridge.suppression.address_keys import PLAIN, is_hash
from bridge.suppression.addresses import InvalidAddressError
from bridge.suppression.policy import Reason
from bridge.suppression.transfer import times
from bridge.suppression.transfer.reasons import UnknownReasonError, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bridge.suppression.transfer.columns import Columns

_MAX_COUNT: Final = 2**31
_SKEW_SECONDS: Final = 86_400
"""How far ahead of ours another system's clock may be. What lies further in the future is no time of an event."""
_OF_RECIPIENT: Final = "recipient"
"""Postmark's origin of a manual suppression by which the person has unsubscribed."""


class RejectedRowError(ValueError):
    """The row cannot be imported. The message says why."""


class ImportedRow(NamedTuple):
    """A row of a file. Times are Unix seconds."""

    address: str
    """Normalised; or a keyed hash, from a list that has only these."""
    reason: str
    original: str
    first_event_at: int
    last_event_at: int
    events: int = 1
    """How many there were, as far as the file knows."""
    message_id: str | None = None
    evidence: bytes | None = None
    created_at: int | None = None
    """When the entry was made, where the file is our own; None: now."""
    updated_at: int | None = None
    expires_at: int | None = None
    """None: it is there for good."""


def _for_good(_: Reason, __: int) -> None:
    return None


class RowReader:
    """Reads the rows of one file."""

    def __init__(
        self,
        columns: Columns,
        *,
        written_at: int,
        now: int,
        end_of: Callable[[Reason, int], int | None] = _for_good,
    ) -> None:
        """Make one for the rows of one file.

        Args:
            columns: what stands where.
            written_at: Unix seconds: when a row without a time is thought to have happened.
            now: Unix seconds; later times are refused.
            end_of: when a row ends that the file gives no end, by its reason and time; None: it does not.
        """
        self._columns = columns
        self._written_at = written_at
        self._latest = now + _SKEW_SECONDS
        self._end_of = end_of
        self.read: Callable[[Sequence[str]], ImportedRow] = self._own if columns.own else self._foreign
        """Read the cells of a row; raises `RejectedRowError`."""

    def _foreign(self, cells: Sequence[str]) -> ImportedRow:
        columns = self._columns
        cells = self._checked(cells)
        if columns.status is not None and (status := cells[columns.status].strip().lower()) not in {
            "",
            "active",
        }:
            raise RejectedRowError(f"its status is '{status[:60]}', so that it is not suppressed any more")
        reason = self._reason(cells)
        at = self._time(cells, columns.time)
        at = self._written_at if at is None else at
        if at > self._latest:
            raise RejectedRowError(f"its time {times.as_text(at)} lies in the future")
        expires_at = self._time(cells, columns.expires)
        if expires_at is None:
            expires_at = self._end_of(reason, at)
        original = cells[columns.address]
        return ImportedRow(_key(original), reason.value, original.strip(), at, at, expires_at=expires_at)

    def _own(self, cells: Sequence[str]) -> ImportedRow:
        cells = self._checked(cells)
        # In the order of `exporting.COLUMNS`.
        _, _, original, first, last, count, message_id, created, updated, expires, evidence = (
            self._columns.own
        )
        first_at, last_at = self._time(cells, first), self._time(cells, last)
        if first_at is None or last_at is None or first_at > last_at:
            raise RejectedRowError("first_event_at and last_event_at must be times in this order")
        key = _key(cells[self._columns.address])
        return ImportedRow(
            key,
            self._reason(cells).value,
            _spelling(cells[original], key) if original is not None else key,
            first_at,
            last_at,
            _count(cells[count]) if count is not None else 1,
            (cells[message_id] or None) if message_id is not None else None,
            _evidence(cells[evidence]) if evidence is not None else None,
            self._time(cells, created),
            self._time(cells, updated),
            self._time(cells, expires),
        )

    def _checked(self, cells: Sequence[str]) -> Sequence[str]:
        """As many cells as there are columns. Spreadsheets leave empty ones out at the end."""
        missing = self._columns.width - len(cells)
        if missing < 0:
            raise RejectedRowError(f"it has {len(cells)} cells, and the header has {self._columns.width}")
        return [*cells, *[""] * missing] if missing else cells

    def _reason(self, cells: Sequence[str]) -> Reason:
        columns = self._columns
        if columns.every is not None:
            return columns.every
        try:
            reason = reason_of(cells[columns.reason or 0])
        except UnknownReasonError as error:
            raise RejectedRowError(str(error)) from None
        if reason is Reason.MANUAL and columns.origin is not None:
            return Reason.UNSUBSCRIBE if cells[columns.origin].strip().lower() == _OF_RECIPIENT else reason
        return reason

    @staticmethod
    def _time(cells: Sequence[str], place: int | None) -> int | None:
        if place is None or not cells[place]:
            return None
        try:
            return times.parse(cells[place])
        except times.InvalidTimeError as error:
            raise RejectedRowError(str(error)) from None


def _key(original: str) -> str:
    try:
        return PLAIN.written(original)
    except InvalidAddressError as error:
        raise RejectedRowError(str(error)) from None


def _spelling(original: str, key: str) -> str:
    """Beside a hash there is none."""
    return "" if is_hash(key) else original or key


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text[:20]) < _MAX_COUNT:
        raise RejectedRowError(f"'{text[:60]}' is no count")
    return int(text)


def _evidence(text: str) -> bytes | None:
    if not text:
        return None
    try:
        return b64decode(text, validate=True)
    except binascii.Error:
        raise RejectedRowError("its evidence is not Base64") from None
