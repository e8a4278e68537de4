"""Looks up, while RabbitMQ does not confirm events, which queue cannot be written, and says in the log what that costs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from bridge.broker.management import ManagementError
from bridge.broker.unconfirming_queues import bound_to, unconfirming
from bridge.telemetry import logs

if TYPE_CHECKING:
    from bridge.broker.management import ManagementApi
    from bridge.broker.unconfirming_queues import UnconfirmingQueue
    from bridge.spool.unconfirmed import Unconfirmed

log = logs.logger("receiver")

_LOOK_AGAIN_SECONDS: Final = 60.0
"""While no confirms come, it is looked up and logged again after this time."""
_LOOKS: Final = 4
_STATISTICS_SECONDS: Final = 5.0
"""How often RabbitMQ counts the members of a queue. Of one whose process crashes at each start it counts one for moments."""
_CANNOT_BE_WRITTEN: Final = (
    "a queue cannot be written, and no event for it is confirmed: each is answered `spooled` and stays in the spool; start the nodes "
    "that have it; an archive that cannot be read after a power cut has to be deleted, and is declared again by itself: "
    "`bridge doctor` says how (`queues that confirm`)"
)
_UNSEEN: Final = (
    "RabbitMQ is connected and confirms no events of these names, as where a bound queue cannot be written; which one cannot be seen from "
    "here: `bridge doctor` names it (`queues that confirm`), or see RabbitMQ's log"
)


class ConfirmCauses:
    """Logs why confirms do not come: when a probe was not confirmed, and then each minute while that is so."""

    def __init__(self, unconfirmed: Unconfirmed, management: ManagementApi, *, exchange: str) -> None:
        """Make one that does nothing until `run`.

        Args:
            unconfirmed: the event names of which RabbitMQ confirms nothing.
            management: RabbitMQ's management API; it need not answer.
            exchange: of the events.
        """
        self._unconfirmed = unconfirmed
        self._management = management
        self._exchange = exchange

    async def run(self) -> None:
        """Look and log until cancelled."""
        while True:
            self._unconfirmed.probe_lost.clear()
            await self._unconfirmed.probe_lost.wait()
            await self._log_causes()
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    async def _log_causes(self) -> None:
        names = self._unconfirmed.held_names
        reason = "RabbitMQ says of every bound queue that it can be written"
        try:
            found = await self._unconfirming(names)
        except ManagementError as blind:
            found, reason = [], str(blind)
        if not found:
            log.error(_UNSEEN, action="receiver.unconfirmed_cause_unseen", names=names, reason=reason)
        for queue in found:
            log.error(
                _CANNOT_BE_WRITTEN,
                action="receiver.queue_unconfirmed",
                seen=str(queue),
                queue=queue.name,
                names=names,
            )

    async def _unconfirming(self, names: list[str]) -> list[UnconfirmingQueue]:
        for looks_left in reversed(range(_LOOKS)):
            bound = await bound_to(self._management, self._exchange, names)
            if found := unconfirming(bound, uncounted=True):
                return found
            if looks_left:
                await asyncio.sleep(_STATISTICS_SECONDS)
        return []
