"""What the client of RabbitMQ's management API says when the API fails."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bridge.broker.management import ManagementError, connect
from bridge.settings.sections import RabbitMQ

pytestmark = pytest.mark.quick


async def test_an_answer_500_is_quoted() -> None:
    """On one line, with what was asked, so that it can be found in RabbitMQ's log."""

    async def fail(_: web.Request) -> web.Response:
        return web.Response(status=500, text='{"error":\n  "internal_server_error"}')

    application = web.Application()
    application.router.add_get("/api/{path:.*}", fail)
    async with TestServer(application) as server:
        settings = RabbitMQ(management_url=str(server.make_url("")), connect_timeout=20)
        async with connect(settings) as management:
            with pytest.raises(ManagementError) as caught:
                await management.queue("suppression")
        assert str(caught.value) == (
            f"RabbitMQ's management API answered 500 to GET {server.make_url('/api/queues/%2F/suppression')}: "
            '{"error": "internal_server_error"}; RabbitMQ\'s log has the reason'
        )


async def test_an_answer_500_is_asked_for_again() -> None:
    """RabbitMQ answers so for a moment where something is deleted while it looks at it."""
    asked = 0

    async def fail_once(_: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.json_response([]) if asked > 1 else web.Response(status=500)

    application = web.Application()
    application.router.add_get("/api/{path:.*}", fail_once)
    async with TestServer(application) as server:
        settings = RabbitMQ(management_url=str(server.make_url("")), connect_timeout=20)
        async with connect(settings) as management:
            assert await management.exchanges() == []
    assert asked == 2
