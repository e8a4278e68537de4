"""The subscribers of the registry, for a worker: what is registered now, and what must not stand after a removal."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from bridge.amqp.errors import TopologyRefusedError
from bridge.broker import subscriber_queues
from bridge.settings.subscribers import conflict
from bridge.suppression.errors import StoreError
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aio_pika.abc import AbstractConnection

    from bridge.settings.subscribers import Subscriber
    from bridge.suppression.subscriber_registry import SubscriberRegistry

log = logs.logger("roles")

_ANSWER_SECONDS: Final = 3.0
"""How long the topology waits for the database: then it is declared with what was known before."""


class RegisteredSubscribers:
    """What a worker knows of the registry. While the database does not answer, that is what it knew before."""

    def __init__(
        self, registry: SubscriberRegistry, *, prefix: str, of_settings: Sequence[Subscriber]
    ) -> None:
        """Args: the registry; `rabbitmq.prefix`; the subscribers of the settings, which win over those registered."""
        self._registry = registry
        self._prefix = prefix
        self._of_settings = of_settings
        self._known: tuple[Subscriber, ...] = ()
        self._said: dict[str, str] = {}
        self._is_unknown = False

    async def read(self) -> tuple[Subscriber, ...]:
        """Those that are in force now, and can stand beside those of the settings."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                found = await self._registry.current()
        except (StoreError, TimeoutError) as error:
            if not self._is_unknown:
                log.warning(
                    "the registry of subscribers cannot be read: their queues are declared as they were known before",
                    action="subscribers.unknown",
                    reason=str(error) or f"no answer in {_ANSWER_SECONDS:g} s",
                    known=[one.queue for one in self._known],
                )
            self._is_unknown = True
            return self._known
        if self._is_unknown:
            log.info("the registry of subscribers can be read again", action="subscribers.known")
        self._is_unknown = False
        self._known = self._without_conflicts(found)
        return self._known

    async def with_those_of_settings(self) -> tuple[Subscriber, ...]:
        """All subscribers that there are now."""
        return (*self._of_settings, *await self.read())

    async def clean_up(self, connection: AbstractConnection, declared: Sequence[Subscriber]) -> None:
        """Delete what was just declared for a subscriber that was removed in the same moment, unless somebody uses it.

        Raises:
            BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost.
        """
        if not declared:
            return
        now = await self.read()
        if self._is_unknown:
            return
        for subscriber in declared:
            if all(one.queue != subscriber.queue for one in now):
                await self._delete_unused(connection, subscriber)

    async def _delete_unused(self, connection: AbstractConnection, subscriber: Subscriber) -> None:
        for found in await subscriber_queues.standing(connection, self._prefix, subscriber):
            reason = f"it has {found.messages} messages and {found.consumers} consumers"
            if not (found.messages or found.consumers):
                try:
                    await subscriber_queues.delete(connection, found.queue)
                except TopologyRefusedError as refused:
                    reason = str(refused)
                else:
                    continue
            log.warning(
                "a queue is left whose subscriber was just removed; delete it by hand",
                action="subscribers.left_behind",
                queue=found.queue,
                reason=reason,
            )

    def _without_conflicts(self, found: Sequence[Subscriber]) -> tuple[Subscriber, ...]:
        before, self._said = self._said, {}
        standing = []
        for one in found:
            reason = conflict(one, self._of_settings)
            if reason is None:
                standing.append(one)
                continue
            self._said[one.queue] = reason
            if before.get(one.queue) != reason:
                log.warning(
                    "the settings and the registry have the same subscriber: the settings are in force",
                    action="subscribers.named_twice",
                    queue=one.queue,
                    reason=reason,
                )
        return tuple(standing)
