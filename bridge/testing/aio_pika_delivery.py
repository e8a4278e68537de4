"""Hands a message over as aio-pika does: its own `IncomingMessage`, on a channel that only keeps what it is told."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from aio_pika import IncomingMessage
from aiormq.abc import DeliveredMessage
from pamqp import commands as spec
from pamqp.header import ContentHeader

from bridge.testing.settlements import CONSUMER_TAG, DELIVERY_COUNT_HEADER, Settlements

if TYPE_CHECKING:
    from bridge.testing.message import BridgeMessage

_BASIC: Final = struct.Struct(">HxxQ")


class Channel:
    """What an `IncomingMessage` uses of an aiormq channel."""

    is_closed = False
    number = 1

    def __init__(self, settlements: Settlements) -> None:
        self._settlements = settlements

    @property
    def connection(self) -> Channel:
        """aio-pika asks it whether the server knows `basic.nack`."""
        return self

    async def basic_ack(self, delivery_tag: int, multiple: bool = False, **_: Any) -> None:  # noqa: FBT001, FBT002 -- aiormq's
        self._settlements.settle(delivery_tag, "acknowledged", multiple=multiple)

    async def basic_nack(
        self,
        delivery_tag: int,
        multiple: bool = False,  # noqa: FBT001, FBT002 -- aiormq's
        requeue: bool = True,  # noqa: FBT001, FBT002 -- as aio-pika has it
        **_: Any,
    ) -> None:
        self._settlements.settle(delivery_tag, "requeued" if requeue else "rejected", multiple=multiple)

    async def basic_reject(self, delivery_tag: int, *, requeue: bool = True, **_: Any) -> None:
        self._settlements.settle(delivery_tag, "requeued" if requeue else "rejected")


def incoming(
    message: BridgeMessage,
    *,
    redelivered: bool = False,
    tag: int = 1,
    returns: int = 0,
    settlements: Settlements | None = None,
) -> IncomingMessage:
    """The message as a consumer's callback gets it.

    Args:
        message: to hand over.
        redelivered: the flag of the delivery.
        tag: the delivery tag.
        returns: how often the queue has taken it back.
        settlements: told what the consumer says of it.
    """
    if settlements is None:
        settlements = Settlements()
        settlements.delivered(tag, lambda _: None)
    header = ContentHeader()
    header.unmarshal(_BASIC.pack(spec.Basic.frame_id, len(message.body)) + message.published.properties)
    if returns:
        header.properties.headers = {**(header.properties.headers or {}), DELIVERY_COUNT_HEADER: returns}
    return IncomingMessage(
        DeliveredMessage(
            delivery=spec.Basic.Deliver(
                consumer_tag=CONSUMER_TAG,
                delivery_tag=tag,
                redelivered=redelivered,
                exchange=message.exchange,
                routing_key=message.routing_key,
            ),
            header=header,
            body=message.body,
            channel=Channel(settlements),  # type: ignore[arg-type]  # it has all that is used of one
        )
    )
