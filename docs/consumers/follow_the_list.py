"""Keeps a copy of the suppression list: a snapshot from the API, then each change from a queue that was bound before."""

import json
import logging
import os
import signal
import sqlite3
import threading
import urllib.request

import pika

copy = sqlite3.connect(os.environ.get("EFFECTS", "list.sqlite3"), isolation_level=None)
copy.execute("CREATE TABLE IF NOT EXISTS list (address TEXT PRIMARY KEY, suppressed INTEGER, change INTEGER)")
PUT = """INSERT INTO list SELECT :address, :still_suppressed, :id FROM list WHERE address = 'snapshot' AND change < :id
         ON CONFLICT DO UPDATE SET suppressed = :still_suppressed, change = :id WHERE change < :id"""
stop = threading.Event()


def ask(path, question=None):
    headers = {"Authorization": f"Bearer {os.environ['TOKEN']}", "Content-Type": "application/json"}
    body = question and json.dumps(question).encode()
    return urllib.request.urlopen(urllib.request.Request(os.environ["API"] + path, body, headers), timeout=60)


def take_snapshot():
    with ask("/v1/suppressions/export?format=ndjson") as export, copy:
        copy.executescript("BEGIN; DELETE FROM list")
        copy.execute("INSERT INTO list VALUES ('snapshot', 0, ?)", [int(export.headers["Last-Change"])])
        addresses = sorted({json.loads(line)["address"] for line in export.read().splitlines()})
        for start in range(0, len(addresses), 10_000):  # the check heeds the allow-list, too
            page = json.load(ask("/v1/suppressions/check", {"addresses": addresses[start : start + 10_000]}))
            copy.executemany("INSERT INTO list VALUES (:address, NOT :allowed, 0)", page["results"])


def on_message(channel, delivery, _, body):
    change = json.loads(body)
    if "still_suppressed" in change and change["action"] != "erased":
        copy.execute(PUT, change)
    else:  # it is about a domain, or what was an address is a hash now: a new snapshot
        copy.execute("DELETE FROM list WHERE address = 'snapshot' AND change < :id", change)
        channel.basic_cancel(delivery.consumer_tag)
    channel.basic_ack(delivery.delivery_tag)


signal.signal(signal.SIGTERM, lambda *_: stop.set())
while not stop.is_set():
    try:
        with pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"])) as connection:
            channel = connection.channel()
            channel.basic_qos(prefetch_count=100)
            channel.basic_consume(os.environ["QUEUE"], on_message)
            if not copy.execute("SELECT * FROM list WHERE address = 'snapshot'").fetchone():
                take_snapshot()
            while channel.consumer_tags and not stop.is_set():
                connection.process_data_events(time_limit=1)
    except Exception:  # once more; after `delivery_limit` attempts a message goes to QUEUE.dead
        logging.exception("once more in a second")
        stop.wait(1)
