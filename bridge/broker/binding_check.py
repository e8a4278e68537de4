"""Finds planned bindings that are missing. AMQP cannot list bindings, so it needs the management API."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from bridge.broker.management import ManagementError, find_missing_bindings
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bridge.broker.management import ManagementApi
    from bridge.broker.topology import Binding

log = logs.logger("broker")

_API_RETRY_SECONDS: Final = 600.0
"""Pause after the API did not answer, or refused this user: RabbitMQ logs each refusal."""


class MissingBindings:
    """Looks for planned bindings that are missing."""

    def __init__(self, management: ManagementApi, bindings: Sequence[Binding]) -> None:
        """Create a check.

        Args:
            management: the API; it need not answer.
            bindings: the planned ones.
        """
        self._management = management
        self._bindings = tuple(bindings)
        self._retry_at = 0.0

    async def keys(self) -> list[str]:
        """The routing keys of missing bindings; empty if the API cannot tell."""
        if time.monotonic() < self._retry_at:
            return []
        try:
            return [binding.key for binding in await find_missing_bindings(self._management, self._bindings)]
        except ManagementError as error:
            self._retry_at = time.monotonic() + _API_RETRY_SECONDS
            log.info(
                "the management API cannot tell whether bindings are missing; they are declared again anyway",
                action="topology.bindings_unknown",
                reason=str(error),
            )
            return []
