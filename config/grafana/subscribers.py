"""Subscribers: other services' queues, and whether those services consume them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from config.grafana.boards import Board
from config.grafana.panels import (
    COUNT,
    PER_SECOND,
    RED,
    SECONDS,
    YELLOW,
    About,
    Column,
    Query,
    rows,
    series,
)

if TYPE_CHECKING:
    from config.grafana.panels import Made

_SEE: Final = "operate.md#a-service-does-not-consume"
_CHOSEN: Final = '{queue=~"$queue"}'


def subscribers() -> Board:
    return Board(
        uid="bridge-subscribers",
        title="Bridge: subscribers",
        says="Queues of other services: what waits there, for how long, and whether anybody consumes it.",
        rows=[("", [_table()]), ("Over time", _over_time())],
        by_queue=True,
    )


def _table() -> Made:
    columns = (
        Column("queue", "Queue"),
        Column("Value #A", "Ready"),
        Column("Value #B", "Unacknowledged"),
        Column("Value #C", "Consumers"),
        Column("Value #D", "Dead letters", limits=[(1, YELLOW)]),
        Column("Value #E", "Oldest", unit=SECONDS, limits=[(300, YELLOW), (3600, RED)]),
        Column("Value #F", "Not consumed for", unit=SECONDS, limits=[(60, YELLOW), (900, RED)]),
    )
    metrics = (
        "ready_messages", "unacknowledged_messages", "consumers", "dead_letters", "oldest_seconds", "idle_seconds"
    )  # fmt: skip
    return rows(
        About(
            "Who consumes, and who does not?",
            "A queue that is not consumed holds up none of the others. One with a limit drops its oldest messages into its dead letters; "
            "one without grows on RabbitMQ's disk. Tell the team of that service.",
            _SEE,
        ),
        *(Query(_of(metric)) for metric in metrics),
        columns=columns,
        no_value="There is no subscriber",
    )


def _of(metric: str) -> str:
    """Every worker looks; those that have just started know less."""
    return f"max by (queue) (bridge_subscriber_{metric}{_CHOSEN})"


def _over_time() -> list[Made]:
    return [
        series(
            About(
                "Messages that wait",
                "Ready, by queue. One that grows: its service consumes less than comes. Start more of its consumers, or give the queue a "
                "limit (max_length, ttl).",
                _SEE,
            ),
            Query(_of("ready_messages"), "{{queue}}"),
            unit=COUNT,
        ),
        series(
            About(
                "Consumed a second",
                "Messages that the service has acknowledged, as RabbitMQ counts them for each channel. 0 while messages wait: it does "
                "not consume, or does not acknowledge.",
                _SEE,
            ),
            Query(
                f"sum by (queue) (rate(rabbitmq_channel_messages_acked_total{_CHOSEN}[$__rate_interval]))"
                " and on (queue) bridge_subscriber_ready_messages",
                "{{queue}}",
            ),
            unit=PER_SECOND,
        ),
        series(
            About(
                "Age of the oldest message",
                "At least: told from how many have come and how many are there. Above an hour an alert fires.",
                _SEE,
            ),
            Query(_of("oldest_seconds"), "{{queue}}"),
            unit=SECONDS,
            limits=[(3600, RED)],
        ),
        series(
            About(
                "For how long nothing was consumed",
                "Although messages were there. Above a quarter of an hour an alert fires: start that service, or see its log for what it "
                "does not acknowledge.",
                _SEE,
            ),
            Query(_of("idle_seconds"), "{{queue}}"),
            unit=SECONDS,
            limits=[(900, RED)],
        ),
        series(
            About(
                "Dead letters",
                "Messages that its service rejected, or that its limits dropped. They are for that service's team.",
                _SEE,
            ),
            Query(_of("dead_letters"), "{{queue}}"),
            unit=COUNT,
            limits=[(1, YELLOW)],
        ),
        series(
            About(
                "Consumers and what they hold",
                "Connected consumers, and messages that they were given and have not acknowledged. Many held and none consumed: the "
                "service hangs.",
                _SEE,
            ),
            Query(_of("consumers"), "{{queue}}: consumers"),
            Query(_of("unacknowledged_messages"), "{{queue}}: unacknowledged"),
            unit=COUNT,
        ),
    ]
