"""Broker: RabbitMQ as the roles see it, its queues, and its nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from config.grafana.boards import Board
from config.grafana.panels import (
    BYTES,
    COUNT,
    GREEN,
    PER_SECOND,
    RED,
    SECONDS,
    SHARE,
    SIXTH,
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
_TOPOLOGY: Final = "operate.md#a-service-has-lost-its-queue-or-has-only-now-got-one"
_REJECTS: Final = "operate.md#a-queue-that-rejects"


def broker() -> Board:
    return Board(
        uid="bridge-broker",
        title="Bridge: broker",
        says="RabbitMQ: whether the roles can use it, what waits in the bridge's queues, and what its nodes have left.",
        rows=[("", _now()), ("As the roles see it", _links()), ("Queues and nodes", _queues())],
    )


def _now() -> list[Made]:
    return [
        figure(
            About(
                "Nodes that answer",
                "0: no alert on queues can fire. If RabbitMQ itself is away, receivers put events into the spool, and workers wait.",
                _ROLES,
            ),
            Query('sum(up{job="rabbitmq"})'),
            unit=COUNT,
            states={"0": ("none", RED)},
            no_value="none",
            width=SIXTH,
        ),
        figure(
            About(
                "Is all there that should be?",
                "How many exchanges and queues RabbitMQ refuses to declare as planned. `bridge doctor` says which, and what to do.",
                _TOPOLOGY,
            ),
            Query("sum(max by (name) (bridge_topology_refused))"),
            unit=COUNT,
            limits=[(1, RED)],
            width=SIXTH,
        ),
        figure(
            About(
                "Names that are not confirmed",
                "Names of events that RabbitMQ takes and does not confirm, as a queue for them cannot be written: they wait in the spool. "
                "`bridge doctor` says which queue.",
                "operate.md#a-queue-that-does-not-confirm",
            ),
            Query("max(bridge_spool_unconfirmed_names)"),
            unit=COUNT,
            limits=[(1, RED)],
            width=SIXTH,
        ),
        figure(
            About(
                "Consumers of the suppression queue",
                "As many as there are workers. 0: the list is not updated; events wait in the queue. Start a worker, or see what those "
                "that run wait for (`/readyz`).",
                _ROLES,
            ),
            Query('sum(rabbitmq_queue_consumers{queue="${prefix}suppression"})'),
            unit=COUNT,
            states={"0": ("none", RED)},
        ),
        figure(
            About(
                "How long the youngest node has run",
                "Short: a node was started anew. Its log says why the last run ended.",
                _ROLES,
            ),
            Query("min(rabbitmq_erlang_uptime_seconds)"),
            unit=SECONDS,
        ),
    ]


def _links() -> list[Made]:
    down, blocked = (
        f'(max by (job, use) (bridge_broker_state{{state="{one}"}}) > bool 0)' for one in ("down", "blocked")
    )
    return [
        timeline(
            About(
                "Can the roles use RabbitMQ?",
                "For each use the worst connection of all its instances. Blocked: RabbitMQ has a memory or disk alarm; see rabbitmqctl "
                "status, and give it memory or disk space. Down: see `/readyz` for the reason.",
                _ROLES,
            ),
            Query(f"2 * {down} > 0 or {blocked}", "{{job}}: {{use}}"),
            states={"0": ("up", GREEN), "1": ("blocked", YELLOW), "2": ("down", RED)},
        ),
        series(
            About(
                "Time to confirm",
                "From a publish to RabbitMQ's confirm: all but one in a hundred. It is the time for a write to disk on a majority of "
                "nodes. A slow disk, a busy node, or a queue that is too long makes it grow, and answers with it.",
                _ROLES,
            ),
            Query(quantile(0.99, "bridge_confirm_seconds", by="job"), "{{job}}"),
            unit=SECONDS,
            limits=[(1, RED)],
        ),
        series(
            About(
                "Publishes a second, by outcome",
                "nacked: a queue is full and rejects. returned: no queue was bound. lost: the connection broke before the confirm, and the "
                "event is published again. All but confirmed should be 0.",
                _REJECTS,
            ),
            Query(rate("bridge_publishes_total", by="outcome"), "{{outcome}}"),
            unit=PER_SECOND,
            width=THIRD,
        ),
        series(
            About(
                "How full the window of confirms is",
                "Messages that wait for a confirm, of as many as may wait. At 100 % publishes wait for confirms: RabbitMQ is the limit.",
                _ROLES,
            ),
            Query(
                "max by (job) (bridge_publisher_in_flight_messages / bridge_publisher_window_messages)",
                "{{job}}: messages",
            ),
            Query(
                "max by (job) (bridge_publisher_in_flight_bytes / bridge_publisher_window_bytes)",
                "{{job}}: bytes",
            ),
            unit=SHARE,
            limits=[(0.8, YELLOW), (1, RED)],
            width=THIRD,
        ),
        series(
            About(
                "Connections opened in five minutes",
                "After a start, none should be opened. Many: connections break again and again. The log's `broker.lost` says why.",
                _ROLES,
            ),
            Query("sum by (job, use) (increase(bridge_broker_connects_total[5m]))", "{{job}}: {{use}}"),
            unit=COUNT,
            width=THIRD,
        ),
    ]


def _queues() -> list[Made]:
    return [
        series(
            About(
                "Messages in the bridge's queues",
                "Delivered or not. suppression: what waits for the workers. suppression.retry: what is tried again later. "
                "suppression.dead, email.malformed and email.unrouted wait for a person.",
                "reference/topology.md",
            ),
            Query(
                in_queue("suppression", "suppression.*", "email.malformed", "email.unrouted", by="queue"),
                "{{queue}}",
            ),
            unit=COUNT,
        ),
        series(
            About(
                "Messages dropped by limits",
                "What RabbitMQ took out of any queue of the node a second: because it was too long, was delivered too often, or rejected. "
                "Those of a subscriber wait in its dead letters, as long as that queue has room.",
                "operate.md#a-service-does-not-consume",
            ),
            *(
                Query(rate(f"rabbitmq_global_messages_dead_lettered_{why}_total"), words)
                for why, words in (
                    ("maxlen", "too long"),
                    ("delivery_limit", "delivered too often"),
                    ("rejected", "rejected"),
                )
            ),
            unit=PER_SECOND,
            limits=[(0.001, YELLOW)],
        ),
        series(
            About(
                "Memory, of as much as RabbitMQ may take",
                "At 100 % RabbitMQ has an alarm and blocks publishes: events go to the spool. Give it memory, or consume long queues.",
                _ROLES,
            ),
            Query(
                "max by (instance) (rabbitmq_process_resident_memory_bytes / rabbitmq_resident_memory_limit_bytes)",
                "{{instance}}",
            ),
            unit=SHARE,
            limits=[(0.8, YELLOW), (1, RED)],
        ),
        series(
            About(
                "Disk space above the limit",
                "At 0 RabbitMQ has an alarm and blocks publishes: events go to the spool. Free space, consume long queues, or shorten the "
                "archive.",
                _ROLES,
            ),
            Query(
                "min by (instance) (rabbitmq_disk_space_available_bytes - rabbitmq_disk_space_available_limit_bytes)",
                "{{instance}}",
            ),
            unit=BYTES,
        ),
    ]
