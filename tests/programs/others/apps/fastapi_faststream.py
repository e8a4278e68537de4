"""The same bridge on FastAPI and FastStream, put together from what their own documentation shows.

- FastStream, "Integrations" (frameworks): a broker that the lifespan of the application connects and closes; "Connection": who
  only publishes uses it as a context manager. It reconnects by itself, every 5 s. https://faststream.ag2.ai/latest/rabbit/connection/
- FastStream, "Declare": exchange, queue and binding; aio-pika makes them again after a reconnect.
  https://faststream.ag2.ai/latest/rabbit/declare/
- FastStream, "Publishing": `persist`, `mandatory`, and `timeout`, the "send confirmation time from RabbitMQ". Confirms are on by
  default; `on_return_raises` of its `Channel` makes an error of a message that no queue is bound for.
  https://faststream.ag2.ai/latest/rabbit/publishing/
- FastAPI, "Using the Request Directly": the body as it came, as what is published are the provider's bytes; and "Run a Server
  Manually": uvicorn. https://fastapi.tiangolo.com/deployment/manually/

- FastAPI, "Handling Errors": `HTTPException`. https://fastapi.tiangolo.com/tutorial/handling-errors/

What cannot be published is answered 503: the provider has to send the event again. With RETURNS=ignored the channel is the default
one, which says nothing of a message that no queue is bound for.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import uvicorn
from aio_pika.exceptions import AMQPError
from fastapi import FastAPI, HTTPException, Request
from faststream.rabbit import Channel, ExchangeType, QueueType, RabbitBroker, RabbitExchange, RabbitQueue

from tests.programs.bench.contenders import outgoing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_CONFIRM_SECONDS: Final = 10
"""As Fastify's own example has it for a request."""


def application() -> FastAPI:
    raises = os.environ.get("RETURNS") != "ignored"
    broker = RabbitBroker(
        os.environ["AMQP_URL"], app_id=outgoing.APP, default_channel=Channel(on_return_raises=raises)
    )
    exchange = RabbitExchange(os.environ["EXCHANGE"], type=ExchangeType.TOPIC)
    queue = RabbitQueue(os.environ["QUEUE"], queue_type=QueueType.QUORUM)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with broker:
            events = await broker.declare_exchange(exchange)
            await (await broker.declare_queue(queue)).bind(events, "#")
            yield

    async def take(request: Request) -> dict[str, str]:
        body = await request.body()
        event = outgoing.of_body(body)
        try:
            await broker.publish(
                body,
                exchange=exchange,
                routing_key=event.name,
                mandatory=True,
                persist=True,
                timeout=_CONFIRM_SECONDS,
                content_type=outgoing.CONTENT_TYPE,
                message_type=event.name,
                message_id=event.id,
                timestamp=event.happened,
                headers=event.headers,
            )
        except (AMQPError, OSError, RuntimeError) as error:  # TimeoutError is an OSError
            raise HTTPException(503, "RabbitMQ has not taken it") from error
        return outgoing.answer(event)

    app = FastAPI(lifespan=lifespan)
    app.add_api_route(os.environ["WEBHOOK"], take, methods=["POST"])
    return app


if __name__ == "__main__":
    uvicorn.run(application(), host="127.0.0.1", port=int(os.environ["PORT"]), access_log=False)
