"""What a problem costs meanwhile, and what to do about it: in the words of docs/operate.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from bridge.diagnostics.problems import ProblemKind

if TYPE_CHECKING:
    from bridge.diagnostics.problems import Problem


class Advice(NamedTuple):
    """For the person on call."""

    meanwhile: str
    """What does not work, and what goes on."""
    do: str
    page: str = ""
    """The page of the console that helps, below /console; empty: none does."""
    page_title: str = ""
    read: str = ""
    """The section of the docs."""


_DO_NOT_ANSWER: Final = "docs/operate.md, “A role, RabbitMQ or the database does not answer”"
_SPOOL: Final = "docs/operate.md, “The spool”"
_NOT_ON_LIST: Final = "docs/operate.md, “Somebody bounced and is not on the list”"

_BY_KIND: Final = {
    ProblemKind.ROLE_SILENT: Advice(
        "What it counts is missing from the numbers on this page. If no receiver answers, events are lost unless the "
        "provider sends them again; if no worker does, bounces wait in RabbitMQ.",
        "Start it, or see its log (`docker compose logs`, `journalctl`). If it runs at another address, name that in "
        "health.roles (BRIDGE_HEALTH__ROLES).",
        read=_DO_NOT_ANSWER,
    ),
    ProblemKind.ROLE_NOT_READY: Advice(
        "It runs, but waits for what it names.",
        "Repair what it names. It goes on by itself: a restart does not help, unless it says that it is stuck.",
        read=_DO_NOT_ANSWER,
    ),
    ProblemKind.BREAKER_OPEN: Advice(
        "Workers wait and try again with growing pauses; bounces wait in RabbitMQ, and no message loses an attempt.",
        "Nothing here, once that dependency answers again. See what it answers in the lines of the workers above, and "
        "the checks below: a wrong token does not go away by itself.",
        read="docs/operate.md, “The provider's API is down”",
    ),
    ProblemKind.BROKER_DOWN: Advice(
        "Receivers answer 200, and keep events in their spools. Workers wait. The depths of queues are not known.",
        "Start RabbitMQ (`docker compose start rabbitmq`, `systemctl start rabbitmq-server`), or correct rabbitmq.urls. "
        "Roles connect again and the spools drain by themselves.",
        read=_DO_NOT_ANSWER,
    ),
    ProblemKind.DATABASE_DOWN: Advice(
        "Addresses cannot be looked up or changed, and senders are answered 503. Events are still received; they wait in "
        "RabbitMQ.",
        "Start the database, and look for a full disk, a lock or a network that drops packets. All go on by themselves.",
        read=_DO_NOT_ANSWER,
    ),
    ProblemKind.QUEUE_MISSING: Advice(
        "What should go into this queue goes nowhere, or waits in the archive only.",
        "Run `bridge topology plan`, then `bridge topology apply`. A worker declares its queues by itself, too.",
        read="docs/operate.md, “A service has lost its queue, or has only now got one”",
    ),
    ProblemKind.NODE_DOWN: Advice(
        "Queues go on as long as a majority of their nodes runs.",
        "Start the node, and see its log.",
        read=_DO_NOT_ANSWER,
    ),
    ProblemKind.ALARM: Advice(
        "RabbitMQ takes no event: receivers answer 200 from their spools.",
        "Give RabbitMQ memory or disk space (`rabbitmqctl status` names its limits). All goes on by itself.",
        read=_DO_NOT_ANSWER,
    ),
    ProblemKind.BINDING_MISSING: Advice(
        "These events do not come to this queue. They are in the archive.",
        "Run `bridge topology apply`.",
        page="/archive",
        page_title="Archive",
        read="docs/operate.md, “A service has lost its queue, or has only now got one”",
    ),
    ProblemKind.NO_WORKER: Advice(
        "Bounces and complaints wait in RabbitMQ, and the list stays as it is: senders may write to who has just complained.",
        "Start `bridge worker` (`docker compose up -d worker`), or see its log.",
        read=_DO_NOT_ANSWER,
    ),
    ProblemKind.DEAD_LETTERS: Advice(
        "These bounces and complaints are not on the list.",
        "See why, repair that, and replay them.",
        page="/dead-letters",
        page_title="Dead letters",
        read=_NOT_ON_LIST,
    ),
    ProblemKind.SUBSCRIBER_IDLE: Advice(
        "That service misses events; they wait in its queue, as far as its limits go. Nobody else is affected.",
        "Start that service, or see its log. If it is gone for good: `bridge subscribers remove`.",
        page="/subscribers",
        page_title="Subscribers",
        read="docs/operate.md, “A service does not consume”",
    ),
    ProblemKind.QUARANTINE: Advice(
        "These bodies came with a valid token, but are no events that we can read. They are kept.",
        "Look at them with `bridge quarantine list`; what can be read now is published with `bridge quarantine replay`.",
        read="docs/operate.md, “Bodies in the quarantine”",
    ),
    ProblemKind.BACKFILL: Advice(
        "Bounces of the time in which the queue was missing are not on the list yet. They come from the archive.",
        "Wait: a worker does it. If the count does not grow, see the workers' log.",
        read="docs/reference/topology.md, “When the suppression queue is deleted”",
    ),
    ProblemKind.SPOOL_UNREADABLE: Advice(
        "It is not known here what waits in the spool. The receivers may be well.",
        "Check the disk, and that this process may read the folder.",
        read=_SPOOL,
    ),
    ProblemKind.SPOOL_FILE: Advice(
        "What is in this file is not published. The receivers use other files.",
        "Keep the file, and follow “Recover a corrupt file”.",
        read="docs/operate.md, “Recover a corrupt file”",
    ),
    ProblemKind.SET_ASIDE: Advice(
        "These events are safe, but not in RabbitMQ. All others flow; these are tried again with growing pauses.",
        "Find the queue that rejects: the checks below name it. Raise its limit, or take the policy away.",
        read="docs/operate.md, “A queue that rejects”",
    ),
    ProblemKind.SPOOL_WAITS: Advice(
        "These events are safe, but late.",
        "If RabbitMQ is down or has an alarm, repair that: the spool drains by itself. Else see the receivers' log.",
        read=_SPOOL,
    ),
    ProblemKind.SPOOL_LEFT: Advice(
        "These events are safe, but nobody publishes them.",
        "Start a receiver with that folder, or run `bridge spool drain`.",
        read=_SPOOL,
    ),
}


_OPEN_FOR_DATABASE: Final = Advice(
    "Workers wait and try again with growing pauses; bounces wait in RabbitMQ, and the list stays as it is.",
    "Start the database, and look for a full disk, a lock or a network that drops packets. Workers go on by themselves.",
    read=_DO_NOT_ANSWER,
)


def advice_on(problem: Problem) -> Advice:
    """What to do about it."""
    if problem.kind is ProblemKind.BREAKER_OPEN and problem.about == "database":
        return _OPEN_FOR_DATABASE
    return _BY_KIND[problem.kind]
