"""What Prometheus reads of a receiver and of a worker at work: how much, how long, how old, how full."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from bridge.amqp.publish_channel import MAX_BYTES_IN_FLIGHT
from bridge.operations import subscribers
from bridge.settings.subscribers import Subscriber
from bridge.telemetry.multiprocess import SharedMetrics
from bridge.worker import list_metrics, subscriber_watch
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.scraping import becoming, scraped
from tests.support.supervised import connected, folder_of
from tests.support.wire import ask, post
from tests.support.working import body_of, bounces, changed, working

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.settings.sections import Settings
    from tests.support.processes import Processes
    from tests.support.rabbit import Rabbit
    from tests.support.working import Workplace

AN_HOUR = 3600
UNKNOWN_MESSAGE = 5000
"""The simulator knows those up to 1000."""


@pytest.fixture
def overrides(overrides: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Settings of a role whose metrics can be read."""
    return changed(overrides, health={"port": free_port()})


async def test_a_receiver_tells_how_old_events_are_when_they_come_and_when_they_are_confirmed(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit
) -> None:
    """By the time that each bears; one from the future is not old, and one from 2018 as old as can be told."""
    assert rabbit
    receiver = await processes.start("receiver", overrides=overrides)
    port = (await receiver.says("receiver.started"))["port"]
    await receiver.says("broker.connected")
    now = int(time.time())
    for number, happened_at in enumerate((now + AN_HOUR, now - AN_HOUR - 60, 1539062173)):
        assert (await ask(port, post(body_of("opened", number, happened_at)))).json[
            "durability"
        ] == "confirmed"
    read = await scraped(overrides["health"]["port"])
    for stage in ("received", "confirmed"):
        within = {
            seconds: read[f'bridge_event_age_seconds_bucket{{le="{seconds}",stage="{stage}"}}']
            for seconds in ("1.0", "3600.0", "14400.0", "604800.0")
        }
        assert within == {"1.0": 1, "3600.0": 1, "14400.0": 2, "604800.0": 2}
        assert read[f'bridge_event_age_seconds_count{{stage="{stage}"}}'] == 3


async def test_a_worker_tells_of_each_subscriber(
    workplace: Workplace, rabbit: Rabbit, settings: Settings
) -> None:
    """Of the settings' and of those that are registered while it runs; one that is removed leaves nothing behind."""
    settings = settings.model_copy(update={"subscribers": (Subscriber(queue="crm", events=("opened",)),)})
    prefix, port = settings.rabbitmq.prefix, settings.health.port
    assert workplace
    assert port is not None

    def consumers(read: Mapping[str, float], queue: str) -> float | None:
        return read.get(f'bridge_subscriber_consumers{{queue="{prefix}{queue}"}}')

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(subscriber_watch, "LOOK_EVERY_SECONDS", 0.1)
        async with working(settings):
            await becoming(port, lambda read: consumers(read, "crm") == 0)
            shop = Subscriber(queue="shop", changes=True)
            await subscribers.add(settings, shop, actor="somebody", as_it_is=False)
            await becoming(port, lambda read: consumers(read, "shop") == 0)
            await subscribers.remove(settings, await subscribers.preview_removal(settings, "shop"))
            await becoming(port, lambda read: consumers(read, "shop") is None)
            assert consumers(await scraped(port), "crm") == 0
    async with rabbit.channel() as channel:
        for queue in ("crm", "crm.dead"):
            await channel.queue_delete(f"{prefix}{queue}")


async def test_a_receiver_tells_of_its_confirms_its_window_and_its_broker(
    processes: Processes, overrides: dict[str, Any], amqp_url: str, rabbit: Rabbit
) -> None:
    """Outcomes that have not happened are 0; what is spooled is confirmed later, and as old as it is then."""
    assert rabbit
    async with Proxy.serve(amqp_url) as proxy:
        through = changed(overrides, rabbitmq={"urls": [proxy.url(amqp_url)], "reconnect_max": 0.1})
        receiver = await processes.start("receiver", overrides=through)
        port, health = (await receiver.says("receiver.started"))["port"], overrides["health"]["port"]
        await receiver.says("broker.connected")
        await ask(port, post(body_of("opened", 1)))
        read = await scraped(health)
        assert read["bridge_confirm_seconds_count"] == 1
        assert 0 < read["bridge_confirm_seconds_sum"] < 10
        outcomes = {one: read[f'bridge_publishes_total{{outcome="{one}"}}'] for one in OUTCOMES}
        assert outcomes == {"confirmed": 1, "nacked": 0, "returned": 0, "lost": 0}
        assert read["bridge_publisher_window_messages"] == 10_000
        assert read["bridge_publisher_window_bytes"] == MAX_BYTES_IN_FLIGHT
        assert read["bridge_publisher_in_flight_messages"] == read["bridge_publisher_in_flight_bytes"] == 0
        assert state(read) == {"up": 1, "blocked": 0, "down": 0}
        proxy.refuse()
        await becoming(health, lambda read: state(read) == {"up": 0, "blocked": 0, "down": 1})
        assert (await ask(port, post(body_of("opened", 2)))).json["durability"] == "spooled"
        read = await scraped(health)
        assert read['bridge_event_age_seconds_count{stage="received"}'] == 2
        assert read['bridge_event_age_seconds_count{stage="confirmed"}'] == 1
        proxy.accept()
        await becoming(health, lambda read: read['bridge_event_age_seconds_count{stage="confirmed"}'] == 2)


async def test_what_waits_for_its_confirm_is_in_the_window(
    processes: Processes, overrides: dict[str, Any], amqp_url: str, rabbit: Rabbit
) -> None:
    """In messages and in bytes, as long as RabbitMQ says nothing."""
    assert rabbit
    async with Proxy.serve(amqp_url) as proxy:
        through = changed(
            overrides, rabbitmq={"urls": [proxy.url(amqp_url)]}, receiver={"confirm_wait": 0.05}
        )
        receiver = await processes.start("receiver", overrides=through)
        port = (await receiver.says("receiver.started"))["port"]
        await receiver.says("broker.connected")
        proxy.to_client.pause()
        body = body_of("opened", 1)
        assert (await ask(port, post(body))).json["durability"] == "spooled"
        read = await scraped(overrides["health"]["port"])
        assert read["bridge_publisher_in_flight_messages"] == 1
        assert read["bridge_publisher_in_flight_bytes"] == len(body)


async def test_a_supervisor_adds_up_ages_and_confirms_through_the_death_of_one_process(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit
) -> None:
    """What the dead one had counted stays, its window and its connection do not; the version is told once."""
    assert rabbit
    two = changed(overrides, receiver={"processes": 2})
    async with connected(processes, two) as receivers:
        health = two["health"]["port"]
        await receivers.accepts(*range(30))
        # A process that does not answer the supervisor in a second tells of its last counts a moment later.
        read = await becoming(health, lambda read: counted(read) == {30})
        assert state(read) == {"up": 2, "blocked": 0, "down": 0}
        assert read["bridge_publisher_window_messages"] == 20_000
        assert [value for name, value in read.items() if name.startswith("bridge_build_info")] == [1]
        [victim, _] = await receivers.pids()
        os.kill(victim, signal.SIGKILL)
        await receivers.supervisor.says("broker.connected", times=3)
        await receivers.accepts(*range(30, 50))
        read = await becoming(health, lambda read: state(read)["up"] == 2 and counted(read) == {50})
        assert read["bridge_publisher_window_messages"] == 20_000


async def test_what_a_killed_process_has_counted_is_kept_though_nobody_has_read_it(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit
) -> None:
    """It hands over each second: nobody scrapes between the last answer and the end of both processes."""
    assert rabbit
    two = changed(overrides, receiver={"processes": 2})
    async with connected(processes, two) as receivers:
        pids = await receivers.pids()
        all_of_them = {
            'bridge_answers_total{answer="confirmed"} 20.0', "bridge_confirm_seconds_count 20.0"
        }  # fmt: skip
        await receivers.accepts(*range(20))
        in_files = SharedMetrics(folder_of(pids))
        await eventually(lambda: all_of_them <= set(in_files.exposition().decode().splitlines()))
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        await receivers.supervisor.says("broker.connected", times=4)
        read = await scraped(two["health"]["port"])
        assert read['bridge_answers_total{answer="confirmed"}'] == 20
        assert read["bridge_confirm_seconds_count"] == 20


async def test_a_worker_tells_of_what_it_takes_and_how_long_that_is(
    overrides: dict[str, Any], settings: Settings, workplace: Workplace
) -> None:
    """Deliveries, batches, the time unacknowledged, the age on the list; a repeat is handled, and does not count as old."""
    happened_at = int(time.time()) - 7
    async with working(settings):
        await workplace.send(*(body_of("hard_bounced", number, happened_at) for number in range(1, 6)))
        await workplace.changes(5)
        await workplace.send(body_of("hard_bounced", 1, happened_at))
        read = await becoming(
            overrides["health"]["port"],
            lambda read: read['bridge_events_handled_total{outcome="repeated"}'] == 1,
        )
    assert read['bridge_events_consumed_total{redelivered="no"}'] == 6
    assert read['bridge_events_consumed_total{redelivered="yes"}'] == 0
    assert read['bridge_events_handled_total{outcome="added"}'] == 5
    assert read["bridge_handling_seconds_count"] == 6
    assert read["bridge_batch_events_sum"] == 6
    assert 2 <= read["bridge_batch_events_count"] <= 6
    assert read['bridge_event_age_seconds_count{stage="handled"}'] == 5
    assert read['bridge_event_age_seconds_bucket{le="5.0",stage="handled"}'] == 0
    assert read['bridge_event_age_seconds_bucket{le="30.0",stage="handled"}'] == 5
    assert read["bridge_unacknowledged_messages"] == 0
    assert read["bridge_prefetch_messages"] == 500
    assert read['bridge_provider_calls_total{status="200"}'] == 5
    assert read['bridge_provider_call_seconds_count{status="200"}'] == 5


async def test_a_worker_tells_of_retries_by_reason_and_delay(
    overrides: dict[str, Any], settings: Settings, workplace: Workplace
) -> None:
    """Each delay queue by itself; those that nothing has gone to are 0, and so is each reason to give up."""
    async with working(settings):
        await workplace.send(*bounces([UNKNOWN_MESSAGE]))
        read = await becoming(
            overrides["health"]["port"],
            lambda read: read['bridge_dead_letters_total{reason="unknown-message"}'] == 1,
        )
    assert read['bridge_retries_total{delay="0.2",reason="unknown-message"}'] == 1
    longer = read['bridge_retries_total{delay="0.5",reason="unknown-message"}']
    assert read['bridge_events_handled_total{outcome="delayed"}'] == 1 + longer
    assert read['bridge_retries_total{delay="0.2",reason="provider-failure"}'] == 0
    assert read['bridge_dead_letters_total{reason="malformed"}'] == 0
    assert read['bridge_provider_call_seconds_count{status="404"}'] >= 2


async def test_a_worker_tells_how_long_the_list_is_and_what_is_not_published(
    overrides: dict[str, Any], settings: Settings, workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By reason, and for all reasons; counted beside the work, and by no scrape."""
    monkeypatch.setattr(list_metrics, "LIST_EVERY_SECONDS", 0.05)
    monkeypatch.setattr(list_metrics, "OUTBOX_EVERY_SECONDS", 0.05)
    monkeypatch.setattr(list_metrics, "_MAX_DUTY_CYCLE", 1.0)  # a count that took long is not the last one
    health = overrides["health"]["port"]
    async with working(settings):
        await workplace.send(*bounces(range(1, 4)), body_of("complained", 4))
        await workplace.changes(4)
        read = await becoming(
            health,
            lambda read: (
                read.get('bridge_list_entries{reason="complaint"}') == 1
                and read['bridge_list_entries{reason="hard_bounce"}'] == 3
                and read["bridge_outbox_changes"] == 0
            ),
        )
    assert read['bridge_list_entries{reason="manual"}'] == 0
    assert read["bridge_outbox_oldest_seconds"] == 0


OUTCOMES = ("confirmed", "nacked", "returned", "lost")


def counted(read: dict[str, float]) -> set[float | None]:
    """Of how many events it tells, wherever each is counted once."""
    return {
        read.get("bridge_confirm_seconds_count"),
        *(
            read.get(f'bridge_event_age_seconds_count{{stage="{stage}"}}')
            for stage in ("received", "confirmed")
        ),
    }


def state(read: dict[str, float]) -> dict[str, float]:
    """Of the connections that publish."""
    return {
        one: read[f'bridge_broker_state{{state="{one}",use="publish"}}'] for one in ("up", "blocked", "down")
    }
