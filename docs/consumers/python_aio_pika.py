"""A consumer with aio-pika: each event has its effect once, whatever comes twice, fails or is killed."""

import asyncio
import json
import logging
import os
import signal
import sqlite3

import aio_pika

PREFETCH = 100
database = sqlite3.connect(os.environ.get("EFFECTS", "effects.sqlite3"))
database.execute("PRAGMA journal_mode = WAL")
database.execute("CREATE TABLE IF NOT EXISTS handled (id TEXT PRIMARY KEY)")
database.execute("CREATE TABLE IF NOT EXISTS effects (id TEXT, name TEXT, message TEXT)")


def handle(message: aio_pika.abc.AbstractIncomingMessage) -> None:
    """Your work. The event's id is stored in the same transaction, so a repeat changes nothing."""
    json.loads(message.body)
    event = tuple(message.headers[f"cloudEvents:{name}"] for name in ("id", "type", "subject"))
    with database:
        if database.execute("INSERT OR IGNORE INTO handled VALUES (?)", event[:1]).rowcount:
            database.execute("INSERT INTO effects VALUES (?, ?, ?)", event)


async def main() -> None:
    stop = asyncio.Event()
    slots = asyncio.Semaphore(PREFETCH)

    async def on_message(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        async with slots:
            try:
                handle(message)
                await message.ack()
            except Exception as error:
                logging.exception("event %s", message.message_id)
                later = not isinstance(error, ValueError | LookupError)  # they will never be right
                if later:  # after `delivery_limit` attempts it goes to QUEUE.dead, as they do
                    pause = min(60, 2 ** int(str(message.headers.get("x-delivery-count", 0))))
                    await asyncio.wait([asyncio.ensure_future(stop.wait())], timeout=pause)
                await message.reject(requeue=later)

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with await aio_pika.connect_robust(os.environ["AMQP_URL"], fail_fast=0) as connection:
        channel = await connection.channel()
        await channel.set_qos(PREFETCH)
        queue = await channel.get_queue(os.environ["QUEUE"])
        tag = await queue.consume(on_message)  # `async for` would lose the trace of OpenTelemetry
        await stop.wait()
        if connection.connected.is_set():
            await queue.cancel(tag)
        for _ in range(PREFETCH):  # what is in hand
            await slots.acquire()


if __name__ == "__main__":
    asyncio.run(main())
