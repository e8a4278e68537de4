"""Every page of the console, which the API serves under /console."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from bridge.console import (
    address,
    archive,
    dead_letters,
    dependencies,
    job_pages,
    list_page,
    live,
    overview,
    rendering,
    sign_in,
    subscribers,
)
from bridge.console.boundary import boundary, remember_start
from bridge.console.headers import add_headers
from bridge.console.monitor import MONITOR, Monitor
from bridge.console.notices import NOTICES, Notices
from bridge.console.parts import PARTS
from bridge.console.sessions import PATH, SESSIONS, Sessions, session_key
from bridge.console.static_files import StaticFiles

if TYPE_CHECKING:
    from bridge.roles.api import ConsoleParts

_PAGES = (overview, address, list_page, dead_letters, subscribers, live, archive)


def console_application(parts: ConsoleParts) -> web.Application:
    """The application, to be mounted under /console. Nothing that it asks is waited for at the start."""
    app = web.Application(middlewares=[boundary])
    app.on_response_prepare.extend([add_headers, remember_start])
    app[PARTS] = parts
    key = session_key(parts.settings.console)
    app[SESSIONS] = Sessions(key, parts.access, hours=parts.settings.console.session_hours)
    app[NOTICES] = Notices(key)
    monitor = app[MONITOR] = Monitor(parts)
    app.cleanup_ctx.append(monitor.running)
    app.on_shutdown.append(monitor.close)
    static = StaticFiles()
    rendering.set_up(app, static)
    sign_in.set_up(app)
    job_pages.set_up(app)
    dead_letters.set_up(app, parts)
    live.set_up(app)
    archive.set_up(app, parts)
    app.add_routes(static.routes())
    app.add_routes([web.get("", _with_slash), web.get("/dependencies", _dependencies)])
    for page in _PAGES:
        app.add_routes(page.routes(parts))
    return app


async def _with_slash(_: web.Request) -> web.Response:
    return web.Response(status=HTTPStatus.FOUND, headers={"Location": f"{PATH}/"})


async def _dependencies(request: web.Request) -> web.Response:
    """The strip that says what is down, or 204 where the page that asks shows it already."""
    if request.query.get(dependencies.KNOWN) == dependencies.fingerprint(dependencies.problems(request)):
        return web.Response(status=HTTPStatus.NO_CONTENT)
    return rendering.render(request, "_dependencies.html")
