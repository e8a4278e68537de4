"""Client of RabbitMQ's management HTTP API, for what AMQP cannot tell. It only reads."""

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

from bridge.text import error_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from bridge.broker.topology import Binding
    from bridge.settings.sections import RabbitMQ

_PORTS: Final = {"amqp": ("http", 15672), "amqps": ("https", 15671)}
"""The default ports of the plugin: rabbitmq.com/docs/management."""


class ManagementError(Exception):
    """The API cannot be reached, or refuses this user. The message says why."""


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    running: bool
    alarms: tuple[str, ...]
    """`memory`, `disk`, or both. During an alarm RabbitMQ blocks publishers on every node."""


@dataclass(frozen=True, slots=True)
class QueueView:
    """A queue as the API shows it. RabbitMQ counts every 5 s; what it has not counted yet is None."""

    name: str
    kind: str
    """`quorum`, `classic` or `stream`."""
    arguments: Mapping[str, Any]
    policies: Mapping[str, Any]
    """Arguments set by policies."""
    ready: int | None
    unacknowledged: int | None
    consumers: int | None
    oldest: int | None
    """Timestamp property of the oldest message, Unix seconds. RabbitMQ has it for classic queues only."""
    size: int | None = None
    """Total bytes of the bodies."""
    policy: str = ""
    """Name of the policy in force."""
    operator_policy: str = ""
    """Name of the operator policy in force."""


@dataclass(frozen=True, slots=True)
class ExchangeView:
    arguments: Mapping[str, Any]
    policies: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BindingView:
    destination: str
    key: str
    to_queue: bool


class ManagementApi:
    """The API of one broker. Every method raises `ManagementError` if the API does not answer."""

    def __init__(self, session: aiohttp.ClientSession, addresses: list[str], virtual_host: str) -> None:
        """Create a client; `connect` does so from the settings.

        Args:
            session: with user, password and timeout.
            addresses: of the API, tried in this order until one answers.
            virtual_host: the one to look at.
        """
        self._session = session
        self._addresses = addresses
        self._host = quote(virtual_host, safe="")

    async def nodes(self) -> list[Node]:
        return [_node(node) for node in await self._objects("nodes")]

    async def queue(self, name: str) -> QueueView | None:
        """None if there is no such queue."""
        found = await self._get(f"queues/{self._host}/{quote(name, safe='')}")
        return _queue(found) if isinstance(found, dict) else None

    async def exchange(self, name: str) -> ExchangeView | None:
        """None if there is no such exchange."""
        found = await self._get(f"exchanges/{self._host}/{quote(name, safe='')}")
        if not isinstance(found, dict):
            return None
        policies: dict[str, Any] = {}
        if isinstance(policy := found.get("policy"), str) and policy:
            policy_object = await self._get(f"policies/{self._host}/{quote(policy, safe='')}")
            policies = _mapping(policy_object, "definition")
        return ExchangeView(_mapping(found, "arguments"), policies)

    async def bindings_from(self, exchange: str) -> list[BindingView]:
        """All bindings of this exchange."""
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
        """The client address of each consumer of this queue. A new one is listed after some 5 s."""
        return [
            str(_mapping(found, "channel_details").get("peer_host", "?"))
            for found in await self._objects(f"consumers/{self._host}")
            if _mapping(found, "queue").get("name") == queue
        ]

    async def clock(self) -> float:
        """The broker's clock, whole Unix seconds."""
        _, date = await self._ask("whoami")
        try:
            return parsedate_to_datetime(date or "").timestamp()
        except ValueError:
            raise ManagementError("RabbitMQ's management API sends no Date header") from None

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
        """Body (None for a 404) and Date header of the first address that answers. Later calls use only that address."""
        failures = []
        for address in self._addresses:
            try:
                async with self._session.get(URL(f"{address}/api/{path}", encoded=True)) as answer:
                    body = await answer.read()
            except TimeoutError:
                failures.append(f"{address}: no answer in time")
            except (aiohttp.ClientError, OSError) as error:
                failures.append(f"{address}: {connect_failure(error)}")
            else:
                self._addresses = [address]
                return _checked_body(answer, body, address)
        raise ManagementError(f"RabbitMQ's management API cannot be reached ({'; '.join(failures)})")


async def find_missing_bindings(
    management: ManagementApi, bindings: Sequence[Binding]
) -> tuple[Binding, ...]:
    """The bindings that do not exist.

    Raises:
        ManagementError: the API does not answer.
    """
    exchanges = list(dict.fromkeys(binding.exchange for binding in bindings))
    found = await asyncio.gather(*(management.bindings_from(exchange) for exchange in exchanges))
    existing = {
        (exchange, view.destination, view.key)
        for exchange, views in zip(exchanges, found, strict=True)
        for view in views
        if view.to_queue
    }
    return tuple(
        binding for binding in bindings if (binding.exchange, binding.queue, binding.key) not in existing
    )


@asynccontextmanager
async def connect(settings: RabbitMQ) -> AsyncIterator[ManagementApi]:
    """A client for the duration of the context. It sends nothing until a method is called.

    Args:
        settings: `management_url`, else the hosts of `urls` at the plugin's default port; user and password of the
            first URL; `connect_timeout`.
    """
    first = URL(settings.urls[0].get_secret_value())
    authorization = aiohttp.encode_basic_auth(first.user or "guest", first.password or "guest")
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=settings.connect_timeout),
        headers={"Authorization": authorization},
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as session:
        yield ManagementApi(session, _addresses(settings), settings.virtual_host)


def connect_failure(error: Exception) -> str:
    """Why there was no HTTP answer, without the address, which aiohttp repeats."""
    return error_line(error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error)


def _addresses(settings: RabbitMQ) -> list[str]:
    if settings.management_url is not None:
        return [settings.management_url]
    addresses = []
    for secret in settings.urls:
        url = URL(secret.get_secret_value())
        scheme, port = _PORTS[url.scheme]
        addresses.append(str(URL.build(scheme=scheme, host=url.host or "", port=port)))
    return list(dict.fromkeys(addresses))


def _checked_body(
    answer: aiohttp.ClientResponse, body: bytes, address: str
) -> tuple[bytes | None, str | None]:
    if answer.status == HTTPStatus.NOT_FOUND:
        return None, answer.headers.get("Date")
    if answer.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise ManagementError(
            f"RabbitMQ's management API ({address}) refuses this user; "
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
        ready=_whole_number(found.get("messages_ready")),
        unacknowledged=_whole_number(found.get("messages_unacknowledged")),
        consumers=_whole_number(found.get("consumers")),
        oldest=_whole_number(found.get("head_message_timestamp")),
        size=_whole_number(found.get("message_bytes")),
        policy=found.get("policy") or "",
        operator_policy=found.get("operator_policy") or "",
    )


def _mapping(found: Any, key: str) -> dict[str, Any]:
    """Erlang encodes an empty object as an empty list in some places."""
    value = found.get(key) if isinstance(found, dict) else None
    return value if isinstance(value, dict) else {}


def _whole_number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
