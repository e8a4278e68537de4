"""The yardstick: aiohttp's own server that reads the body, answers, and does nothing else."""

from __future__ import annotations

import os
from typing import Final

import uvloop
from aiohttp import web

_ANSWER: Final = b'{"status":"accepted"}'


async def take(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(body=_ANSWER, content_type="application/json")


def main() -> None:
    app = web.Application()
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
