"""What a good engineer writes first: a handler that awaits aio-pika's publish, with confirms, and answers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import aio_pika
import orjson
import uvloop
from aio_pika.abc import AbstractExchange
from aiohttp import web

from tests.programs.bench.contenders import outgoing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_EXCHANGE: Final = web.AppKey("exchange", AbstractExchange)


async def take(request: web.Request) -> web.Response:
    body = await request.read()
    event = outgoing.of_body(body)
    await request.app[_EXCHANGE].publish(
        aio_pika.Message(
            body,
            content_type=outgoing.CONTENT_TYPE,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            type=event.name,
            message_id=event.id,
            app_id=outgoing.APP,
            timestamp=event.happened,
            headers=event.headers,
        ),
        routing_key=event.name,
        mandatory=True,
    )
    return web.Response(body=orjson.dumps(outgoing.answer(event)), content_type=outgoing.CONTENT_TYPE)


async def broker(app: web.Application) -> AsyncIterator[None]:
    async with await aio_pika.connect_robust(os.environ["AMQP_URL"]) as connection:
        channel = await connection.channel(publisher_confirms=True)
        app[_EXCHANGE] = await channel.get_exchange(outgoing.EXCHANGE)
        yield


def main() -> None:
    app = web.Application()
    app.cleanup_ctx.append(broker)
    app.add_routes([web.post(os.environ["WEBHOOK"], take)])
    web.run_app(
        app,
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        access_log=None,
        print=None,
        loop=uvloop.new_event_loop(),
    )


if __name__ == "__main__":
    main()
