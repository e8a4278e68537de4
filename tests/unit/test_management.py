"""What RabbitMQ's management API tells, and what it does not tell yet."""

from __future__ import annotations

from aiohttp import web
from aiohttp.test_utils import TestServer

from bridge.broker import management
from bridge.settings.sections import RabbitMQ
from tests.support.ports import free_port


async def test_a_consumer_whose_address_is_not_known_yet_is_on_no_machine() -> None:
    """RabbitMQ lists a new consumer before it knows its channel."""
    consumers = [
        {"queue": {"name": "q"}, "channel_details": {"peer_host": "127.0.0.1"}},
        {"queue": {"name": "q"}, "channel_details": {}},
        {"queue": {"name": "q"}, "channel_details": []},
        {"queue": {"name": "other"}, "channel_details": {"peer_host": "127.0.0.2"}},
    ]

    async def answer(_: web.Request) -> web.Response:
        return web.json_response(consumers)

    app = web.Application()
    app.router.add_get("/api/consumers/{host}", answer)
    async with TestServer(app, port=free_port()) as server:
        url = f"http://127.0.0.1:{server.port}"
        async with management.connect(RabbitMQ(management_url=url, connect_timeout=60)) as api:
            assert await api.consumer_hosts("q") == ["127.0.0.1"]
