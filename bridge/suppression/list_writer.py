"""What changes the list: events, and people's additions and removals. Each is one transaction, with its lines in the log."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from bridge.suppression import additions, current_state, idempotency, key_moves, reading, recording, writing
from bridge.suppression.change_log import NO_TRACES
from bridge.suppression.database import shielded
from bridge.suppression.errors import NotSuppressedError, ProtectedComplaintError
from bridge.suppression.list_part import ListPart
from bridge.suppression.policy import Reason
from bridge.suppression.suppressing_events import RecordedEvent, SuppressingEvent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bridge.suppression.additions import Addition, AdditionResult
    from bridge.suppression.entries import Entry
    from bridge.suppression.idempotency import IdempotentRequest
    from bridge.suppression.policy import Policy
    from bridge.suppression.suppressing_events import Delivered, ListEvent

NO_ADDRESSES: Final[Mapping[str, str]] = MappingProxyType({})


class ListWriter(ListPart):
    """The changes of the list."""

    _policy: Policy
    """For how long events suppress."""

    @shielded
    async def record(
        self,
        events: Sequence[ListEvent],
        *,
        actor: str,
        addresses: Mapping[str, str] = NO_ADDRESSES,
        traces: Mapping[str, str] = NO_TRACES,
    ) -> list[RecordedEvent]:
        """Record events and deliveries in one transaction. Returns a result for each, in the same order.

        An event id counts once, even if it comes often or several workers record it.

        Args:
            events: what happened.
            actor: who makes the changes, for the change log.
            addresses: message id -> address, to `remember` in the same transaction.
            traces: event id -> trace context, to be kept with the changes until they are published.

        Raises:
            InvalidAddressError: one of the addresses is invalid; nothing was changed.
            RefusedValueError: the database refuses one of the events; nothing was changed.
        """
        causes: dict[str, writing.Cause] = {}
        deliveries: dict[str, Delivered] = {}
        for event in events:
            if isinstance(event, SuppressingEvent):
                causes.setdefault(event.event_id, self._cause(event))
            else:
                key = self._keys.written(event.address)
                deliveries[key] = max(deliveries.get(key, event), event, key=_time_of)
        if not events:
            return []
        now = self._now()
        async with self._database.write() as connection:
            placed = await key_moves.placed(connection, self._keys, list(causes.values()))
            delivered = await key_moves.placed_deliveries(connection, self._keys, deliveries)
            messages = await key_moves.placed_messages(connection, self._keys, addresses)
            await writing.upsert_addresses(connection, messages, now)
            outcomes = await recording.record(
                connection,
                dict(zip(causes, placed, strict=True)),
                delivered,
                rule=self._policy.soft_bounces,
                actor=actor,
                now=now,
                traces=traces,
            )
        # Of several with one event id the first takes the outcome; the others are repeats.
        return [
            RecordedEvent(event, outcomes.pop(event.event_id, "repeated"))
            if isinstance(event, SuppressingEvent)
            else RecordedEvent(event, "counted")
            for event in events
        ]

    @shielded
    async def remember(self, addresses: Mapping[str, str]) -> None:
        """Store the addresses of messages. A known id gets the new address."""
        if not addresses:
            return
        async with self._database.write() as connection:
            messages = await key_moves.placed_messages(connection, self._keys, addresses)
            await writing.upsert_addresses(connection, messages, self._now())

    @shielded
    async def add(
        self,
        address: str,
        *,
        reason: Reason = Reason.MANUAL,
        actor: str,
        note: str,
        expires_at: int | None = None,
    ) -> Entry:
        """Add an address manually. An existing entry counts one more.

        Args:
            address: in any spelling; the list normalises it.
            reason: an address has one entry for each reason.
            actor: who adds it, for the change log.
            note: why, for the change log.
            expires_at: Unix seconds; None: never. An existing entry never expires earlier than before.

        Raises:
            InvalidAddressError: it is no address.
        """
        now = self._now()
        cause = writing.Cause(
            self._keys.written(address), address, reason, at=now, note=note, expires_at=expires_at
        )
        async with self._database.write() as connection:
            (cause,) = await key_moves.placed(connection, self._keys, [cause])
            await writing.upsert_entries(connection, [cause], actor=actor, now=now)
            return await reading.read_entry(connection, cause.key)

    @shielded
    async def add_many(
        self, wanted: Sequence[Addition], *, actor: str, idempotency_key: IdempotentRequest | None = None
    ) -> list[AdditionResult]:
        """Add many addresses manually, as `add`, in one transaction. Returns a result for each, in the same order.

        One that is no address gets a result with an error; the others are added.

        Args:
            wanted: the addresses.
            actor: who adds them, for the change log.
            idempotency_key: where the same request was made within `idempotency.KEPT_SECONDS`, nothing is changed, and
                the results are those of that time.

        Raises:
            IdempotencyConflictError: another request was made with the same key; nothing was changed.
            RefusedValueError: the database refuses one of the values; nothing was changed.
        """
        now = self._now()
        causes, results = additions.causes_of(wanted, self._keys, now)
        async with self._database.write() as connection:
            if idempotency_key is not None:
                answer = await idempotency.begin(connection, idempotency_key, now)
                if answer is not None:
                    return additions.results_of(answer)
            placed = await key_moves.placed(connection, self._keys, causes)
            done = await writing.upsert_entries(connection, placed, actor=actor, now=now)
            results = additions.completed(results, placed, done)
            if idempotency_key is not None:
                await idempotency.finish(connection, idempotency_key, additions.answer_of(results))
        return results

    @shielded
    async def remove(
        self,
        address: str,
        *,
        reason: Reason | None,
        actor: str,
        note: str,
        override: bool = False,
        dry_run: bool = False,
    ) -> list[Entry]:
        """Remove an address manually: its entry of that reason, or all. Returns the removed entries. A dry run only checks.

        Events that happened until now do not put it back for that reason, however late they come; where all is
        removed, for any reason: of complaints only with the override, the actor and the note.

        Args:
            address: in any spelling.
            reason: only its entry of this reason; None: all its entries.
            actor: who removes it, for the change log.
            note: why, for the change log.
            override: remove a complaint, too.
            dry_run: change nothing.

        Raises:
            InvalidAddressError: it is not an address.
            NotSuppressedError: there is no such entry.
            ProtectedComplaintError: one is a complaint, and the override, the actor or the note is missing;
                nothing was removed.
        """
        keys = self._keys.looked_up(address)
        may_lift_complaints = override and bool(actor.strip()) and bool(note.strip())
        async with self._database.write() as connection:
            await current_state.exclude_writers(connection)
            if not dry_run:
                keys = ((await key_moves.places(connection, self._keys, [address]))[address].key,)
            entries = await reading.read_entries(connection, keys, reason=reason)
            if not entries:
                raise NotSuppressedError(
                    f"{address} is not on the list" + (f" for the reason {reason}" if reason else "")
                )
            if not may_lift_complaints and any(entry.reason is Reason.COMPLAINT for entry in entries):
                raise ProtectedComplaintError(
                    f"{address} has complained: to write to it again needs an override, and a note and a name for "
                    "the log"
                )
            if dry_run:
                return entries
            reasons = set(Reason) if reason is None else {reason}
            if not may_lift_complaints:
                reasons.discard(Reason.COMPLAINT)
            await writing.delete_entries(
                connection, entries, keys=keys, reasons=reasons, actor=actor, note=note, now=self._now()
            )
        return entries

    def _cause(self, event: SuppressingEvent) -> writing.Cause:
        return writing.Cause(
            address=self._keys.written(event.address),
            original=event.address,
            reason=event.reason,
            at=event.event_at,
            event_id=event.event_id,
            message_id=event.message_id,
            evidence=event.evidence,
            expires_at=self._policy.expires_at(event.reason, event.event_at),
        )


def _time_of(delivered: Delivered) -> tuple[int, str]:
    return delivered.event_at, delivered.event_id
