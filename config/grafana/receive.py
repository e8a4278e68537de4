"""Receive: what the provider posts, what it is answered, and the spool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from config.grafana.boards import Board
from config.grafana.panels import (
    COUNT,
    GREEN,
    PER_SECOND,
    QUARTER,
    RED,
    SECONDS,
    SHARE,
    THIRD,
    YELLOW,
    About,
    Query,
    figure,
    series,
)
from config.grafana.promql import quantile, rate

if TYPE_CHECKING:
    from config.grafana.panels import Made

_SPOOL: Final = "operate.md#the-spool"
_ROLES: Final = "operate.md#a-role-rabbitmq-or-the-database-does-not-answer"
_AGE: Final = "bridge_event_age_seconds"
_TIME: Final = "bridge_answer_seconds"


def receive() -> Board:
    return Board(
        uid="bridge-receive",
        title="Bridge: receive",
        says="The provider's webhook: what comes, what it is answered, and what waits in the spool.",
        rows=[("", _now()), ("What comes, and what it is answered", _webhook()), ("The spool", _spool())],
    )


def _now() -> list[Made]:
    return [
        figure(
            About(
                "Receivers that answer",
                "0: events are lost, unless the provider sends them again. See `docker compose ps` and the log of the receiver.",
                _ROLES,
            ),
            Query('sum(up{job="receiver"})'),
            unit=COUNT,
            states={"0": ("none", RED)},
            no_value="none",
        ),
        figure(
            About(
                "Does the spool take events?",
                "No: its disk is full, refuses, or does not answer. While RabbitMQ takes events, nothing is lost; do not wait for it to "
                "fail, too. `/readyz` of the receiver has the reason.",
                _SPOOL,
            ),
            Query("max(bridge_spool_refusing)"),
            unit=COUNT,
            states={"0": ("Yes", GREEN), "1": ("No", RED)},
        ),
        figure(
            About(
                "Valid tokens of the webhook",
                "2 while the token is being changed: retire the old one once the provider posts with the new one.",
                "deploy.md#change-the-webhooks-token",
            ),
            Query("min(bridge_tokens)"),
            unit=COUNT,
            limits=[(2, YELLOW)],
        ),
        figure(
            About(
                "Restarts of receiver processes in an hour",
                "Processes of a receiver with `receiver.processes` above 1 that died and were started again. A process that dies loses no "
                "event that was answered 200. The log says why it died.",
                _ROLES,
            ),
            Query("sum(increase(bridge_receiver_restarts_total[1h]))"),
            unit=COUNT,
            limits=[(1, RED)],
            no_value="one process",
        ),
    ]


def _webhook() -> list[Made]:
    return [
        series(
            About(
                "Events a second, by name",
                "Events that were answered 200. other is a name that the bridge does not know, and passes on; malformed is a body that "
                "is no event, and goes to the quarantine. None at all for an hour: does the provider still know the webhook's URL "
                "(`bridge webhook show`)?",
                "operate.md#somebody-bounced-and-is-not-on-the-list",
            ),
            Query(rate("bridge_events_received_total", by="name"), "{{name}}"),
            unit=PER_SECOND,
            stacked=True,
        ),
        series(
            About(
                "Answers a second, by answer",
                "confirmed: RabbitMQ has it. spooled: the receiver's disk has it. quarantined: it is no event, and kept. 503: refused. "
                "404: a wrong token, or a wrong path. Many spooled: RabbitMQ is away or slow.",
                _SPOOL,
            ),
            Query(rate("bridge_answers_total", by="answer"), "{{answer}}"),
            unit=PER_SECOND,
            stacked=True,
        ),
        series(
            About(
                "Time to answer",
                "From a request's head to its answer. It follows RabbitMQ's confirms: compare it with Time to confirm on Broker. Events "
                "that take longer than `receiver.confirm_wait` go to the spool.",
                _SPOOL,
            ),
            Query(quantile(0.5, _TIME), "half"),
            Query(quantile(0.99, _TIME), "all but 1 in 100"),
            Query(quantile(0.999, _TIME), "all but 1 in 1000"),
            unit=SECONDS,
            limits=[(2, RED)],
            width=THIRD,
        ),
        series(
            About(
                "Age of an event when it comes",
                "From the event's own time until it was received: the provider's delay, and the difference of the clocks. High here, the "
                "provider is late, and nothing here helps; low here and high on List, it is the bridge.",
                "operate.md#how-fresh-the-list-is",
            ),
            Query(quantile(0.5, _AGE, where='stage="received"'), "half"),
            Query(quantile(0.99, _AGE, where='stage="received"'), "all but 1 in 100"),
            unit=SECONDS,
            limits=[(900, YELLOW)],
            width=THIRD,
        ),
        series(
            About(
                "Requests a second, by token",
                "With which token the provider posts. While the token is being changed: once nothing comes with other, retire the old one.",
                "deploy.md#change-the-webhooks-token",
            ),
            Query(rate("bridge_requests_admitted_total", by="token"), "{{token}}"),
            unit=PER_SECOND,
            width=THIRD,
        ),
    ]


def _spool() -> list[Made]:
    return [
        series(
            About(
                "Events in the spool",
                "Events that were answered 200 and wait for RabbitMQ. They drain by themselves when RabbitMQ takes messages again; "
                "`bridge spool status` says what keeps them.",
                _SPOOL,
            ),
            Query("sum by (instance) (bridge_spool_entries)", "{{instance}}"),
            unit=COUNT,
            stacked=True,
            width=QUARTER,
        ),
        series(
            About(
                "Age of the oldest event in the spool",
                "It falls while the spool drains. Above five minutes an alert fires: RabbitMQ cannot be reached, is blocked by an alarm, "
                "or refuses the event.",
                _SPOOL,
            ),
            Query("max by (instance) (bridge_spool_oldest_seconds)", "{{instance}}"),
            unit=SECONDS,
            limits=[(300, RED)],
            width=QUARTER,
        ),
        series(
            About(
                "How full the spool is",
                "Of `spool.max_bytes`. When it is full, events are answered 503. Bring RabbitMQ back; or raise `spool.max_bytes` where the "
                "disk has room.",
                _SPOOL,
            ),
            Query(
                "max by (instance) (bridge_spool_bytes / bridge_spool_limit_bytes)",
                "{{instance}}",
            ),
            unit=SHARE,
            limits=[(0.5, YELLOW), (0.8, RED)],
            width=QUARTER,
        ),
        series(
            About(
                "Events set aside in the spool",
                "Events that RabbitMQ refuses, by reason. They are tried again automatically, and hold up no others. `bridge spool status` "
                "says what RabbitMQ answered.",
                "operate.md#a-queue-that-rejects",
            ),
            Query("sum by (reason) (bridge_spool_set_aside_entries)", "{{reason}}"),
            unit=COUNT,
            limits=[(1, YELLOW)],
            width=QUARTER,
        ),
    ]
