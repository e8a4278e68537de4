"""Around each request: who asks, what goes wrong, and what is counted."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

from bridge.api.access import Access, Caller
from bridge.api.bodies import MAX_BYTES, too_large
from bridge.api.problems import (
    IDEMPOTENCY_CONFLICT,
    INTERNAL,
    INVALID_REQUEST,
    LIST_FAILED,
    LIST_UNAVAILABLE,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    ProblemError,
)
from bridge.suppression.errors import (
    IdempotencyConflictError,
    RefusedValueError,
    StoreError,
    StoreUnavailableError,
)
from bridge.telemetry import logs
from bridge.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler as NextHandler

log = logs.logger("api")

Handler = Callable[[web.Request, Caller], Awaitable[web.StreamResponse]]
"""Answers a request of this caller. It may raise `ProblemError` and `StoreError`."""

ACCESS: Final = web.AppKey("access", Access)
METRICS: Final = web.AppKey("metrics", Metrics)
_CALLER: Final = web.RequestKey("caller", str)

NOBODY: Final = "none"
"""The label value of a request without a valid token."""
NO_ROUTE: Final = "none"
"""The label value of a request for which there is no route."""
_RETRY_AFTER: Final = {"Retry-After": "5"}
_FAILURE: Final = "it has been logged; the same request may be sent again"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one resource."""

    method: str
    path: str
    scope: str
    handler: Handler

    def route(self) -> web.RouteDef:
        """The route, which lets in whoever has the scope."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            access = request.app[ACCESS]
            caller = access.identify(request.headers.get("Authorization"))
            request[_CALLER] = caller.name
            caller.require(self.scope)
            await access.take_turn(caller)
            return await self.handler(request, caller)

        return web.route(self.method, self.path, guarded)


@web.middleware
async def boundary(request: web.Request, handler: NextHandler) -> web.StreamResponse:
    """Answers every request, whatever happens, and counts it."""
    started = time.perf_counter()
    try:
        response = await handler(request)
    except ProblemError as problem:
        response = problem.response()
    except web.HTTPException as refusal:
        response = _problem_of_aiohttp(request, refusal).response()
    except StoreError as error:
        response = _problem_of_list(error).response()
    except (
        Exception
    ):  # nothing is behind us that could tell the client, and other clients are served all the same
        log.exception("a request failed unexpectedly", action="api.failure", route=_route(request))
        response = ProblemError(INTERNAL, _FAILURE).response()
    route, metrics = _route(request), request.app[METRICS]
    metrics.api_answers.labels(route, str(response.status), request.get(_CALLER, NOBODY)).inc()
    metrics.api_answer_seconds.labels(route).observe(time.perf_counter() - started)
    return response


def _problem_of_aiohttp(request: web.Request, refusal: web.HTTPException) -> ProblemError:
    if isinstance(refusal, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(refusal.allowed_methods))
        return ProblemError(
            METHOD_NOT_ALLOWED,
            f"{request.path} has {allowed}, not {request.method}",
            headers={"Allow": allowed},
        )
    if isinstance(refusal, web.HTTPRequestEntityTooLarge):
        return too_large(request.app[MAX_BYTES])
    if isinstance(refusal, web.HTTPNotFound):
        return ProblemError(NOT_FOUND, "there is no such path; /openapi.json and /docs describe them all")
    return ProblemError(INVALID_REQUEST, refusal.reason)


def _problem_of_list(error: StoreError) -> ProblemError:
    """The message may name the database, which is no business of a client: it goes to the log."""
    if isinstance(error, StoreUnavailableError):
        log.warning("the list does not answer", action="api.list_failed", reason=str(error))
        return ProblemError(
            LIST_UNAVAILABLE,
            "its database does not answer; send the same request again",
            headers=_RETRY_AFTER,
        )
    if isinstance(error, IdempotencyConflictError):
        return ProblemError(IDEMPOTENCY_CONFLICT, str(error))
    if isinstance(error, RefusedValueError):
        return ProblemError(
            INVALID_REQUEST, "the list's database refuses one of the values; nothing was changed"
        )
    log.error("the list failed", action="api.list_failed", reason=str(error))
    return ProblemError(LIST_FAILED, "its database failed, which has been logged; waiting does not help")


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return NO_ROUTE if resource is None else f"{request.method} {resource.canonical}"
