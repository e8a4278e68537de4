"""A message as the bridge publishes it, and as a consumer's client hands it over."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import orjson

from bridge.amqp.properties import decode_properties

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aio_pika.abc import AbstractIncomingMessage

    from bridge.amqp.message_types import Message
    from bridge.amqp.properties import Properties
    from bridge.testing.pika_delivery import PikaDelivery


@dataclass(frozen=True)
class BridgeMessage:
    """A message, with its properties encoded as they are on the wire. They are decoded when they are asked for."""

    published: Message
    """As it is given to the publisher."""

    @property
    def exchange(self) -> str:
        """Where the bridge publishes it. Empty for dead letters, which go to a queue."""
        return self.published.exchange

    @property
    def routing_key(self) -> str:
        """The event's name, the change's action, `malformed`; or the queue, if `exchange` is empty."""
        return self.published.routing_key

    @property
    def message_id(self) -> str:
        """The id by which a consumer recognises a repeat: of an event 32 hexadecimal digits, of a change `change-7`."""
        return self.published.message_id

    @property
    def body(self) -> bytes:
        return self.published.body

    @property
    def properties(self) -> Mapping[str, Any]:
        """By the names of AMQP 0-9-1 as pamqp spells them, without the headers: `type` is `message_type`."""
        return self._decoded.values

    @cached_property
    def headers(self) -> Mapping[str, Any]:
        """The headers, with the values that aio-pika gives."""
        return self._decoded.headers

    @property
    def type(self) -> str:
        """The property `type`: the event's name, the change's action, or `malformed`."""
        return str(self.properties["message_type"])

    def json(self) -> Any:
        """The body, parsed.

        Raises:
            ValueError: it is not JSON, as some bodies in the quarantine.
        """
        return orjson.loads(self.body)

    def to_aio_pika(self, *, redelivered: bool = False) -> AbstractIncomingMessage:
        """What aio-pika hands to a consumer's callback. Whatever it does with it is accepted: `Recorder` looks at it."""
        from bridge.testing import aio_pika_delivery  # noqa: PLC0415 -- only who asks for it loads the client

        return aio_pika_delivery.incoming(self, redelivered=redelivered)

    def to_pika(self, *, redelivered: bool = False) -> PikaDelivery:
        """What pika hands to a consumer's callback: `callback(*message.to_pika())`.

        Raises:
            ModuleNotFoundError: pika is not installed.
        """
        from bridge.testing import pika_delivery  # noqa: PLC0415 -- as above

        return pika_delivery.incoming(self, redelivered=redelivered)

    @cached_property
    def _decoded(self) -> Properties:
        return decode_properties(self.published.properties)

    def __repr__(self) -> str:
        place = f"{self.exchange}/{self.routing_key}" if self.exchange else self.routing_key
        return f"<{place} {self.message_id} {self.body.decode(errors='replace')[:120]}>"
