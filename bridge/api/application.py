"""Every endpoint, with the scope that it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

from bridge.api import checks
from bridge.api.bodies import MAX_BYTES, TIMEOUT
from bridge.api.boundary import ACCESS, METRICS, Endpoint, boundary
from bridge.settings.api_section import CHECK, READ

if TYPE_CHECKING:
    from bridge.api.access import Access
    from bridge.api.freshness import Freshness
    from bridge.settings.api_section import Api
    from bridge.suppression.store import Store
    from bridge.telemetry.metrics import Metrics

VERSION: Final = "/v1"
_ADDRESS: Final = "{address:[^/]+}"
"""Any text: the handler says what is wrong with it. A slash in an address is sent as %2F."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the endpoints need."""

    settings: Api
    store: Store
    freshness: Freshness
    access: Access
    metrics: Metrics


def endpoints(parts: Parts) -> list[Endpoint]:
    """All that need a token. What comes first is matched first."""
    check = checks.Checks(parts.store, parts.freshness, parts.metrics)
    return [
        Endpoint("POST", f"{VERSION}/suppressions/check", CHECK, check.many),
        Endpoint("GET", f"{VERSION}/suppressions/{_ADDRESS}", READ, check.one),
    ]


def application(parts: Parts) -> web.Application:
    """The application, which does not listen yet."""
    app = web.Application(middlewares=[boundary], client_max_size=parts.settings.max_body_bytes)
    app[ACCESS], app[METRICS] = parts.access, parts.metrics
    app[MAX_BYTES], app[TIMEOUT] = parts.settings.max_body_bytes, parts.settings.body_timeout
    app.add_routes([endpoint.route() for endpoint in endpoints(parts)])
    return app
