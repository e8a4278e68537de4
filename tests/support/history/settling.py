"""Waits until a bridge has worked off what it accepted, so that the end of a history is its end."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from aio_pika.exceptions import AMQPError

from tests.support.history.list_reading import FAILURES
from tests.support.history.policy_model import DEFAULT_POLICY, Policy
from tests.support.history.records import canonical

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from tests.support.history.consuming import Consumer
    from tests.support.history.list_reading import ListReader
    from tests.support.history.mail import Mail

PATIENCE_SECONDS: Final = 90.0
_LOOK_EVERY_SECONDS: Final = 0.25
_QUIET_SECONDS: Final = 1.5
"""What was not answered may still be on its way when all that was has arrived."""


async def settle(
    accepted: Mapping[str, Mail],
    consumer: Consumer,
    reader: ListReader,
    *,
    waiting: Callable[[], Awaitable[Collection[str]]],
    policy: Policy = DEFAULT_POLICY,
    patience: float = PATIENCE_SECONDS,
) -> None:
    """Wait until all of it has arrived, counts on the list, and was published; then write down the list's end.

    If that is not so when the patience ends, the end is written down as it is: the checker says what is missing.

    Args:
        accepted: as `Poster.accepted_mails`.
        consumer: of the events, and of the changes.
        reader: of the list.
        waiting: what is still in queues and spools that must be empty by then.
        policy: which events suppress.
        patience: seconds, from the last change that has come.

    Raises:
        SQLAlchemyError: the list cannot be read.
    """
    ids = {event_id for event_id in accepted if not event_id.startswith("message ")}
    await consumer.has(ids, patience=patience)
    wanted = Counter(
        (mail.address, policy.reasons[canonical(mail.name)])
        for mail in accepted.values()
        if mail.address is not None and canonical(mail.name) in policy.reasons
    )
    known: set[int] | None = None
    heard, quiet_since = 0, time.monotonic()
    deadline = quiet_since + patience
    while time.monotonic() < deadline:
        if len(consumer.change_ids) > heard:
            heard, deadline = len(consumer.change_ids), time.monotonic() + patience
        ids_now = await _log_if_worked_off(wanted, consumer, reader, waiting)
        if ids_now is None or ids_now != known:
            known, quiet_since = ids_now, time.monotonic()
        elif time.monotonic() - quiet_since > _QUIET_SECONDS:
            break
        await asyncio.sleep(_LOOK_EVERY_SECONDS)
    await reader.finish()


async def _log_if_worked_off(
    wanted: Mapping[tuple[str, str], int],
    consumer: Consumer,
    reader: ListReader,
    waiting: Callable[[], Awaitable[Collection[str]]],
) -> set[int] | None:
    """The log of changes; None while something is still to be done, or the list cannot be read."""
    try:
        if await waiting():
            return None
        counts = await reader.counts()
        if any(counts.get(key, 0) < count for key, count in wanted.items()):
            return None
        log = await reader.change_ids()
        return log if log <= consumer.change_ids and not await reader.unpublished() else None
    except (*FAILURES, AMQPError):
        return None
