"""The channels of the contract: exchanges with a routing key each, and queues. What is internal to the bridge is not in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from bridge import events
from bridge.broker.messages import PERSISTENT
from bridge.broker.topology_plan import SENT, plan
from bridge.contract import meanings, schemas
from bridge.contract.messages import CHANGE_UNKNOWN, EVENT_UNKNOWN, change_name, event_name
from bridge.settings.sections import RabbitMQ

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bridge.broker.topology import Names

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_SEND: Final = "send"
_RECEIVE: Final = "receive"
_EVENTS, _LIST, _DEAD, _ANNOUNCED = "events", "suppression list", "dead letters", "announcements"


@dataclass(frozen=True, slots=True)
class Channel:
    """A routing key of an exchange, or a queue."""

    id: str
    address: str
    """The routing key, or the queue's name."""
    title: str
    description: str
    area: str
    messages: tuple[str, ...]
    """Names of components."""
    binding: Mapping[str, Any] = field(hash=False)
    operation_binding: Mapping[str, Any] = field(hash=False)
    action: str = _SEND
    """What the bridge does."""
    parameters: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Name in the address -> its meaning."""

    @property
    def operation(self) -> str:
        return f"{self.action}-{self.id}"

    @property
    def summary(self) -> str:
        """The first sentence of the description."""
        return f"{self.description.partition('. ')[0].removesuffix('.')}."


def channels(names: Names) -> list[Channel]:
    """All channels: what is published, the queues that a service may read, and what the bridge accepts."""
    kinds = {one.name: one.kind for one in plan(RabbitMQ(prefix=names.prefix), suppressing=()).exchanges}
    return [
        *_events(names, kinds[names.events]),
        *_changes(names, kinds[names.changes]),
        *_queues(names),
        Channel(
            "email-sent",
            SENT,
            "Announce what was sent",
            "Senders say which message went to which address. So the worker knows the address when an event of the message "
            "comes, and need not ask the provider. Publish persistent, and with publisher confirms.",
            _ANNOUNCED,
            ("sent",),
            _exchange(names.messages, kinds[names.messages]),
            {"ack": True},
            action=_RECEIVE,
        ),
    ]


def _events(names: Names, kind: str) -> Iterator[Channel]:
    binding, sent = _exchange(names.events, kind), _published(mandatory=True)
    for name, meaning in meanings.EVENTS.items():
        others = events.other_spellings(name)
        also = _published(mandatory=True) | {"cc": list(others)} if others else sent
        yield Channel(
            event_name(name), name, f"Event: `{name}`", meaning, _EVENTS, (event_name(name),), binding, also
        )
        for other in others:
            yield Channel(
                event_name(other),
                other,
                f"`{other}` and `{name}` are one event",
                f"The same message as under `{name}`, with `{other}` in the header `CC`: bind a queue to either key; one that is "
                f"bound to both gets it once. The routing key and the property `type` are `{name}`, and in the body the name is as "
                "the provider has written it: read `type`.",
                _EVENTS,
                (event_name(name),),
                binding,
                also,
            )
    yield Channel(
        EVENT_UNKNOWN,
        "{name}",
        "Event: any other name",
        "An event that the provider does not document so far, under its own name. Bind a queue with `#` for everything, or "
        "with a name that you expect.",
        _EVENTS,
        (EVENT_UNKNOWN,),
        binding,
        sent,
        parameters={"name": f"The name as the provider writes it: 1 to {events.MAX_NAME_BYTES} bytes."},
    )
    yield Channel(
        schemas.MALFORMED,
        events.MALFORMED,
        "Malformed bodies",
        "Requests that could not be read as an event, with the reason. A queue that is bound with `#` gets these, too: drop "
        f"what has the type `{events.MALFORMED}`.",
        _EVENTS,
        (schemas.MALFORMED,),
        binding,
        sent,
    )


def _changes(names: Names, kind: str) -> Iterator[Channel]:
    binding, sent = _exchange(names.changes, kind), _published(mandatory=False)
    for action, meaning in meanings.ACTIONS.items():
        name = change_name(action)
        yield Channel(name, action, f"Change: `{action}`", meaning, _LIST, (name,), binding, sent)
    yield Channel(
        CHANGE_UNKNOWN,
        "{action}",
        "Change: any other action",
        "A change that a later version of the bridge makes. Decide by `still_suppressed`, not by the action.",
        _LIST,
        (CHANGE_UNKNOWN,),
        binding,
        sent,
        parameters={"action": "What was done."},
    )


def _queues(names: Names) -> Iterator[Channel]:
    each_event = (*(event_name(name) for name in meanings.EVENTS), EVENT_UNKNOWN)
    each_change = (*(change_name(action) for action in meanings.ACTIONS), CHANGE_UNKNOWN)
    of_services = {"queue": "The name that `[[subscribers]]` or `bridge subscribers add` gives the queue."}
    subscriber = f"{names.prefix}{{queue}}"
    yield _queue(
        "subscriber",
        subscriber,
        "The queue of a service",
        "What the service has asked for: events, `malformed` and changes of the list. Declare it passively, if at all: it has "
        "arguments of its own.",
        _EVENTS,
        (*each_event, schemas.MALFORMED, *each_change),
        of_services,
    )
    yield _queue(
        "subscriber-dead",
        f"{subscriber}.dead",
        "The dead letters of a service",
        "What the service has rejected without requeue, and what its queue has dropped: it was full, or the message too old.",
        _DEAD,
        (schemas.BROKER_DEAD_LETTER,),
        of_services,
    )
    yield _queue(
        "archive",
        names.archive,
        "The archive",
        "Everything of the last days, in a stream: read it with an offset, and acknowledge.",
        _EVENTS,
        (*each_event, schemas.MALFORMED),
    )
    yield _queue(
        "unrouted",
        names.unrouted,
        "Events for nobody",
        "Events for which no other queue was bound. There are none while the archive stands.",
        _EVENTS,
        (*each_event, schemas.MALFORMED),
    )
    yield _queue(
        "quarantine",
        names.malformed,
        "The quarantine",
        "Malformed bodies, and announcements that cannot be read. `bridge quarantine` reads them. An announcement that RabbitMQ "
        "has delivered too often is there as its sender has published it.",
        _DEAD,
        (schemas.MALFORMED,),
    )
    yield _queue(
        "dead-letters",
        names.dead,
        "The worker's dead letters",
        "Events that the worker could not handle. `bridge dead` lists and replays them. Only one that was delivered too often "
        "is there by RabbitMQ's doing.",
        _DEAD,
        (schemas.DEAD_LETTER, schemas.BROKER_DEAD_LETTER),
    )


def _queue(
    id_: str,
    name: str,
    title: str,
    description: str,
    area: str,
    messages: tuple[str, ...],
    parameters: Mapping[str, str] = _NOTHING,
) -> Channel:
    binding = {
        "is": "queue",
        "queue": {"name": name, "durable": True, "exclusive": False, "autoDelete": False},
    }
    return Channel(
        id_,
        name,
        title,
        description,
        area,
        messages,
        binding,
        _published(mandatory=False),
        parameters=parameters,
    )


def _exchange(name: str, kind: str) -> dict[str, Any]:
    return {
        "is": "routingKey",
        "exchange": {"name": name, "type": kind, "durable": True, "autoDelete": False},
    }


def _published(*, mandatory: bool) -> dict[str, Any]:
    return {"deliveryMode": PERSISTENT, "mandatory": mandatory, "timestamp": True}
