"""What answers of RabbitMQ's management API mean: nodes, queues, exchanges and bindings, as the API shows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_CONSUMED: Final = ("ack", "deliver_no_ack", "get_no_ack")


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the cluster."""

    name: str
    running: bool
    alarms: tuple[str, ...]
    """`memory`, `disk`, or both. During an alarm RabbitMQ blocks publishers on every node."""


@dataclass(frozen=True, slots=True)
class QueueView:
    """A queue as the API shows it. RabbitMQ counts every 5 s; what it has not counted yet is None."""

    name: str
    kind: str
    """`quorum`, `classic` or `stream`."""
    arguments: Mapping[str, Any]
    policies: Mapping[str, Any]
    """Arguments set by policies."""
    ready: int | None
    unacknowledged: int | None
    consumers: int | None
    oldest: int | None
    """Timestamp property of the oldest message, Unix seconds. RabbitMQ has it for classic queues only."""
    size: int | None = None
    """Total bytes of the bodies."""
    policy: str = ""
    """Name of the policy in force."""
    operator_policy: str = ""
    """Name of the operator policy in force."""
    dead_lettering: int | None = None
    """Messages of a quorum queue that are on their way to its dead-letter exchange, at least once."""
    durable: bool = True
    temporary: bool = False
    """Whether it ends with its connection or its last consumer."""
    published: int | None = None
    """Messages that were put into it since RabbitMQ began to count. None: nothing is counted yet, as with the next."""
    consumed: int | None = None
    """Messages that were acknowledged, or delivered to somebody who acknowledges none."""
    state: str = ""
    """`running`, `down`, `minority`, …; empty: not known yet."""
    members: int | None = None
    """Nodes that have a quorum queue or a stream. None: another kind, or not known yet, as with the next."""
    online: int | None = None
    """Those of its members that run."""


@dataclass(frozen=True, slots=True)
class ExchangeView:
    """An exchange, with the arguments that it was declared with, and those that its policy sets."""

    arguments: Mapping[str, Any]
    policies: Mapping[str, Any]
    name: str = ""
    kind: str = ""
    durable: bool = True
    temporary: bool = False
    """Whether it ends with its last binding."""


@dataclass(frozen=True, slots=True)
class BindingView:
    """A binding of an exchange, to a queue or to another exchange."""

    destination: str
    key: str
    to_queue: bool
    exchange: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)


def read_node(found: Mapping[str, Any]) -> Node:
    """A node of `/api/nodes`."""
    alarms = [name for name, key in (("memory", "mem_alarm"), ("disk", "disk_free_alarm")) if found.get(key)]
    return Node(str(found.get("name", "?")), found.get("running") is True, tuple(alarms))


def read_queue(found: Mapping[str, Any]) -> QueueView:
    """A queue of `/api/queues/VHOST/NAME`."""
    is_counted, counters = "messages_ready" in found, mapping_at(found, "message_stats")
    return QueueView(
        name=str(found.get("name", "?")),
        kind=str(found.get("type", "?")),
        arguments=mapping_at(found, "arguments"),
        policies=mapping_at(found, "effective_policy_definition"),
        ready=_whole_number(found.get("messages_ready")),
        unacknowledged=_whole_number(found.get("messages_unacknowledged")),
        consumers=_whole_number(found.get("consumers")),
        oldest=_whole_number(found.get("head_message_timestamp")),
        size=_whole_number(found.get("message_bytes")),
        policy=found.get("policy") or "",
        operator_policy=found.get("operator_policy") or "",
        dead_lettering=_whole_number(found.get("messages_dlx")),
        durable=found.get("durable") is not False,
        temporary=found.get("exclusive") is True or found.get("auto_delete") is True,
        published=_sum_of(counters, "publish") if is_counted else None,
        consumed=_sum_of(counters, *_CONSUMED) if is_counted else None,
        state=found.get("state") or "",
        members=_length(found.get("members")),
        online=_length(found.get("online")),
    )


def read_exchange(found: Mapping[str, Any], policies: Mapping[str, Any]) -> ExchangeView:
    """An exchange of `/api/exchanges/VHOST/NAME`, with what its policy sets."""
    return ExchangeView(
        arguments=mapping_at(found, "arguments"),
        policies=policies,
        name=str(found.get("name", "?")),
        kind=str(found.get("type", "?")),
        durable=found.get("durable") is not False,
        temporary=found.get("auto_delete") is True,
    )


def read_binding(found: Mapping[str, Any]) -> BindingView:
    """A binding of `/api/bindings/VHOST`."""
    return BindingView(
        str(found.get("destination", "")),
        str(found.get("routing_key", "")),
        found.get("destination_type") == "queue",
        str(found.get("source", "")),
        mapping_at(found, "arguments"),
    )


def mapping_at(found: Any, key: str) -> dict[str, Any]:
    """The object at this key; empty if there is none. Erlang encodes an empty object as an empty list in some places."""
    value = found.get(key) if isinstance(found, dict) else None
    return value if isinstance(value, dict) else {}


def _sum_of(counters: Mapping[str, Any], *names: str) -> int:
    """A counter that has counted nothing yet is not there."""
    return sum(_whole_number(counters.get(name)) or 0 for name in names)


def _whole_number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _length(value: Any) -> int | None:
    return len(value) if isinstance(value, list) else None
