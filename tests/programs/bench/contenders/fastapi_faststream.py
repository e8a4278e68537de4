"""FastAPI with FastStream's broker, on uvicorn with uvloop and httptools."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI, Request
from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange

from tests.programs.bench.contenders import outgoing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def application() -> FastAPI:
    broker = RabbitBroker(os.environ["AMQP_URL"], app_id=outgoing.APP, logger=None)
    exchange = RabbitExchange(outgoing.EXCHANGE, type=ExchangeType.TOPIC, declare=False)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with broker:
            await broker.start()
            yield

    # The body as it came, and not as a pydantic model: what is published are the provider's bytes.
    async def take(request: Request) -> dict[str, str]:
        body = await request.body()
        event = outgoing.of_body(body)
        await broker.publish(
            body,
            exchange=exchange,
            routing_key=event.name,
            mandatory=True,
            persist=True,
            content_type=outgoing.CONTENT_TYPE,
            message_type=event.name,
            message_id=event.id,
            timestamp=event.happened,
            headers=event.headers,
        )
        return outgoing.answer(event)

    app = FastAPI(lifespan=lifespan)
    app.add_api_route(os.environ["WEBHOOK"], take, methods=["POST"])
    return app


def main() -> None:
    uvicorn.run(
        application(),
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
