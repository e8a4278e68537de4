"""The headers in which a message carries its failed attempts, and why it became a dead letter."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bridge.broker import header_values
from bridge.timestamps import unix_ms_now

if TYPE_CHECKING:
    from collections.abc import Mapping

RETRY_ATTEMPT_HEADER: Final = "retry-attempt"
"""How many attempts have failed, an integer. On a dead letter: all attempts."""
RETRY_FIRST_FAILURE_HEADER: Final = "retry-first-failure"
"""When the first attempt failed, Unix milliseconds."""
RETRY_ERROR_HEADER: Final = "retry-error"
"""One line for people: the error of the last attempt."""
RETRY_WHERE_HEADER: Final = "retry-where"
"""Where the last attempt failed: `parse`, `provider` or `database`, then `@` and the worker's host name."""

RETRY_REASON_HEADER: Final = "retry-reason"
"""A keyword for the last failure, for example `unknown-message`."""
RETRY_SAME_SINCE_HEADER: Final = "retry-same-since"
"""Since when every failure had this reason, Unix milliseconds."""

RETRY_HEADERS: Final = (
    RETRY_ATTEMPT_HEADER, RETRY_FIRST_FAILURE_HEADER, RETRY_ERROR_HEADER, RETRY_WHERE_HEADER, RETRY_REASON_HEADER,
    RETRY_SAME_SINCE_HEADER,
)  # fmt: skip

DEAD_REASON_HEADER: Final = "dead-reason"
"""A keyword to filter by, for example `malformed` or `unknown-message`."""
DEAD_ERROR_HEADER: Final = "dead-error"
"""One line for people: what went wrong."""
DEAD_AT_HEADER: Final = "dead-at"
"""When it became a dead letter, Unix milliseconds."""

DEAD_LETTER_HEADERS: Final = (DEAD_REASON_HEADER, DEAD_ERROR_HEADER, DEAD_AT_HEADER)
"""A dead letter also has `RETRY_HEADERS`: attempts, first failure, and where the last attempt failed."""


@dataclass(frozen=True, slots=True)
class RetryHistory:
    """The failed attempts of a message, the last one included."""

    attempt: int
    """How many have failed."""
    first_failure: int
    """Unix milliseconds."""
    error: str
    where: str
    reason: str
    """A keyword for the last failure."""
    same_since: int
    """Since when every failure had this reason, Unix milliseconds."""

    def headers(self) -> dict[str, Any]:
        """The headers of a message with this history."""
        return {
            RETRY_ATTEMPT_HEADER: self.attempt,
            RETRY_FIRST_FAILURE_HEADER: self.first_failure,
            RETRY_ERROR_HEADER: self.error,
            RETRY_WHERE_HEADER: self.where,
            RETRY_REASON_HEADER: self.reason,
            RETRY_SAME_SINCE_HEADER: self.same_since,
        }

    @property
    def age(self) -> float:
        """Seconds since the first failure."""
        return max(0.0, unix_ms_now() / 1000 - self.first_failure / 1000)

    @property
    def reason_age(self) -> float:
        """Seconds since `same_since`."""
        return max(0.0, unix_ms_now() / 1000 - self.same_since / 1000)


def history_after_failure(headers: Mapping[str, Any], *, reason: str, error: str, where: str) -> RetryHistory:
    """The history of a message after another failure.

    A replayed dead letter starts a new history, and so does a message whose history cannot be read. A first failure in
    the future counts as now; otherwise the message would be retried for ever.

    Args:
        headers: of the delivered message.
        reason: a keyword.
        error: one line for people.
        where: `parse`, `provider` or `database`.
    """
    replayed = DEAD_AT_HEADER in headers
    failed_before = 0 if replayed else header_values.attempts(headers.get(RETRY_ATTEMPT_HEADER)) or 0
    first = None if replayed else header_values.unix_ms(headers.get(RETRY_FIRST_FAILURE_HEADER))
    now = unix_ms_now()
    first_failure = now if first is None else min(first, now)
    last_reason = header_values.text(headers.get(RETRY_REASON_HEADER))
    same_since = now
    # Without the header, of earlier releases, every failure had this reason.
    if first is not None and last_reason in {reason, ""}:
        since = header_values.unix_ms(headers.get(RETRY_SAME_SINCE_HEADER)) if last_reason else first_failure
        same_since = now if since is None else max(first_failure, min(since, now))
    return RetryHistory(
        attempt=min(failed_before + 1, header_values.MAX_ATTEMPTS),
        first_failure=first_failure,
        reason=reason,
        same_since=same_since,
        error=header_values.one_line(error),
        where=f"{where}@{socket.gethostname()}",
    )
