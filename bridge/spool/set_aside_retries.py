"""Retries the set-aside entries of a spool file: one of each kind at first, and more when it is confirmed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bridge.amqp.publish_batch import publish_all
from bridge.amqp.publish_errors import ChannelClosedError, NackedError
from bridge.spool.drain_publisher import CHUNK
from bridge.spool.entry_traces import entry_of
from bridge.spool.set_aside_entries import (
    NACKED,
    to_find_due_kinds,
    to_record_confirmed,
    to_record_refusal,
    to_retry_soon,
    to_take_due,
)
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bridge.spool.drain_publisher import DrainPublisher, EntrySource
    from bridge.spool.entries import SpoolEntry

log = logs.logger("spool")

_MAX_KINDS: Final = 20
"""Kinds in one round; those that are due the longest come first."""
_GROWTH: Final = 4
"""Factor by which the number grows after each success."""


class SetAsideRetries:
    """Publishes set-aside entries again."""

    def __init__(self, target: DrainPublisher) -> None:
        self._target = target

    async def retry(
        self,
        source: EntrySource,
        *,
        all_of_them: bool = False,
        own: bool = True,
        moved: Callable[[int], None] = lambda _: None,
    ) -> int:
        """Retry the set-aside entries that are due; returns how many were confirmed. Of each kind one is tried at first.

        Args:
            source: where the entries are.
            all_of_them: also those that are not due.
            own: whether to retry kinds soon that live traffic has shown to have recovered. Only one source may.
            moved: called with the number of confirmed entries, as they are confirmed.

        Raises:
            EveryPublishRefusedError: RabbitMQ refuses everything.
            PublishError: RabbitMQ does not confirm.
            SpoolError: the source cannot be read or written.
        """
        if own and (recovered := self._target.known_refusals.recovered()):
            await source.run_task(to_retry_soon(recovered))
        kinds = await source.run_task(to_find_due_kinds(_MAX_KINDS, all_of_them=all_of_them))
        if not kinds:
            return 0
        await self._target.ready()
        if any(reason == NACKED for _, reason in kinds):
            # On RabbitMQ 3.10 a channel can still be nacked after the cause is over (rabbitmq-server#12206).
            async with self._target.lock:
                await self._target.publisher.renew_channel()
        total = 0
        for kind, _ in kinds:
            total += await self._retry_kind(source, kind, all_of_them=all_of_them, moved=moved)
        return total

    async def _retry_kind(
        self, source: EntrySource, kind: str, *, all_of_them: bool, moved: Callable[[int], None]
    ) -> int:
        total, count = 0, 1
        while True:
            async with self._target.lock:
                rows = await source.run_task(to_take_due(kind, count, all_of_them=all_of_them))
                confirmed, succeeded = await self._try(source, kind, list(map(entry_of, rows)))
            total += confirmed
            moved(confirmed)
            if not succeeded:
                return total
            count = min(_GROWTH * count, CHUNK)

    async def _try(self, source: EntrySource, kind: str, entries: Sequence[SpoolEntry]) -> tuple[int, bool]:
        """How many of these were confirmed, and whether to continue with more of their kind."""
        if not entries:
            return 0, False
        messages = [self._target.compose(entry) for entry in entries]
        outcomes = await publish_all(self._target, messages, stop_at_full=True)
        confirmed = [entry for entry, outcome in zip(entries, outcomes, strict=False) if outcome is None]
        await source.remove(confirmed)
        for message, outcome in zip(messages, outcomes, strict=False):
            if isinstance(outcome, NackedError):
                self._target.known_refusals.note_nack(message, outcome)
        for failure in outcomes:
            if isinstance(failure, NackedError | ChannelClosedError):
                await self._refused_again(source, kind, failure)
                return len(confirmed), False
            if failure is not None:
                self._target.raise_failure(failure)
        for message in messages[: len(outcomes)]:
            self._target.known_refusals.note_accepted(message)
            self._target.on_recovered(message.routing_key)
        await source.run_task(to_record_confirmed(kind))
        return len(confirmed), True

    async def _refused_again(
        self, source: EntrySource, kind: str, failure: NackedError | ChannelClosedError
    ) -> None:
        reply_text = failure.text if isinstance(failure, ChannelClosedError) else str(failure)
        await source.run_task(to_record_refusal(kind, reply_text))
        log.info(
            "RabbitMQ still refuses an event", action="spool.refused_again", kind=kind, reply_text=reply_text
        )
        if isinstance(failure, ChannelClosedError):
            await self._target.handle_channel_closed(failure)
