"""Worker and provider: what becomes of the events that can suppress, and what the workers wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from config.grafana.boards import Board
from config.grafana.panels import (
    COUNT,
    GREEN,
    PER_SECOND,
    RED,
    SECONDS,
    SHARE,
    THIRD,
    YELLOW,
    About,
    Query,
    figure,
    series,
    timeline,
)
from config.grafana.promql import in_queue, quantile, rate

if TYPE_CHECKING:
    from config.grafana.panels import Made

_ROLES: Final = "operate.md#a-role-rabbitmq-or-the-database-does-not-answer"
_PROVIDER: Final = "operate.md#the-providers-api-is-down"
_DEAD: Final = "operate.md#somebody-bounced-and-is-not-on-the-list"
_SCALE: Final = "deploy.md#scale"


def worker() -> Board:
    return Board(
        uid="bridge-worker",
        title="Bridge: worker and provider",
        says="What the workers do with events, what they wait for, and how the provider answers them.",
        rows=[
            ("", _now()),
            ("Events", _events()),
            ("Dependencies", _dependencies()),
            ("What could not be handled", _failures()),
        ],
    )


def _now() -> list[Made]:
    return [
        figure(
            About(
                "Workers that answer",
                "0: the list is not updated, and events wait in RabbitMQ. See `docker compose ps` and the log of the worker.",
                _ROLES,
            ),
            Query('sum(up{job="worker"})'),
            unit=COUNT,
            states={"0": ("none", RED)},
            no_value="none",
        ),
        figure(
            About(
                "Events that wait for a worker",
                "In the suppression queue, delivered or not. If it stays above a thousand: see below what the workers wait for, raise "
                "`provider.rate` if the provider allows it, or start more workers.",
                _SCALE,
            ),
            Query(in_queue("suppression")),
            unit=COUNT,
            limits=[(1000, YELLOW), (10_000, RED)],
        ),
        figure(
            About(
                "Found stuck in an hour",
                "How often a worker had work, waited for nothing, and made no progress. Its log has `worker.stuck` with the reason; restart "
                "it if its `/livez` still says so.",
                _ROLES,
            ),
            Query("sum(increase(bridge_worker_stuck_total[1h]))"),
            unit=COUNT,
            limits=[(1, RED)],
        ),
        figure(
            About(
                "Is the queue filled again from the archive?",
                "Yes, for a while: the suppression queue was deleted or lost a binding, and workers publish to it from the archive what it "
                "missed. At the end the log has `worker.backfilled`.",
                "reference/topology.md#when-the-suppression-queue-is-deleted",
            ),
            Query("max(bridge_backfill_due)"),
            unit=COUNT,
            states={"0": ("No", GREEN), "1": ("Yes", YELLOW)},
        ),
    ]


def _events() -> list[Made]:
    return [
        series(
            About(
                "Events handled a second, by outcome",
                "added and updated change the list. repeated: it was handled before. ignored: it does not suppress. outdated: older than "
                "a removal by a person. delayed: tried again later. dead: see What could not be handled.",
                "operate.md#which-events-suppress-and-for-how-long",
            ),
            Query(rate("bridge_events_handled_total", by="outcome"), "{{outcome}}"),
            unit=PER_SECOND,
            stacked=True,
        ),
        series(
            About(
                "Time to handle",
                "From a delivery to its acknowledgement, with the look-up at the provider and the transaction. It grows while a worker "
                "waits for a dependency.",
                _ROLES,
            ),
            Query(quantile(0.5, "bridge_handling_seconds"), "half"),
            Query(quantile(0.99, "bridge_handling_seconds"), "all but 1 in 100"),
            unit=SECONDS,
            limits=[(60, RED)],
        ),
        series(
            About(
                "How full the prefetch is",
                "Messages that a worker has and has not acknowledged, of as many as RabbitMQ gives it. At 100 % for long, with messages "
                "that wait: the workers are the limit, or what they wait for.",
                _SCALE,
            ),
            Query(
                "max by (instance) (bridge_unacknowledged_messages / bridge_prefetch_messages)",
                "{{instance}}",
            ),
            unit=SHARE,
            width=THIRD,
        ),
        series(
            About(
                "Deliveries a second",
                "First deliveries, and those that RabbitMQ gives out again (yes): a worker had them and ended, or its connection broke. "
                "Many again and again: workers do not get through; see their logs.",
                _ROLES,
            ),
            Query(rate("bridge_events_consumed_total", by="redelivered"), "again: {{redelivered}}"),
            unit=PER_SECOND,
            width=THIRD,
        ),
        series(
            About(
                "Events in a transaction",
                "On average. The more wait, the more are written at once, which is what makes a worker fast.",
                _SCALE,
            ),
            Query(f"{rate('bridge_batch_events_sum')} / {rate('bridge_batch_events_count')}", "events"),
            unit=COUNT,
            width=THIRD,
        ),
    ]


def _dependencies() -> list[Made]:
    return [
        timeline(
            About(
                "Do the workers wait for a dependency?",
                "Its circuit breaker, in the worst worker. Open: it does not answer, and the workers wait; they go on by themselves. "
                "`/readyz` of the workers has the error.",
                _PROVIDER,
            ),
            Query("max by (dependency) (bridge_breaker_state)", "{{dependency}}"),
            states={"0": ("answers", GREEN), "1": ("is tried", YELLOW), "2": ("waited for", RED)},
        ),
        series(
            About(
                "How long the oldest call has waited",
                "Calls without an answer yet. Above a minute: a lock of the database, a disk, or a network that drops packets.",
                _ROLES,
            ),
            Query("max by (dependency) (bridge_oldest_call_seconds)", "{{dependency}}"),
            unit=SECONDS,
            limits=[(60, RED)],
        ),
        series(
            About(
                "Calls of the provider's API a second, by status",
                "404: it does not know the message (yet). 429: `provider.rate` is above what it allows. 401 and 403: `provider.api_token` is "
                "wrong. 5xx, timeout and error: it is down.",
                _PROVIDER,
            ),
            Query(rate("bridge_provider_calls_total", by="status"), "{{status}}"),
            unit=PER_SECOND,
            stacked=True,
        ),
        series(
            About(
                "Time of a call of the provider's API",
                "All but one in a hundred, by status. Slow answers limit how fast a backlog is handled.",
                _PROVIDER,
            ),
            Query(quantile(0.99, "bridge_provider_call_seconds", by="status"), "{{status}}"),
            unit=SECONDS,
            limits=[(5, YELLOW)],
        ),
    ]


def _failures() -> list[Made]:
    return [
        series(
            About(
                "Tried again later, by reason",
                "Messages a second that went into a delay queue. unknown-message: the provider lags behind its own webhook, or the token "
                "belongs to another account.",
                _DEAD,
            ),
            Query(rate("bridge_retries_total", by="reason"), "{{reason}}"),
            unit=PER_SECOND,
            width=THIRD,
        ),
        series(
            About(
                "Dead letters in an hour, by reason",
                "Messages that were given up. The addresses that they are about are not on the list: `bridge dead list` shows them; repair "
                "the cause, then `bridge dead replay`.",
                _DEAD,
            ),
            Query("sum by (reason) (increase(bridge_dead_letters_total[1h]))", "{{reason}}"),
            unit=COUNT,
            limits=[(1, YELLOW)],
            width=THIRD,
        ),
        series(
            About(
                "Announced messages a second, by outcome",
                "What senders have announced by RabbitMQ, so that their addresses need not be looked up. invalid: a sender announces what "
                "cannot be read; it is in the quarantine.",
                "api.md#announce-messages",
            ),
            Query(rate("bridge_messages_announced_total", by="outcome"), "{{outcome}}"),
            unit=PER_SECOND,
            width=THIRD,
        ),
    ]
