"""Looks up, while RabbitMQ nacks events, which queue rejects them, and says in the log what that costs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from bridge.broker.management import ManagementError
from bridge.broker.rejecting_queues import rejecting_queues_of
from bridge.telemetry import logs

if TYPE_CHECKING:
    from bridge.broker.management import ManagementApi
    from bridge.broker.rejecting_queues import RejectingQueue
    from bridge.spool.known_refusals import KnownRefusals

log = logs.logger("receiver")

_LOOK_AGAIN_SECONDS: Final = 60.0
"""While nacks go on, it is looked up and logged again after this time."""
_LOOKS: Final = 4
_STATISTICS_SECONDS: Final = 5.0
"""How often RabbitMQ counts what is in a queue (`collect_statistics_interval`); a new policy it shows after twice that."""
_REJECTS: Final = (
    "a queue rejects events, and it costs everybody: each event for it is nacked, answered `spooled`, and published again after "
    "growing pauses, with a copy to every other queue each time; consume or empty it, or let it drop its oldest messages "
    "(overflow: drop-head)"
)
_UNSEEN: Final = (
    "RabbitMQ nacks events, as it does where a queue is full and rejects; which one cannot be seen from here: `bridge doctor` "
    "names the queue and the policy (`queues that refuse`)"
)
_NONE: Final = "RabbitMQ nacks events, and no queue that is bound to them rejects now: see RabbitMQ's log"


class NackCauses:
    """Logs the causes of nacks: at the first nack, and then each minute while there are more."""

    def __init__(self, known_refusals: KnownRefusals, management: ManagementApi, *, exchange: str) -> None:
        """Make one that does nothing until `run`.

        Args:
            known_refusals: which routing keys were nacked.
            management: RabbitMQ's management API; it need not answer.
            exchange: of the events.
        """
        self._known_refusals = known_refusals
        self._management = management
        self._exchange = exchange

    async def run(self) -> None:
        """Look and log until cancelled."""
        while True:
            self._known_refusals.nack_noted.clear()
            await self._known_refusals.nack_noted.wait()
            await self._log_causes()
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    async def _log_causes(self) -> None:
        nacked = sorted(self._known_refusals.nacked)
        try:
            found = await self._rejecting()
        except ManagementError as blind:
            log.warning(
                _UNSEEN,
                action="receiver.nack_cause_unseen",
                routing_keys=nacked,
                reason=str(blind),
            )
            return
        if not found:
            log.warning(
                _NONE,
                action="receiver.nack_cause_unseen",
                routing_keys=nacked,
                reason="no bound queue has `overflow: reject-publish` and a limit",
            )
        for queue in found:
            log.warning(
                _REJECTS,
                action="receiver.queue_rejects",
                seen=str(queue),
                queue=queue.name,
                set_by=queue.set_by,
                routing_keys=nacked,
            )

    async def _rejecting(self) -> list[RejectingQueue]:
        """The full queues that reject; if after a while none is seen to be full, all that reject when they are."""
        for looks_left in reversed(range(_LOOKS)):
            found = await rejecting_queues_of(self._management, self._exchange)
            if full := [queue for queue in found if queue.is_full]:
                return full
            if looks_left:
                await asyncio.sleep(_STATISTICS_SECONDS)
        return found
