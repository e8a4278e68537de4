"""Which queues cannot confirm, by what RabbitMQ says of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest

from bridge.broker.management_views import BindingView, QueueView
from bridge.broker.unconfirming_queues import OTHERS, Bound, bound_to, takes, unconfirming

if TYPE_CHECKING:
    from bridge.broker.management import ManagementApi

WELL = QueueView(
    "archive",
    "stream",
    {"x-queue-type": "stream"},
    {},
    ready=0,
    unacknowledged=0,
    consumers=0,
    oldest=None,
    state="running",
    members=1,
    online=1,
)
UNCOUNTED = replace(WELL, members=None, online=None)


class Api:
    """RabbitMQ's, with these bindings at each look, and these queues."""

    def __init__(self, bindings: list[list[BindingView]], *queues: QueueView) -> None:
        self._bindings = bindings
        self._queues = {view.name: view for view in queues}

    async def bindings_from(self, exchange: str) -> list[BindingView]:
        assert exchange == "events"
        return self._bindings.pop(0) if len(self._bindings) > 1 else self._bindings[0]

    async def queue(self, name: str) -> QueueView | None:
        return self._queues.get(name)


def bindings(**keys: str) -> list[BindingView]:
    return [BindingView(queue, key, to_queue=True) for queue, key in keys.items()]


async def seen(api: Api, *names: str) -> Bound:
    return await bound_to(cast("ManagementApi", api), "events", names)


@pytest.mark.parametrize(
    ("key", "name", "gets"),
    [
        ("#", "opened", True),
        ("*", "opened", True),
        ("opened", "opened", True),
        ("opened.#", "opened", True),
        ("clicked", "opened", False),
        ("*.*", "opened", False),
        ("opened.*", "opened", False),
        ("#", OTHERS, True),
        ("newname", OTHERS, True),
        ("opened", OTHERS, False),
    ],
)
def test_a_topic_binding_gets_what_its_key_says(key: str, name: str, *, gets: bool) -> None:
    """An event's name is one word. What is not documented may have any key that no documented name has."""
    assert takes(key, name) is gets


@pytest.mark.parametrize(
    ("view", "why"),
    [
        (WELL, ""),
        (replace(WELL, online=0), "stream 'archive' cannot be written: 0 of its 1 members are online"),
        (
            replace(WELL, members=0, online=0),
            "stream 'archive' cannot be written: 0 of its 0 members are online",
        ),
        (UNCOUNTED, "stream 'archive' cannot be written: RabbitMQ knows no node that has it"),
        (replace(UNCOUNTED, kind="quorum", arguments={"x-queue-type": "quorum"}), ""),
        (
            replace(WELL, kind="quorum", arguments={"x-queue-type": "quorum"}, members=3, online=1),
            "quorum queue 'archive' cannot be written: 1 of its 3 members are online",
        ),
        (replace(WELL, members=3, online=2), ""),
        (
            replace(UNCOUNTED, kind="classic", arguments={}, state="down"),
            "classic queue 'archive' cannot be written: RabbitMQ calls it 'down'",
        ),
        (
            replace(WELL, kind="rabbit_stream_queue", online=0),
            "stream 'archive' cannot be written: 0 of its 1 members are online",
        ),
    ],
)
def test_a_queue_without_a_majority_cannot_confirm(view: QueueView, why: str) -> None:
    """The kind is that of the arguments: RabbitMQ 3.10 has another word for a stream that it cannot start."""
    assert "; ".join(map(str, unconfirming(Bound((view,), ()), uncounted=True))) == why


def test_a_stream_that_is_not_counted_yet_is_well_where_nobody_misses_a_confirm() -> None:
    """It may have been declared a moment ago."""
    assert unconfirming(Bound((UNCOUNTED,), ()), uncounted=False) == []


async def test_a_queue_that_is_bound_and_not_there_cannot_confirm() -> None:
    """RabbitMQ has its bindings, and could not start it; of what kind it is it does not say."""
    [found] = unconfirming(await seen(Api([bindings(archive="#")]), "opened"), uncounted=False)
    assert str(found) == "queue 'archive' cannot be written: RabbitMQ has its bindings, and does not find it"


async def test_a_queue_that_was_deleted_between_two_looks_is_none() -> None:
    """Its bindings went with it: `bridge tail` has such queues."""
    api = Api([bindings(archive="#", tail="#"), bindings(archive="#")], WELL)
    assert await seen(api, "opened") == Bound((WELL,), ())


async def test_queues_that_do_not_get_these_names_are_not_looked_at() -> None:
    """And streams are first, for it is they that a power cut hits."""
    crm = replace(WELL, name="crm", kind="quorum", arguments={})
    zoo = replace(WELL, name="zoo")
    api = Api([bindings(crm="opened", clicks="clicked", zoo="#")], crm, zoo)
    assert await seen(api, "opened") == Bound((zoo, crm), ())
