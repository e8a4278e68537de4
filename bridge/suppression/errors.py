"""What can go wrong with the suppression list, without the libraries of a database."""

from __future__ import annotations

from typing import Final

SETTING: Final = "suppression.database_url (BRIDGE_SUPPRESSION__DATABASE_URL)"
"""How error messages name the setting."""


class StoreError(Exception):
    """An operation on the suppression list has failed. The message is one line that says why."""


class StoreUnavailableError(StoreError):
    """The database is not available now: it is locked or full, or the connection is lost. Try again later."""


class NoListError(StoreError):
    """There is no suppression list in the database yet."""


class RefusedValueError(StoreError):
    """The database refuses one of the values. Nothing was changed."""


class ProtectedComplaintError(StoreError):
    """A complaint can only be removed with an override, an actor and a note."""


class NoSuchRuleError(StoreError):
    """There is no such rule on the allow-list."""


class SubscriberConflictError(StoreError):
    """A subscriber cannot stand beside the others: one of its two queues is another one's."""


class NotSuppressedError(StoreError):
    """The address is not on the list, or not for that reason."""


class NoPrivacyKeyError(StoreError):
    """Without a privacy key nobody can be erased, nor addresses be hashed."""


class IdempotencyConflictError(StoreError):
    """Another request was made with the same idempotency key."""


class LogTooShortError(StoreError):
    """Of that time the change log has not everything any more."""
