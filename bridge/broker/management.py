"""RabbitMQ's management HTTP API, where there is one: what AMQP cannot be asked. Only ever reads."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import aiohttp
import orjson
from yarl import URL

from bridge.amqp.errors import said

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from bridge.broker.topology import Binding
    from bridge.settings.sections import RabbitMQ

_PORTS: Final = {"amqp": ("http", 15672), "amqps": ("https", 15671)}
"""Where the plugin listens unless it is told otherwise: rabbitmq.com/docs/management."""


class ManagementError(Exception):
    """The API cannot be asked, or does not answer this user. Its message says what cannot be seen why."""


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    running: bool
    alarms: tuple[str, ...]
    """Of `memory` and `disk`: while there is one, RabbitMQ takes no publishes on any node."""


@dataclass(frozen=True, slots=True)
class QueueView:
    """A queue as the API has it. RabbitMQ counts every 5 s; what it has not counted yet is None."""

    name: str
    kind: str
    """`quorum`, `classic` or `stream`."""
    arguments: Mapping[str, Any]
    policies: Mapping[str, Any]
    """What policies add to the arguments."""
    ready: int | None
    unacknowledged: int | None
    consumers: int | None
    oldest: int | None
    """Unix seconds of the oldest message's own timestamp. RabbitMQ knows it of classic queues only."""
    size: int | None = None
    """Bytes of all bodies."""
    policy: str = ""
    """Name of the policy in force."""
    operator_policy: str = ""
    """Name of the operator policy in force beside it."""


@dataclass(frozen=True, slots=True)
class ExchangeView:
    arguments: Mapping[str, Any]
    policies: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BindingView:
    destination: str
    key: str
    to_queue: bool


class Management:
    """The API of one broker. Every method raises `ManagementError` where it cannot be asked."""

    def __init__(self, session: aiohttp.ClientSession, addresses: list[str], virtual_host: str) -> None:
        """Make a client; `connect` does, with all it needs.

        Args:
            session: carries the user and password, and bounds each request.
            addresses: of the API, tried in this order until one answers.
            virtual_host: whose queues are meant.
        """
        self._session = session
        self._addresses = addresses
        self._host = quote(virtual_host, safe="")

    async def nodes(self) -> list[Node]:
        return [_node(node) for node in await self._objects("nodes")]

    async def queue(self, name: str) -> QueueView | None:
        """None where there is no such queue."""
        found = await self._get(f"queues/{self._host}/{quote(name, safe='')}")
        return _queue(found) if isinstance(found, dict) else None

    async def exchange(self, name: str) -> ExchangeView | None:
        """None where there is no such exchange."""
        found = await self._get(f"exchanges/{self._host}/{quote(name, safe='')}")
        if not isinstance(found, dict):
            return None
        policies: dict[str, Any] = {}
        if isinstance(policy := found.get("policy"), str) and policy:
            said_of_it = await self._get(f"policies/{self._host}/{quote(policy, safe='')}")
            policies = _mapping(said_of_it, "definition")
        return ExchangeView(_mapping(found, "arguments"), policies)

    async def bindings_from(self, exchange: str) -> list[BindingView]:
        """All that is bound to this exchange."""
        path = f"exchanges/{self._host}/{quote(exchange, safe='')}/bindings/source"
        return [
            BindingView(
                str(found.get("destination", "")),
                str(found.get("routing_key", "")),
                found.get("destination_type") == "queue",
            )
            for found in await self._objects(path)
        ]

    async def consumer_hosts(self, queue: str) -> list[str]:
        """The address that each consumer of this queue is connected from; a new one is not listed for some 5 s."""
        return [
            str(_mapping(found, "channel_details").get("peer_host", "?"))
            for found in await self._objects(f"consumers/{self._host}")
            if _mapping(found, "queue").get("name") == queue
        ]

    async def clock(self) -> float:
        """What time it is where the broker is, Unix seconds; whole seconds."""
        _, date = await self._ask("whoami")
        try:
            return parsedate_to_datetime(date or "").timestamp()
        except ValueError:
            raise ManagementError("RabbitMQ's management API says no time in its answers") from None

    async def _objects(self, path: str) -> list[dict[str, Any]]:
        found = await self._get(path)
        return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []

    async def _get(self, path: str) -> Any:
        body, _ = await self._ask(path)
        if body is None:
            return None
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            raise ManagementError(
                f"what answers at {self._addresses[0]} is not RabbitMQ's management API; "
                "set rabbitmq.management_url"
            ) from None

    async def _ask(self, path: str) -> tuple[bytes | None, str | None]:
        """Body (None for a 404) and Date header, from the first address that answers; later calls ask only that."""
        failures = []
        for address in self._addresses:
            try:
                async with self._session.get(URL(f"{address}/api/{path}", encoded=True)) as answer:
                    body = await answer.read()
            except TimeoutError:
                failures.append(f"{address}: no answer in time")
            except (aiohttp.ClientError, OSError) as error:
                failures.append(f"{address}: {refusal(error)}")
            else:
                self._addresses = [address]
                return _usable(answer, body, address)
        raise ManagementError(f"RabbitMQ's management API cannot be reached ({'; '.join(failures)})")


async def not_bound(management: Management, bindings: Sequence[Binding]) -> tuple[Binding, ...]:
    """Those of these bindings that are not there.

    Raises:
        ManagementError: the API cannot be asked.
    """
    exchanges = list(dict.fromkeys(binding.exchange for binding in bindings))
    found = await asyncio.gather(*(management.bindings_from(exchange) for exchange in exchanges))
    stands = {
        (exchange, view.destination, view.key)
        for exchange, views in zip(exchanges, found, strict=True)
        for view in views
        if view.to_queue
    }
    return tuple(
        binding for binding in bindings if (binding.exchange, binding.queue, binding.key) not in stands
    )


@asynccontextmanager
async def connect(settings: RabbitMQ) -> AsyncIterator[Management]:
    """A client for as long as the context lasts. Nothing is asked until a method is called.

    Args:
        settings: `management_url`, or else the hosts of `urls` at the plugin's own port; user and password of the
            first URL; and how long to wait.
    """
    first = URL(settings.urls[0].get_secret_value())
    authorization = aiohttp.encode_basic_auth(first.user or "guest", first.password or "guest")
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=settings.connect_timeout),
        headers={"Authorization": authorization},
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as session:
        yield Management(session, _addresses(settings), virtual_host(first))


def virtual_host(url: URL) -> str:
    """The one that a broker's URL names; a slash in it is written as `%2F`."""
    return url.path.removeprefix("/").replace("%2F", "/") or "/"


def refusal(error: Exception) -> str:
    """Why there was no answer over HTTP, without what aiohttp repeats of the address."""
    return said(error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error)


def _addresses(settings: RabbitMQ) -> list[str]:
    if settings.management_url is not None:
        return [settings.management_url]
    addresses = []
    for secret in settings.urls:
        url = URL(secret.get_secret_value())
        scheme, port = _PORTS[url.scheme]
        addresses.append(str(URL.build(scheme=scheme, host=url.host or "", port=port)))
    return list(dict.fromkeys(addresses))


def _usable(answer: aiohttp.ClientResponse, body: bytes, address: str) -> tuple[bytes | None, str | None]:
    if answer.status == HTTPStatus.NOT_FOUND:
        return None, answer.headers.get("Date")
    if answer.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise ManagementError(
            f"RabbitMQ's management API ({address}) does not answer this user; "
            "give it the tag `monitoring` (rabbitmqctl set_user_tags)"
        )
    if answer.status != HTTPStatus.OK:
        raise ManagementError(f"RabbitMQ's management API ({address}) answered {answer.status}")
    return body, answer.headers.get("Date")


def _node(found: Mapping[str, Any]) -> Node:
    alarms = [name for name, key in (("memory", "mem_alarm"), ("disk", "disk_free_alarm")) if found.get(key)]
    return Node(str(found.get("name", "?")), found.get("running") is True, tuple(alarms))


def _queue(found: Mapping[str, Any]) -> QueueView:
    return QueueView(
        name=str(found.get("name", "?")),
        kind=str(found.get("type", "?")),
        arguments=_mapping(found, "arguments"),
        policies=_mapping(found, "effective_policy_definition"),
        ready=_whole(found.get("messages_ready")),
        unacknowledged=_whole(found.get("messages_unacknowledged")),
        consumers=_whole(found.get("consumers")),
        oldest=_whole(found.get("head_message_timestamp")),
        size=_whole(found.get("message_bytes")),
        policy=found.get("policy") or "",
        operator_policy=found.get("operator_policy") or "",
    )


def _mapping(found: Any, key: str) -> dict[str, Any]:
    """Erlang writes an empty object as an empty list here and there."""
    value = found.get(key) if isinstance(found, dict) else None
    return value if isinstance(value, dict) else {}


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
