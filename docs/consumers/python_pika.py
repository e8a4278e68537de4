"""A consumer with pika, without asyncio: each event has its effect once, whatever comes twice, fails or is killed."""

import json
import logging
import os
import signal
import sqlite3
import threading

import pika
import pika.exceptions

database = sqlite3.connect(os.environ.get("EFFECTS", "effects.sqlite3"))
database.execute("PRAGMA journal_mode = WAL")
database.execute("CREATE TABLE IF NOT EXISTS handled (id TEXT PRIMARY KEY)")
database.execute("CREATE TABLE IF NOT EXISTS effects (id TEXT, name TEXT, message TEXT)")
stop = threading.Event()


def handle(properties, body):
    """Your work. The event's id is stored in the same transaction, so a repeat changes nothing."""
    json.loads(body)
    event = tuple(properties.headers[f"cloudEvents:{name}"] for name in ("id", "type", "subject"))
    with database:
        if database.execute("INSERT OR IGNORE INTO handled VALUES (?)", event[:1]).rowcount:
            database.execute("INSERT INTO effects VALUES (?, ?, ?)", event)


def on_message(channel, delivery, properties, body):
    try:
        handle(properties, body)
    except (ValueError, LookupError, TypeError):  # it will never be right: to QUEUE.dead
        logging.exception("event %s", properties.message_id)
        channel.basic_reject(delivery.delivery_tag, requeue=False)
    except Exception:  # later, perhaps: after `delivery_limit` attempts it goes to QUEUE.dead, too
        logging.exception("event %s", properties.message_id)
        pause = min(60, 2 ** properties.headers.get("x-delivery-count", 0))
        channel.connection.call_later(pause, lambda: channel.basic_reject(delivery.delivery_tag))
    else:
        channel.basic_ack(delivery.delivery_tag)


def consume():
    with pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"])) as connection:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=100)
        channel.basic_consume(os.environ["QUEUE"], on_message)
        while channel.consumer_tags and not stop.is_set():  # none is left when the queue is deleted
            connection.process_data_events(time_limit=1)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    while not stop.is_set():
        try:
            consume()
        except pika.exceptions.AMQPError:
            logging.exception("RabbitMQ")
        stop.wait(1)
