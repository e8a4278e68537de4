"""The supervised connection: to whichever broker answers, and back after every loss."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from yarl import URL

from bridge import events
from bridge.amqp.connection import Link, LinkState
from bridge.amqp.errors import BrokerUnavailableError, TopologyRefusedError, wait_closed
from bridge.broker.messages import event_message
from bridge.broker.queue_counts import ready_messages
from bridge.roles.publishing import make_publisher
from bridge.settings.loading import load_settings
from bridge.tasks import background_task, wait_while_running
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from tests.support.receiving import exchange_alone, publishing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.publish_errors import PublishError
    from bridge.telemetry.metrics import Metrics
    from tests.support.managed import Managed
    from tests.support.node import Control
    from tests.support.rabbit import Rabbit

OPENED = b'{"message":{"id":1},"event":{"name":"opened","timestamp":1}}'


@dataclass(frozen=True, slots=True)
class House:
    """A user and a virtual host of this name, that somebody has spoilt."""

    control: Control
    name: str
    password: str = "an-uncommon-secret"

    async def spoilt(self, amqp_url: str, trouble: str) -> str:
        """The URL with which nobody gets in, and why not."""
        host, user = f'<<"{self.name}">>', f'<<"{self.name}">>'
        steps = [f'rabbit_auth_backend_internal:add_user({user}, <<"{self.password}">>, <<"tests">>)']
        if trouble != "no virtual host":
            steps.append(f'rabbit_vhost:add({host}, <<"tests">>)')
        if trouble not in {"no virtual host", "no right to it"}:
            steps.append(
                f'rabbit_auth_backend_internal:set_permissions({user}, {host}, <<".*">>, <<".*">>, <<".*">>, <<"tests">>)'
            )
        if trouble == "the limit of the virtual host":
            steps.append(f'rabbit_vhost_limit:set({host}, [{{<<"max-connections">>, 0}}], <<"tests">>)')
        if trouble == "the limit of the user":
            steps.append(
                "rabbit_auth_backend_internal:set_user_limits("
                f'{user}, <<"{{\\"max-connections\\": 0}}">>, <<"tests">>)'
            )
        await self.control.evaluate(f"{', '.join(steps)}.")
        password = "an-other" if trouble == "another password" else self.password
        return str(URL(amqp_url).with_user(self.name).with_password(password).with_path(f"/{self.name}"))

    async def remove(self) -> None:
        await self.control.evaluate(
            f'rabbit_auth_backend_internal:delete_user(<<"{self.name}">>, <<"tests">>), '
            f'case rabbit_vhost:exists(<<"{self.name}">>) of '
            f'true -> rabbit_vhost:delete(<<"{self.name}">>, <<"tests">>); false -> ok end.'
        )


@pytest.fixture
async def house(control: Control, prefix: str) -> AsyncIterator[House]:
    made = House(control, f"{prefix}spoilt")
    yield made
    await made.remove()


def connects(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value("bridge_broker_connects_total", {"use": "publish"}) or 0


def is_up(metrics: Metrics) -> bool:
    return metrics.registry.get_sample_value("bridge_broker_up", {"use": "publish"}) == 1


async def test_the_second_broker_is_used_when_the_first_refuses(
    overrides: dict[str, Any], metrics: Metrics, amqp_url: str, rabbit: Rabbit
) -> None:
    """Every URL of the list is tried, in its order."""
    assert rabbit
    async with Proxy.serve(amqp_url) as first:
        first.refuse()
        overrides["rabbitmq"]["urls"] = [first.url(amqp_url), amqp_url]
        settings = load_settings(overrides=overrides)
        async with publishing(settings, metrics, exchange_alone(settings)) as line:
            await line.up()
            assert is_up(metrics)
            assert line.link.reason == "connected"
        assert not is_up(metrics)
        assert line.link.state is LinkState.DOWN


async def test_a_silent_broker_is_given_up_after_connect_timeout(
    overrides: dict[str, Any], metrics: Metrics, amqp_url: str, rabbit: Rabbit
) -> None:
    """One that takes the connection and says nothing does not keep the next one from being tried."""
    assert rabbit
    async with Proxy.serve(amqp_url) as silent:
        silent.pause()
        overrides["rabbitmq"] |= {"urls": [silent.url(amqp_url), amqp_url], "connect_timeout": 1.0}
        settings = load_settings(overrides=overrides)
        async with publishing(settings, metrics, exchange_alone(settings)) as line:
            await line.up()
        assert silent.connections >= 1


async def test_the_reason_names_every_broker_and_no_password(
    overrides: dict[str, Any], metrics: Metrics, amqp_url: str
) -> None:
    """An operator sees what is wrong with each; a log is no place for credentials."""
    async with Proxy.serve(amqp_url) as refusing, Proxy.serve(amqp_url) as silent:
        refusing.refuse()
        silent.pause()
        wrong = amqp_url.replace("guest:guest@", "guest:an-uncommon-secret@")
        urls = [refusing.url(wrong), silent.url(wrong), wrong]
        overrides["rabbitmq"] |= {"urls": urls, "connect_timeout": 0.5}
        settings = load_settings(overrides=overrides)
        async with publishing(settings, metrics, exchange_alone(settings)) as line:
            await eventually(lambda: "ACCESS_REFUSED" in line.link.reason)
            reason = line.link.reason
    assert line.link.state is LinkState.DOWN
    assert "uncommon" not in reason
    assert "guest" not in reason
    for port in (refusing.port, silent.port):
        assert f"amqp://127.0.0.1:{port}/" in reason
    assert "no answer in 0.5 s" in reason


async def test_a_lost_connection_comes_back(
    overrides: dict[str, Any], metrics: Metrics, amqp_url: str, rabbit: Rabbit
) -> None:
    """Reset, then refused for a while: the link is down, and up again by itself when the broker is back."""
    assert rabbit
    async with Proxy.serve(amqp_url) as proxy:
        overrides["rabbitmq"]["urls"] = [proxy.url(amqp_url)]
        settings = load_settings(overrides=overrides)
        async with publishing(settings, metrics, exchange_alone(settings)) as line:
            await line.up()
            line.opened.clear()
            proxy.refuse()
            await eventually(lambda: line.link.state is LinkState.DOWN)
            proxy.accept()
            await line.up()
            assert is_up(metrics)
            assert connects(metrics) == 2


async def test_latency_does_not_hinder_a_link(
    overrides: dict[str, Any], metrics: Metrics, amqp_url: str, rabbit: Rabbit
) -> None:
    """A broker that is far away is as good as a near one."""
    assert rabbit
    async with Proxy.serve(amqp_url) as proxy:
        proxy.delay(0.01)
        overrides["rabbitmq"]["urls"] = [proxy.url(amqp_url)]
        settings = load_settings(overrides=overrides)
        async with publishing(settings, metrics, exchange_alone(settings)) as line:
            await line.up()
        assert proxy.to_server.passed > 0
        assert proxy.to_client.passed > 0


async def test_the_first_refusal_ends_the_link(overrides: dict[str, Any], metrics: Metrics) -> None:
    """What somebody has to change is told at the start, instead of being tried for ever."""
    link = Link(load_settings(overrides=overrides).rabbitmq, use="publish", metrics=metrics)

    async def session(connection: AbstractConnection) -> None:
        raise TopologyRefusedError(f"not as we need it: {type(connection).__name__}")

    with pytest.raises(TopologyRefusedError, match="not as we need it"):
        await link.run(session)
    assert link.state is LinkState.DOWN
    assert "not as we need it" in link.reason


@pytest.mark.parametrize(
    "mistake", [OSError("a disk is full"), TimeoutError(), asyncio.InvalidStateError()], ids=repr
)
async def test_a_mistake_of_ours_ends_the_link(
    overrides: dict[str, Any], metrics: Metrics, mistake: Exception
) -> None:
    """It is raised as it is, at once: on the next connection it would only be made again."""
    link = Link(load_settings(overrides=overrides).rabbitmq, use="publish", metrics=metrics)

    async def session(connection: AbstractConnection) -> None:
        await ready_messages(connection, "nobodys")
        link.opened()
        raise mistake

    with pytest.raises(type(mistake)) as raised:
        await link.run(session)
    assert raised.value is mistake
    assert connects(metrics) == 1


@pytest.mark.parametrize("mistake", [KeyError("a name"), OSError("a disk is full")], ids=repr)
async def test_a_mistake_in_what_hears_of_a_confirm_ends_the_link(
    overrides: dict[str, Any], metrics: Metrics, rabbit: Rabbit, mistake: Exception
) -> None:
    """It is called by the socket, where an exception would count as a lost connection, and be made for ever."""
    assert rabbit
    settings = load_settings(overrides=overrides)
    message = event_message(events.parse(OPENED), OPENED, exchange=rabbit.names.events, received_at=0)

    def outcome(_: PublishError | None) -> None:
        raise mistake

    link = Link(settings.rabbitmq, use="publish", metrics=metrics)
    publisher = make_publisher(settings, link, metrics, window=10)

    async def session(connection: AbstractConnection) -> None:
        await exchange_alone(settings)(connection)
        await publisher.session(connection)

    async with background_task(link.run(session), name="publish") as publish:
        await wait_while_running(link.up, publish)
        publisher.send(message, outcome)
        await asyncio.wait([publish])
    with pytest.raises(type(mistake)) as raised:
        publish.result()
    assert raised.value is mistake
    assert connects(metrics) == 1


async def test_what_rabbitmq_says_when_it_closes_a_connection_is_the_reason(
    overrides: dict[str, Any], metrics: Metrics, prefix: str, control: Control
) -> None:
    """Not what a library makes of it."""
    settings = load_settings(overrides=overrides)
    link = Link(settings.rabbitmq, use=f"publish-{prefix}", metrics=metrics)
    closed: list[Exception] = []

    async def session(connection: AbstractConnection) -> None:
        if closed:
            return
        try:
            link.opened()
            await wait_closed(connection)
        except BrokerUnavailableError as error:
            closed.append(error)
            raise

    async with background_task(link.run(session), name="publish") as publish:
        await wait_while_running(link.up, publish)
        await control.close_connections(f"bridge publish-{prefix}")
        await asyncio.wait([publish])
    assert str(closed[0]) == "RabbitMQ closed the connection: 320 CONNECTION_FORCED - a test"


@pytest.mark.parametrize(
    ("trouble", "code", "words"),
    [
        ("no virtual host", 530, "vhost"),
        ("no right to it", 530, "access to vhost"),
        ("the limit of the virtual host", 530, "limit"),
        ("the limit of the user", 530, "limit"),
        ("another password", 403, "ACCESS_REFUSED"),
    ],
)
async def test_why_rabbitmq_refuses_a_connection_is_said_in_its_own_words(
    overrides: dict[str, Any],
    metrics: Metrics,
    amqp_url: str,
    house: House,
    trouble: str,
    code: int,
    words: str,
) -> None:
    """The reply code and the text of its `connection.close`, and no password."""
    url = await house.spoilt(amqp_url, trouble)
    overrides["rabbitmq"]["urls"] = [url]
    link = Link(load_settings(overrides=overrides).rabbitmq, use="publish", metrics=metrics)

    async def session(connection: AbstractConnection) -> None:
        raise AssertionError(f"RabbitMQ let us in: {connection}")

    async with background_task(link.run(session), name="publish"):
        await eventually(lambda: "RabbitMQ closed the connection" in link.reason)
    assert f": RabbitMQ closed the connection: {code} " in link.reason
    assert words in link.reason
    assert "Expected" not in link.reason
    assert house.password not in link.reason


async def test_a_session_that_is_done_ends_the_link(overrides: dict[str, Any], metrics: Metrics) -> None:
    """A session that returns has nothing more to do, and its connection is closed."""
    link = Link(load_settings(overrides=overrides).rabbitmq, use="publish", metrics=metrics)
    used: list[AbstractConnection] = []

    async def session(connection: AbstractConnection) -> None:
        used.append(connection)

    await link.run(session)
    assert [connection.is_closed for connection in used] == [True]


async def test_an_alarm_of_the_broker_is_seen(
    overrides: dict[str, Any], metrics: Metrics, prefix: str, alarmed: Managed
) -> None:
    """A memory alarm blocks publishers without a word on the channel: the link is BLOCKED until it clears."""
    message = event_message(events.parse(OPENED), OPENED, exchange=f"{prefix}email.events", received_at=0)
    overrides["rabbitmq"]["urls"] = [alarmed.url]
    settings = load_settings(overrides=overrides)
    async with publishing(settings, metrics, exchange_alone(settings)) as line:
        await line.up()
        await alarmed.control.raise_alarm()
        # RabbitMQ tells a connection that it is blocked when it next publishes.
        confirm = line.publisher.publish(message)
        await eventually(lambda: line.link.state is LinkState.BLOCKED)
        assert "memory" in line.link.reason
        assert not is_up(metrics)
        assert not confirm.done()
        await alarmed.control.clear_alarm()
        await confirm
        await eventually(lambda: line.link.state is LinkState.UP)
        assert is_up(metrics)
        assert connects(metrics) == 1, "it is the same connection"
