"""The check as listmonk offers it: a request for each address, which a query answers."""

from __future__ import annotations

import os

import asyncpg
import uvloop
from aiohttp import web

QUERY = "SELECT reason, first_event_at, expires_at FROM suppressions WHERE address = $1"


async def main(database_url: str, port: int) -> None:
    """Answer until killed."""
    async with asyncpg.create_pool(database_url.replace("+asyncpg", ""), min_size=1, max_size=4) as pool:

        async def check(request: web.Request) -> web.Response:
            rows = await pool.fetch(QUERY, request.query["address"].strip().lower())
            return web.json_response({"results": [dict(row) for row in rows]})

        app = web.Application()
        app.router.add_get("/", check)
        await web._run_app(app, host="127.0.0.1", port=port, access_log=None, print=None)


if __name__ == "__main__":
    uvloop.run(main(os.environ["DATABASE_URL"], int(os.environ["PORT"])))
