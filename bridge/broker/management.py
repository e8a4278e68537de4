"""Client of RabbitMQ's management HTTP API, for what AMQP cannot tell. It only reads."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import aiohttp
import orjson
import tenacity
from yarl import URL

from bridge.broker.management_views import mapping_at, read_binding, read_exchange, read_node, read_queue
from bridge.broker.policy_views import read_policy
from bridge.text import collapse, error_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from bridge.broker.management_views import BindingView, ExchangeView, Node, QueueView
    from bridge.broker.policy_views import PolicyView
    from bridge.broker.topology import Binding
    from bridge.settings.sections import RabbitMQ

_PORTS: Final = {"amqp": ("http", 15672), "amqps": ("https", 15671)}
"""The default ports of the plugin: rabbitmq.com/docs/management."""


_SAID: Final = 200
"""Bytes of an answer that are quoted in an error."""
_ATTEMPTS: Final = 4
_FIRST_PAUSE_SECONDS: Final = 0.2
"""RabbitMQ answers 500 where something is deleted while it looks at it, and for a moment after that (rabbitmq-server#7813): it is
asked again after this time, and after three and nine times as long."""


class ManagementError(Exception):
    """The API cannot be reached, or refuses this user. The message says why."""


class ManagementApi:
    """The API of one broker. Every method raises `ManagementError` if the API does not answer."""

    def __init__(self, session: aiohttp.ClientSession, base_urls: list[str], virtual_host: str) -> None:
        """Create a client; `connect` does so from the settings.

        Args:
            session: with user, password and timeout.
            base_urls: of the API, tried in this order until one answers.
            virtual_host: the one to look at.
        """
        self._session = session
        self._base_urls = base_urls
        self._host = quote(virtual_host, safe="")

    async def nodes(self) -> list[Node]:
        """All nodes of the cluster, also those that do not run."""
        return [read_node(node) for node in await self._objects("nodes")]

    async def queue(self, name: str) -> QueueView | None:
        """None if there is no such queue."""
        found = await self._get(f"queues/{self._host}/{quote(name, safe='')}")
        return read_queue(found) if isinstance(found, dict) else None

    async def exchange(self, name: str) -> ExchangeView | None:
        """None if there is no such exchange."""
        found = await self._get(f"exchanges/{self._host}/{quote(name, safe='')}")
        if not isinstance(found, dict):
            return None
        policies: dict[str, Any] = {}
        if isinstance(policy := found.get("policy"), str) and policy:
            policy_object = await self._get(f"policies/{self._host}/{quote(policy, safe='')}")
            policies = mapping_at(policy_object, "definition")
        return read_exchange(found, policies)

    async def bindings_from(self, exchange: str) -> list[BindingView]:
        """All bindings of this exchange."""
        path = f"exchanges/{self._host}/{quote(exchange, safe='')}/bindings/source"
        return [read_binding(found) for found in await self._objects(path)]

    async def bindings_of(self, queue: str) -> list[BindingView]:
        """All bindings of this queue, without that to the default exchange."""
        path = f"queues/{self._host}/{quote(queue, safe='')}/bindings"
        return [view for view in map(read_binding, await self._objects(path)) if view.exchange]

    async def bindings(self) -> list[BindingView]:
        """All bindings of the virtual host, without those to the default exchange."""
        found = await self._objects(f"bindings/{self._host}")
        return [view for view in map(read_binding, found) if view.exchange]

    async def queues(self) -> list[QueueView]:
        """All queues of the virtual host. Where there are very many, RabbitMQ may show what it has kept for some seconds."""
        return [read_queue(found) for found in await self._objects(f"queues/{self._host}")]

    async def exchanges(self) -> list[ExchangeView]:
        """All exchanges of the virtual host, without what policies set; as `queues`."""
        return [read_exchange(found, {}) for found in await self._objects(f"exchanges/{self._host}")]

    async def policies(self) -> list[PolicyView]:
        """All policies of the virtual host, and all operator policies, in force or not."""
        return [
            read_policy(found, operator=operator)
            for path, operator in (("policies", False), ("operator-policies", True))
            for found in await self._objects(f"{path}/{self._host}")
        ]

    async def consumer_hosts(self, queue: str) -> list[str]:
        """The client address of each consumer of this queue. A new one is listed after some 5 s, first without its address."""
        hosts = [
            mapping_at(found, "channel_details").get("peer_host")
            for found in await self._objects(f"consumers/{self._host}")
            if mapping_at(found, "queue").get("name") == queue
        ]
        return [host for host in hosts if isinstance(host, str)]

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
                f"what answers at {self._base_urls[0]} is not RabbitMQ's management API; "
                "set rabbitmq.management_url"
            ) from None

    async def _ask(self, path: str) -> tuple[bytes | None, str | None]:
        """Body (None for a 404) and Date header of the first URL that answers. Later calls use only that one."""
        failures = []
        for base_url in self._base_urls:
            try:
                answer, body = await self._answer(URL(f"{base_url}/api/{path}", encoded=True))
            except TimeoutError:
                failures.append(f"{base_url}: no answer in time")
            except (aiohttp.ClientError, OSError) as error:
                failures.append(f"{base_url}: {connect_failure(error)}")
            else:
                self._base_urls = [base_url]
                return _checked_body(answer, body, base_url)
        raise ManagementError(f"RabbitMQ's management API cannot be reached ({'; '.join(failures)})")

    @tenacity.retry(
        retry=tenacity.retry_if_result(lambda found: found[0].status == HTTPStatus.INTERNAL_SERVER_ERROR),
        stop=tenacity.stop_after_attempt(_ATTEMPTS),
        wait=tenacity.wait_exponential(multiplier=_FIRST_PAUSE_SECONDS, exp_base=3),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )
    async def _answer(self, url: URL) -> tuple[aiohttp.ClientResponse, bytes]:
        async with self._session.get(url) as answer:
            return answer, await answer.read()


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
        yield ManagementApi(session, _base_urls(settings), settings.virtual_host)


def connect_failure(error: Exception) -> str:
    """Why there was no HTTP answer, without host and port, which aiohttp repeats."""
    return error_line(error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error)


def _base_urls(settings: RabbitMQ) -> list[str]:
    if settings.management_url is not None:
        return [settings.management_url]
    base_urls = []
    for secret in settings.urls:
        url = URL(secret.get_secret_value())
        scheme, port = _PORTS[url.scheme]
        base_urls.append(str(URL.build(scheme=scheme, host=url.host or "", port=port)))
    return list(dict.fromkeys(base_urls))


def _checked_body(
    answer: aiohttp.ClientResponse, body: bytes, base_url: str
) -> tuple[bytes | None, str | None]:
    if answer.status == HTTPStatus.NOT_FOUND:
        return None, answer.headers.get("Date")
    if answer.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise ManagementError(
            f"RabbitMQ's management API ({base_url}) refuses this user; "
            "give it the tag `monitoring` (rabbitmqctl set_user_tags)"
        )
    if answer.status != HTTPStatus.OK:
        said = collapse(body[:_SAID].decode(errors="replace"))
        raise ManagementError(
            f"RabbitMQ's management API answered {answer.status} to GET {answer.url}"
            f"{f': {said}' if said else ''}; RabbitMQ's log has the reason"
        )
    return body, answer.headers.get("Date")
