"""The pages of the console that show how things are: overview, subscribers and the tail; without a browser."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from bridge.api.access import Access
from bridge.api.freshness import Freshness
from bridge.api.open_list import OpenList
from bridge.broker import declaring
from bridge.broker.topology_plan import planned_topology
from bridge.console import checkup, live, monitor
from bridge.console.checkup import Checkup
from bridge.console.monitor import Monitor
from bridge.console.verdict import verdict_of
from bridge.diagnostics.status import StatusMonitor
from bridge.roles.api import ConsoleParts
from bridge.settings import sections
from bridge.settings.loading import load_settings
from bridge.telemetry import health
from bridge.telemetry.health import Readiness
from bridge.telemetry.metrics import Metrics
from tests.support.archiving import archive
from tests.support.console import READER, TOKENS, console_client, serving_console
from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.server_sent import event_stream
from tests.support.working import body_of, changed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from bridge.diagnostics.finding import Finding
    from bridge.diagnostics.status import Status
    from bridge.settings.sections import Settings
    from tests.support.console import ConsoleClient
    from tests.support.node import Control
    from tests.support.rabbit import Rabbit

AT = 1_750_000_000_000
NOBODY = "amqp://nobody:nothing@127.0.0.1:9/"
SILENT = "http://127.0.0.1:9"
DATABASE_DOWN = "the database of the suppression list does not answer"


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nobody waits for them."""
    monkeypatch.setattr(monitor, "EVERY_SECONDS", 0.1)
    monkeypatch.setattr(live, "EVERY_SECONDS", 0.05)


@pytest.fixture
def alone(tmp_path: Path) -> Settings:
    """Neither RabbitMQ nor a role answers."""
    return load_settings(
        overrides={
            "api": {"port": 0, "tokens": TOKENS},
            "rabbitmq": {"urls": [NOBODY], "management_url": SILENT},
            "suppression": {"database_url": f"sqlite+aiosqlite:///{tmp_path}/list.sqlite3"},
            "spool": {"directory": f"{tmp_path}/spool"},
            "health": {"port": 0, "roles": [SILENT]},
        }
    )


@pytest.fixture
async def console(alone: Settings) -> AsyncIterator[ConsoleClient]:
    async with serving_console(alone) as client:
        await client.sign_in(READER)
        yield client


async def test_without_rabbitmq_it_is_said_what_is_wrong_since_when_and_what_to_do(
    console: ConsoleClient,
) -> None:
    """On the overview at once and by itself; the other pages have a line on top, and what is not known is no zero."""
    async with event_stream(console, "/events") as stream:
        problems = await stream.until("problems", "RabbitMQ cannot be reached")
        numbers = await stream.until("numbers", "is not known")
    assert "Since before" in problems
    assert "Receivers answer 200, and keep events in their spools" in problems
    assert "<code>docker compose start rabbitmq</code>" in problems
    assert "127.0.0.1:9 cannot be asked" in problems
    assert "does not answer" in numbers
    page = (await console.get("/")).text
    assert "things are wrong." in page
    assert "All is well" not in page
    assert "RabbitMQ does not answer" in (await console.get("/list")).text
    subscribers = (await console.get("/subscribers")).text
    assert "No other service has a queue of its own" in subscribers


async def test_what_has_not_changed_is_not_sent_again(console: ConsoleClient) -> None:
    """A look that has seen the same leaves the page alone: only its time is sent."""
    async with event_stream(console, "/events") as stream:
        await stream.until("problems", "RabbitMQ cannot be reached")
        await stream.until("seen")
        after = [sent.event for _ in range(9) if (sent := await stream.next()) is not None]
    assert set(after) <= {
        "seen",
        "point",
        "checked",
        "problems",
        "headline",
    }  # doctor's findings come meanwhile
    assert after.count("seen") > 1
    assert "numbers" not in after


async def test_a_stream_ends_with_its_session(console: ConsoleClient) -> None:
    """Whoever has signed out sees nothing more."""
    async with (
        event_stream(console, "/events") as stream,
        event_stream(console, "/subscribers/events") as other,
    ):
        await stream.until("seen")
        await console.post("/sign-out")
        await stream.end()
        await other.end()
    assert (await console.get("/")).status == 303


async def test_a_look_that_fails_is_not_well(console: ConsoleClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of our own is shown, and the looks go on: afterwards the page is right again."""

    async def failing(_: StatusMonitor) -> Status:
        raise RuntimeError("a number that cannot be")

    async with event_stream(console, "/events") as stream:
        await stream.until("problems", "RabbitMQ cannot be reached")
        with monkeypatch.context() as patched:
            patched.setattr(StatusMonitor, "read", failing)
            headline = await stream.until("headline", "Not known now.")
            assert "a number that cannot be" in headline
        await stream.until("headline", "wrong.")


async def test_a_look_that_does_not_end_makes_the_page_old(
    console: ConsoleClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was seen before is not passed off as of now: the page says so by itself, and is right again afterwards."""
    answers, read = asyncio.Event(), StatusMonitor.read

    async def hanging(looking: StatusMonitor) -> Status:
        await answers.wait()
        return await read(looking)

    async with event_stream(console, "/events") as stream:
        await stream.until("headline", "wrong.")
        monkeypatch.setattr(StatusMonitor, "read", hanging)
        monkeypatch.setattr(monitor, "STALE_SECONDS", 0.5)
        headline = await stream.until("headline", "Not known now.")
        assert "What you see below is of that time" in headline
        assert "This is old." in (await console.get("/subscribers")).text
        monkeypatch.setattr(monitor, "STALE_SECONDS", 30.0)
        answers.set()
        await stream.until("headline", "wrong.")


async def test_the_database_and_the_provider_are_named_when_they_are_down(
    alone: Settings, postgresql_list: str
) -> None:
    """With the time, as it begins and as it ends; on the other pages, too. What a worker says of the provider counts."""
    metrics = Metrics()
    metrics.breaker_state.labels("provider").set(2)
    check, exposition = health.process_health(metrics, lambda: Readiness(ready=True, parts={"consume": {}}))
    port = free_port()
    async with (
        Proxy.serve(postgresql_list) as proxy,
        health.serve(sections.Health(port=port), check, exposition, default_port=0),
    ):
        settings = alone.model_copy(
            update={
                "health": sections.Health(port=0, roles=(f"http://127.0.0.1:{port}",)),
                "suppression": alone.suppression.model_copy(
                    update={"database_url": SecretStr(proxy.url(postgresql_list))}
                ),
            }
        )
        async with serving_console(settings) as client:
            await client.sign_in(READER)
            async with event_stream(client, "/events") as stream:
                problems = await stream.until("problems", "workers wait for the provider")
                assert "no message loses an attempt" in problems
                assert DATABASE_DOWN not in problems
                proxy.refuse()
                problems = await stream.until("problems", DATABASE_DOWN)
                assert "senders are answered 503" in problems
                assert problems.index(DATABASE_DOWN) < problems.index("workers wait for the provider")
                strip = (await client.get("/no-such-page")).text
                assert "The provider&#39;s API does not answer the workers" in strip
                assert "The database of the suppression list does not answer" in strip
                proxy.accept()
                await stream.until("checked", DATABASE_DOWN)  # among what is over


async def test_an_old_look_is_not_well(alone: Settings) -> None:
    """However well it was: nothing is known of now."""
    now = 1000.0
    access = Access([], rate=1)
    parts = ConsoleParts(alone, access, OpenList(), Freshness(), Metrics())
    looking = Monitor(parts, clock=lambda: now)
    assert verdict_of(looking).sentence == "Not known yet."
    now += monitor.STALE_SECONDS + 1
    assert looking.is_stale
    assert not looking.well


async def test_the_checks_are_made_again_when_the_database_goes_and_comes_back(
    alone: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they have found is not shown for another minute; otherwise they are not repeated so soon."""
    parts = ConsoleParts(alone, Access([], rate=1), OpenList(), Freshness(), Metrics())
    made: list[str] = []

    async def run_checks(_: Callable[[], Settings]) -> list[Finding]:
        made.append(parts.freshness.problem)
        return []

    monkeypatch.setattr(checkup, "run_checks", run_checks)
    looking = Monitor(parts)
    for problem in ("", "", "it does not answer", "it does not answer", "", ""):
        parts.freshness.problem = problem
        await looking._add(None, "not looked")
        await looking.checkup.run_if_due()
    assert made == ["", "it does not answer", ""]


async def test_checks_that_fail_begin_anew(console: ConsoleClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody looks."""
    run, began = Checkup.run_if_due, 0

    async def failing_once(checks: Checkup, *every: float) -> None:
        nonlocal began
        began += 1
        if began == 1:
            raise RuntimeError("a check has a mistake")
        await run(checks, *every)

    monkeypatch.setattr(Checkup, "run_if_due", failing_once)
    async with event_stream(console, "/events") as stream:
        await stream.until("problems", "RabbitMQ reachable")
    assert began > 1


async def test_the_checks_can_be_asked_for(console: ConsoleClient) -> None:
    """They change nothing, so that a token that reads is enough; without the page's token of the form they do not run."""
    found = await console.post("/overview/check", {"HX-Request": "true"})
    assert found.status == 200
    assert "RabbitMQ reachable" in found.text
    assert "file descriptors" not in found.text
    assert (await console.post("/overview/check", csrf="another")).status == 403


@pytest.fixture
async def listening(
    rabbit: Rabbit, overrides: dict[str, dict[str, Any]], settings: Settings
) -> AsyncIterator[ConsoleClient]:
    await declaring.declare(rabbit.connection, planned_topology(settings))
    with_console = changed(overrides, api={"port": 0, "tokens": TOKENS})
    async with serving_console(load_settings(overrides=with_console)) as client:
        await client.sign_in(READER)
        yield client


async def test_the_tail_shows_what_comes_in(
    listening: ConsoleClient, rabbit: Rabbit, settings: Settings
) -> None:
    """Only what was asked for; what stands in an event is text, whatever it looks like."""
    bodies = [body_of("opened", 12), body_of("clicked", 13), b'{"<b>secret": 1}']
    async with (
        event_stream(listening, "/live/events") as all_of_them,
        event_stream(listening, "/live/events?event=opened&contains=12") as some,
        event_stream(listening, "/live/events?event=malformed") as malformed,
    ):
        for stream in (all_of_them, some, malformed):
            await stream.until("state", '"up":true')
        await archive(rabbit, settings, [(body, AT) for body in bodies])
        assert "clicked" in await all_of_them.until("rows", "clicked")
        rows = await some.until("rows")
        assert "opened" in rows
        assert "clicked" not in rows
        assert "message is missing or not an object" in await malformed.until("rows")


async def test_a_viewer_who_leaves_leaves_no_queue(
    listening: ConsoleClient, control: Control, prefix: str
) -> None:
    """RabbitMQ has one for each viewer, and keeps nothing for one who is gone."""
    names = f'[N || {{resource, _, queue, N}} <- rabbit_amqqueue:list_names(<<"/">>), binary:match(N, <<"{prefix}email.tail">>) =/= nomatch]'
    async with event_stream(listening, "/live/events") as stream:
        await stream.until("state", '"up":true')
        assert (await control.evaluate(f"length({names}).")).strip() == "1"
    async with asyncio.timeout(90):
        while (await control.evaluate(f"length({names}).")).strip() != "0":
            pass


async def test_where_there_is_nothing_to_listen_to_it_is_said(
    overrides: dict[str, dict[str, Any]],
) -> None:
    """No exchange, as before the first `bridge topology apply`: trying again does not help, and the stream ends."""
    with_console = changed(overrides, api={"port": 0, "tokens": TOKENS})
    async with serving_console(load_settings(overrides=with_console)) as client:
        await client.sign_in(READER)
        async with event_stream(client, "/live/events") as stream:
            assert "there is no exchange" in await stream.until("refused")
            await stream.end()


async def test_more_viewers_than_there_may_be_are_told(
    listening: ConsoleClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each costs RabbitMQ a queue. Who comes later is told to wait."""
    monkeypatch.setattr(live, "MOST_VIEWERS", 1)
    async with event_stream(listening, "/live/events") as first:
        await first.until("state", '"up":true')
        async with event_stream(listening, "/live/events") as second:
            assert "others look at the events" in await second.until("refused")
            await second.end()


async def test_a_process_that_stops_does_not_wait_for_viewers(
    alone: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their streams end as it stops, long before its deadline for what is in flight; browsers come back by themselves."""
    monkeypatch.setattr(monitor, "EVERY_SECONDS", 3600.0)
    patient = alone.model_copy(update={"api": alone.api.model_copy(update={"drain_timeout": 3600.0})})
    async with AsyncExitStack() as viewers, asyncio.timeout(90):
        async with serving_console(patient) as client:
            viewer = await viewers.enter_async_context(console_client(client.base))
            await viewer.sign_in(READER)
            streams = [
                await viewers.enter_async_context(event_stream(viewer, path))
                for path in ("/events", "/subscribers/events", "/live/events")
            ]
            await streams[-1].until("state", '"up":false')
        for stream in streams:
            await stream.end()
