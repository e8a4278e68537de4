"""`[[subscribers]]`: the queues of other services. `bridge subscribers add` makes the same without a change of the settings."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Final, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from bridge.events import KNOWN_NAMES, MAX_NAME_BYTES, SPELLINGS
from bridge.settings.section import Section
from bridge.settings.values import MAX_DELIVERIES, MAX_TTL_SECONDS, event_names, not_reserved, split

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_QUEUE_NAME: Final = 150
"""Characters. With `rabbitmq.prefix` (100 at most) and `.dead` a name is within RabbitMQ's 255 bytes."""
_QUEUE_NAME: Final = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
"""A user of RabbitMQ and files are called like it: `-x` would be an option of `rabbitmqctl`, `..` a folder in a URL."""
_DEAD: Final = ".dead"
_MOVING: Final = ".moving"
"""The end of the name of a queue through which `bridge topology apply --migrate` moves messages."""

_CHANGES_OF_THE_LIST: Final = frozenset(
    {"added", "updated", "removed", "expired", "allowed", "disallowed", "erased"}
)
"""Routing keys of the exchange `suppression.changes`."""
_WILDCARDS: Final = "*?"


def _queue_name(name: str) -> str:
    """Our own names are `email.…`, `suppression` and `suppression.…`: see `bridge.broker.topology`."""
    if not re.fullmatch(_QUEUE_NAME, name):
        raise ValueError(f"'{name}' is no name for a queue: give letters, digits and . _ -, not . or - first")
    if len(name) > MAX_QUEUE_NAME:
        raise ValueError(
            f"'{name[:20]}…' has {len(name)} characters, and may have {MAX_QUEUE_NAME}: RabbitMQ takes 255 bytes, with "
            f"rabbitmq.prefix in front and '{_DEAD}' behind"
        )
    if name == "suppression" or name.startswith(("suppression.", "email.")) or name.endswith(_MOVING):
        raise ValueError(f"'{name}' is reserved for the bridge; choose another name")
    return not_reserved(name)


def _without_patterns(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names, with each pattern replaced by the known names that it matches in either spelling."""
    spelled = {name: name for name in sorted(KNOWN_NAMES)} | dict(SPELLINGS)
    found: list[str] = []
    for name in names:
        if not any(sign in name for sign in _WILDCARDS):
            found.append(name)
            continue
        pattern = name.strip().lower()
        matching = [ours for spelling, ours in spelled.items() if fnmatchcase(spelling, pattern)]
        if not matching:
            raise ValueError(
                f"'{name}' matches no event; the known ones are {', '.join(sorted(KNOWN_NAMES))}, and # stands for all, "
                "unknown ones, too"
            )
        found += matching
    return event_names(tuple(found))


def _possible_keys(names: tuple[str, ...]) -> tuple[str, ...]:
    """RabbitMQ does not take longer keys, and no event has a name that is not printable."""
    for name in names:
        if not name.isprintable() or not 0 < len(name.encode()) <= MAX_NAME_BYTES:
            raise ValueError(f"the name of an event is printable text of 1 to {MAX_NAME_BYTES} bytes")
    return names


def _no_changes_of_the_list(names: tuple[str, ...]) -> tuple[str, ...]:
    """A queue that is bound to one of these as to an event would never get a message."""
    if of_the_list := [name for name in names if name.lower() in _CHANGES_OF_THE_LIST]:
        raise ValueError(
            f"'{of_the_list[0]}' is not an event but a change of the suppression list: changes = true gets them all"
        )
    return names


class Subscriber(Section):
    """`[[subscribers]]`: a queue of another service, what is routed to it, and its limits."""

    queue: Annotated[str, AfterValidator(_queue_name)]
    events: Annotated[
        tuple[str, ...],
        BeforeValidator(split),
        AfterValidator(event_names),
        AfterValidator(_possible_keys),
        AfterValidator(_without_patterns),
        AfterValidator(_no_changes_of_the_list),
    ] = ()
    """Canonical names, and RabbitMQ's `#`; patterns are replaced by the names that they match."""
    changes: bool = False
    max_length: int | None = Field(default=None, ge=1, lt=2**63)
    """Messages."""
    ttl: float | None = Field(default=None, ge=0.001, le=MAX_TTL_SECONDS, allow_inf_nan=False)
    """Seconds."""
    delivery_limit: int | None = Field(default=None, ge=1, le=MAX_DELIVERIES)
    single_active_consumer: bool = False

    @model_validator(mode="after")
    def _is_routed_something(self) -> Self:
        if not (self.events or self.changes):
            raise ValueError(f"'{self.queue}' gets nothing: give it events, or changes = true")
        return self

    @property
    def dead(self) -> str:
        """The name of the queue of its dead letters, without `rabbitmq.prefix`, as `queue`."""
        return f"{self.queue}{_DEAD}"


def conflict(subscriber: Subscriber, others: Iterable[Subscriber]) -> str | None:
    """Why it cannot stand beside the others; None: it can. Each has two names: that of its queue, and `dead`."""
    for other in others:
        if subscriber.queue == other.queue:
            return f"the queue '{other.queue}' is named twice; give all its events in one"
        for one, dead in ((subscriber, other), (other, subscriber)):
            if one.queue == dead.dead:
                return (
                    f"'{one.queue}' is the queue of the dead letters of '{dead.queue}'; choose another name"
                )
    return None


def without_conflicts(subscribers: tuple[Subscriber, ...]) -> tuple[Subscriber, ...]:
    """The subscribers, which all can stand side by side.

    Raises:
        ValueError: two cannot. The message is one line.
    """
    for number, subscriber in enumerate(subscribers):
        if (reason := conflict(subscriber, subscribers[:number])) is not None:
            raise ValueError(reason)
    return subscribers


def together(of_settings: Iterable[Subscriber], registered: Iterable[Subscriber]) -> tuple[Subscriber, ...]:
    """Those of the settings, and those of the registry that can stand beside them: the settings win."""
    all_of_them = list(of_settings)
    all_of_them += [one for one in registered if conflict(one, all_of_them) is None]
    return tuple(all_of_them)
