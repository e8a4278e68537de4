"""The fixtures for pytest. `pip install bridge[testing]` is all that it takes: pytest finds this plugin by itself."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any, Final, Protocol

import pytest

from bridge.testing.builders import change, event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bridge.testing.broker_publishing import BrokerPublisher
    from bridge.testing.message import BridgeMessage

OPTION: Final = "--bridge-broker-url"
INI: Final = "bridge_broker_url"
VARIABLE: Final = "RABBITMQ_TEST_URL"
"""No name that begins with `BRIDGE_`: those are settings of the bridge."""


class PublishEvent(Protocol):
    """Publishes messages to a queue or an exchange of the broker for tests."""

    def __call__(
        self, *messages: BridgeMessage, queue: str | None = None, exchange: str | None = None
    ) -> None:
        """As `BrokerPublisher.publish`."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the broker for tests is."""
    about = (
        f"amqp://… of a broker for tests, for the fixture publish_event; else {VARIABLE} in the environment"
    )
    parser.getgroup("bridge").addoption(OPTION, metavar="URL", help=about)
    parser.addini(INI, about)


@pytest.fixture
def bridge_event() -> Callable[..., BridgeMessage]:
    """Makes events, as `bridge.testing.event` does; each of another e-mail (1, 2, 3, …), unless `message_id` is given."""
    numbers = itertools.count(1)

    def make(*name: str, **about: Any) -> BridgeMessage:
        return event(*name, **{"message_id": next(numbers)} | about)

    return make


@pytest.fixture
def suppression_change() -> Callable[..., BridgeMessage]:
    """Makes changes of the list, as `bridge.testing.change` does; their ids grow, unless `change_id` is given."""
    numbers = itertools.count(1)

    def make(*action_and_address: str, **about: Any) -> BridgeMessage:
        return change(*action_and_address, **{"change_id": next(numbers)} | about)

    return make


@pytest.fixture
def publish_event(_bridge_broker: BrokerPublisher) -> PublishEvent:
    """Publishes messages to a queue (`queue=`) or an exchange (`exchange=`) of your broker, which must be there.

    Where the broker is, the option `--bridge-broker-url`, `bridge_broker_url` in pytest's settings, or the variable
    `RABBITMQ_TEST_URL` says; without one of them the test is skipped.
    """

    def publish(*messages: BridgeMessage, queue: str | None = None, exchange: str | None = None) -> None:
        _bridge_broker.publish(messages, queue=queue, exchange=exchange)

    return publish


@pytest.fixture(scope="session")
def _bridge_broker(pytestconfig: pytest.Config) -> Iterator[BrokerPublisher]:
    url = pytestconfig.getoption(OPTION) or pytestconfig.getini(INI) or os.environ.get(VARIABLE)
    if not url:
        pytest.skip(f"no broker for tests: give {OPTION}, {INI} in pytest's settings, or {VARIABLE}")
    from bridge.testing.broker_publishing import BrokerPublisher  # noqa: PLC0415 -- only who publishes loads the client

    with BrokerPublisher(str(url)) as publisher:
        yield publisher
