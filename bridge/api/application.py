"""Every endpoint, with the scope that it needs."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web

from bridge.api import contract, description
from bridge.api.allow import Allow
from bridge.api.bodies import MAX_BYTES, TIMEOUT
from bridge.api.boundary import ACCESS, METRICS, Endpoint, boundary
from bridge.api.changes import Feed
from bridge.api.checks import Checks
from bridge.api.entries import Entries
from bridge.api.erasing import Erasing
from bridge.api.exporting import Exporting
from bridge.api.messages import Messages
from bridge.settings.api_section import CHECK, OVERRIDE, READ, WRITE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.api.access import Access
    from bridge.api.freshness import Freshness
    from bridge.api.open_list import OpenList
    from bridge.settings.api_section import Api
    from bridge.telemetry.metrics import Metrics

FEED: Final = web.AppKey("feed", Feed)
VERSION: Final = "/v1"
CONSOLE: Final = "/console"
_ADDRESS: Final = "{address:(?!(?:check|export)(?:/|$))[^/]+}"
_PATTERN: Final = "{pattern:[^/]+}"
"""Any text but the names of other resources: the handler says what is wrong with it. A slash in it is sent as %2F."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the endpoints need."""

    settings: Api
    opened: OpenList
    freshness: Freshness
    access: Access
    metrics: Metrics
    contract: Mapping[str, bytes]
    """The files of the contract with those who consume from RabbitMQ, by their paths."""


def endpoints(parts: Parts, feed: Feed) -> list[Endpoint]:
    """All that need a token. What comes first is matched first."""
    opened = parts.opened
    check = Checks(opened, parts.freshness, parts.metrics)
    entries, allow = Entries(opened), Allow(opened)
    suppressions = f"{VERSION}/suppressions"
    one, rule = f"{suppressions}/{_ADDRESS}", f"{VERSION}/allow/{_PATTERN}"
    return [
        Endpoint("POST", f"{suppressions}/check", CHECK, check.many),
        Endpoint("GET", f"{suppressions}/export", READ, Exporting(opened).export),
        Endpoint("GET", suppressions, READ, entries.list),
        Endpoint("POST", suppressions, WRITE, entries.add),
        Endpoint("GET", one, READ, check.one),
        Endpoint("DELETE", one, WRITE, entries.remove),
        Endpoint("GET", f"{one}/history", READ, entries.history),
        Endpoint("POST", f"{one}/erase", OVERRIDE, Erasing(opened).erase),
        Endpoint("GET", f"{VERSION}/changes", READ, feed.changes),
        Endpoint("POST", f"{VERSION}/messages", WRITE, Messages(opened).announce),
        Endpoint("GET", f"{VERSION}/allow", READ, allow.list),
        Endpoint("GET", rule, READ, allow.get),
        Endpoint("PUT", rule, WRITE, allow.put),
        Endpoint("DELETE", rule, WRITE, allow.delete),
    ]


def application(parts: Parts) -> web.Application:
    """The application, which does not listen yet."""
    app = web.Application(middlewares=[boundary], client_max_size=parts.settings.max_body_bytes)
    app[ACCESS], app[METRICS] = parts.access, parts.metrics
    app[MAX_BYTES], app[TIMEOUT] = parts.settings.max_body_bytes, parts.settings.body_timeout
    feed = app[FEED] = Feed(parts.opened)
    app.cleanup_ctx.append(feed.running)
    app.on_shutdown.append(feed.close)
    app.add_routes(endpoint.route() for endpoint in endpoints(parts, feed))
    app.add_routes([*description.routes(), *contract.routes(parts.contract)])
    return app


def mount_console(app: web.Application, console: web.Application) -> None:
    """Serve the pages for people, too; a browser that asks for nothing else finds them."""

    async def to_console(_: web.Request) -> web.Response:
        return web.Response(status=HTTPStatus.FOUND, headers={"Location": f"{CONSOLE}/"})

    app.add_subapp(CONSOLE, console)
    app.router.add_get("/", to_console)
