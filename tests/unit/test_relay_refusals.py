"""How long the relay waits after a refusal, and what it needs in RabbitMQ before it publishes."""

from __future__ import annotations

import pytest

from bridge.amqp.publish_errors import LostError, NackedError, PublishError, ReturnedError
from bridge.broker.topology import Names, for_exchange
from bridge.broker.topology_plan import planned_topology
from bridge.settings.loading import load_settings
from bridge.settings.subscribers import Subscriber
from bridge.worker.change_bindings import BindingsRefusedError
from bridge.worker.relay_refusals import RelayRefusals, StillBindingError


def waits_after(*errors: PublishError) -> float:
    refusals = RelayRefusals()
    for error in errors:
        refusals.note(error)
    return refusals.wait_seconds if refusals else -1.0


def test_after_a_first_return_the_bindings_are_made_and_nothing_is_waited_for() -> None:
    """Then later and later, at most half a minute: no queue has a copy."""
    returned = ReturnedError("NO_ROUTE")
    assert waits_after(returned) == 0
    assert 2 <= waits_after(returned, returned) < 3
    assert waits_after(*[returned] * 20) == 30


def test_after_nacks_the_wait_grows_beyond_half_a_minute() -> None:
    """Each attempt adds a copy to the queues that take it."""
    assert waits_after(*[NackedError("full")] * 20) >= 600


@pytest.mark.parametrize("error", [LostError("gone"), PublishError("not connected")])
def test_what_is_no_refusal_ends_the_row(error: PublishError) -> None:
    """The relay then waits as it does between two looks."""
    assert waits_after(NackedError("full"), error) < 0


def test_refused_bindings_are_tried_later_and_later() -> None:
    """At most half a minute: somebody may run `bridge topology apply`."""
    assert 1 <= waits_after(BindingsRefusedError("no")) < 2
    assert waits_after(*[BindingsRefusedError("no")] * 20) == 30


def test_what_others_have_to_bind_is_published_again_once_it_arrives() -> None:
    """Once: then they have had the time to bind the others, too."""
    refusals = RelayRefusals()
    for error, left in (
        (NackedError("full"), False),
        (LostError("gone"), False),
        (ReturnedError("NO_ROUTE"), False),  # the relay binds them itself now
        (ReturnedError("NO_ROUTE"), True),
        (StillBindingError("again"), False),
        (ReturnedError("NO_ROUTE"), True),
        (LostError("gone"), False),
        (BindingsRefusedError("no"), True),
    ):
        refusals.note(error)
        assert refusals.left_to_others == left
    refusals.clear()
    assert not refusals.left_to_others


def test_changes_need_their_exchange_and_the_queues_of_those_who_follow_them() -> None:
    """Not those who only get events, and no binding to the events, which may be refused."""
    followers = [
        Subscriber(queue="crm", events=("opened",), changes=True),
        Subscriber(queue="copy", changes=True),
    ]
    others = [Subscriber(queue="shop", events=("opened",))]
    exchange = Names().changes
    needed = for_exchange(planned_topology(load_settings(), [*followers, *others]), exchange)
    assert [one.name for one in needed.exchanges] == [exchange]
    assert [queue.name for queue in needed.queues] == ["crm.dead", "crm", "copy.dead", "copy"]
    assert [(one.exchange, one.queue, one.key) for one in needed.bindings] == [
        (exchange, "crm", "#"),
        (exchange, "copy", "#"),
    ]
