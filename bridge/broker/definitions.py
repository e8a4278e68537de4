"""The topology in the format of RabbitMQ's definition files: https://www.rabbitmq.com/docs/definitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bridge.broker.topology import Topology


def definitions_of(planned: Topology, virtual_host: str) -> dict[str, Any]:
    """Exchanges, queues and bindings, for a virtual host that exists."""
    return {
        "exchanges": [
            {
                "name": exchange.name,
                "vhost": virtual_host,
                "type": exchange.kind,
                "durable": True,
                "auto_delete": False,
                "internal": False,
                "arguments": dict(exchange.arguments),
            }
            for exchange in planned.exchanges
        ],
        "queues": [
            {
                "name": queue.name,
                "vhost": virtual_host,
                "durable": True,
                "auto_delete": False,
                "arguments": dict(queue.arguments),
            }
            for queue in planned.queues
        ],
        "bindings": [
            {
                "source": binding.exchange,
                "vhost": virtual_host,
                "destination": binding.queue,
                "destination_type": "queue",
                "routing_key": binding.key,
                "arguments": {},
            }
            for binding in planned.bindings
        ],
    }
