"""Whether a queue has lost bindings: AMQP cannot be asked, the management API can, where there is one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from bridge.broker.management import ManagementError, not_bound
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bridge.broker.management import Management
    from bridge.broker.topology import Binding

log = logs.logger("topology")

_BLIND_SECONDS: Final = 600.0
"""So long an API that does not answer, or not this user, is left alone: RabbitMQ logs each refusal."""


class LostBindings:
    """Looks for bindings that are planned and not there."""

    def __init__(self, management: Management, bindings: Sequence[Binding]) -> None:
        """Make one.

        Args:
            management: the API, whether it answers or not.
            bindings: those that shall be there.
        """
        self._management = management
        self._bindings = tuple(bindings)
        self._blind_until = 0.0

    async def keys(self) -> list[str]:
        """The routing keys of those that are gone; none where that cannot be seen."""
        if time.monotonic() < self._blind_until:
            return []
        try:
            return [binding.key for binding in await not_bound(self._management, self._bindings)]
        except ManagementError as blind:
            self._blind_until = time.monotonic() + _BLIND_SECONDS
            log.info(
                "whether bindings were lost cannot be seen; they are made again all the same",
                action="topology.bindings_unseen",
                reason=str(blind),
            )
            return []
