"""The rules of deliveries: nothing answered 200 is missing, nothing comes that was not sent, and an id has one body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.support.history.violations import Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.history.history import Arrival, History
    from tests.support.history.records import Subscribed
    from tests.support.history.sent import Sent, SentEvents

_ALL: Final = "#"


def check_arrivals(history: History, sent: SentEvents) -> Iterator[Violation]:
    """Compare what was posted with what the queues have handed over."""
    bound = [(one, line) for one, line in history.subscriptions if one.to == "events"]
    yield from _lost(history, sent, bound)
    yield from _identities(history, sent)
    names: dict[str, set[str]] = {}
    for one, _ in bound:
        names.setdefault(one.queue, set()).update(one.names)
    for arrival in history.arrivals:
        yield from _unexpected(arrival, sent, names.get(arrival.delivered.queue))


def _lost(history: History, sent: SentEvents, bound: list[tuple[Subscribed, int]]) -> Iterator[Violation]:
    arrived: dict[str, set[str]] = {}
    for arrival in history.arrivals:
        arrived.setdefault(arrival.delivered.queue, set()).add(arrival.delivered.body)
    for subscribed, line in bound:
        here = arrived.get(subscribed.queue, set())
        every = _ALL in subscribed.names
        for event in sent.by_body.values():
            if (
                event.accepted_since is not None
                and event.accepted_since >= subscribed.at
                and event.body not in here
                and (every or event.name in subscribed.names)
            ):
                yield Violation(
                    "lost-event",
                    event.about,
                    f"{event.about} was answered 200, and queue {subscribed.queue}, which is bound to it, has never handed it over",
                    (line, *event.lines),
                )


def _identities(history: History, sent: SentEvents) -> Iterator[Violation]:
    """An id has one body, and a body has one id: as the answers and the deliveries say."""
    seen: list[tuple[str, str, int]] = [
        (post.ended.event_id, post.invoked.body, post.lines[-1])
        for post in history.posts
        if post.ended is not None and post.ended.event_id
    ]
    seen += [
        (one.delivered.event_id, one.delivered.body, one.line)
        for one in history.arrivals
        if one.delivered.event_id
    ]
    bodies: dict[str, tuple[str, int]] = {}
    ids: dict[str, tuple[str, int]] = {}
    told: set[tuple[str, str]] = set()
    for event_id, body, line in seen:
        if (event_id, body) in told:
            continue
        told.add((event_id, body))
        first_body, first = bodies.setdefault(event_id, (body, line))
        if first_body != body:
            yield Violation(
                "two-bodies",
                event_id,
                f"event {event_id} has two bodies: {first_body} in line {first}, {body} in line {line}",
                (first, line),
            )
        first_id, first = ids.setdefault(body, (event_id, line))
        if first_id != event_id:
            known = sent.by_body.get(body)
            what = f"body {body}" if known is None else f"{known.name} of message {known.message}"
            yield Violation(
                "two-ids",
                first_id,
                f"{what} has two ids, {first_id} and {event_id}: nobody can drop the repeat",
                (first, line),
            )


def _unexpected(arrival: Arrival, sent: SentEvents, names: set[str] | None) -> Iterator[Violation]:
    delivered, line = arrival
    event = sent.by_body.get(delivered.body)
    what = f"queue {delivered.queue} has handed over {delivered.name or 'an event'} {delivered.event_id}".rstrip()
    if event is None:
        yield Violation(
            "unsent-event",
            delivered.event_id or delivered.body,
            f"{what}, and nobody has posted its body {delivered.body}",
            (line,),
        )
        return
    if event.refused:
        yield Violation(
            "refused-event",
            event.about,
            f"{what}, although every POST of it was refused",
            (*event.lines, line),
        )
    elif delivered.at < event.first_sent:
        yield Violation("early-event", event.about, f"{what} before it was posted", (*event.lines[:2], line))
    yield from _misnamed(arrival, event, names, what)


def _misnamed(arrival: Arrival, event: Sent, names: set[str] | None, what: str) -> Iterator[Violation]:
    delivered, line = arrival
    if delivered.name and delivered.name != event.name:
        yield Violation(
            "wrong-name", event.about, f"{what}, which was posted as {event.name}", (event.lines[0], line)
        )
    elif names is not None and _ALL not in names and event.name not in names:
        yield Violation(
            "misrouted-event",
            event.about,
            f"{what}, and is not bound to {event.name}",
            (event.lines[0], line),
        )
