"""The worker one would write first: one message at a time, each in a transaction and an acknowledgement of its own.

It has the bridge's own list, with the same tables and the same durability, and nothing to look up at the provider.
"""

from __future__ import annotations

import os

import aio_pika
import uvloop

from bridge import events
from bridge.suppression.policy import Policy
from bridge.suppression.store import Store
from bridge.suppression.suppressing_events import SuppressingEvent

PREFETCH = 100


async def main(amqp_url: str, queue_name: str, database_url: str) -> None:
    """Consume until killed."""
    policy = Policy()
    async with Store.open(database_url) as store, await aio_pika.connect_robust(amqp_url) as connection:
        channel = await connection.channel(publisher_confirms=False)
        await channel.set_qos(prefetch_count=PREFETCH)
        queue = await channel.get_queue(queue_name)
        async with queue.iterator() as messages:
            async for message in messages:
                async with message.process(requeue=True):
                    event = events.parse(message.body)
                    reason = policy.reason_for(event.name)
                    if reason is None:
                        continue
                    known = await store.known_addresses([event.message_id])
                    suppressing_event = SuppressingEvent(
                        address=known[event.message_id],
                        reason=reason,
                        event_id=event.id,
                        event_at=event.timestamp,
                        message_id=event.message_id,
                        evidence=message.body,
                    )
                    await store.record([suppressing_event], actor="worker")


if __name__ == "__main__":
    uvloop.run(main(os.environ["AMQP_URL"], os.environ["QUEUE"], os.environ["DATABASE_URL"]))
