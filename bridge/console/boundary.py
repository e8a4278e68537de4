"""Around each request: who is signed in, whether it comes from a page of ours, and what goes wrong, in words."""

from __future__ import annotations

import asyncio
from hmac import compare_digest
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from bridge.amqp.errors import BrokerUnavailableError, TopologyRefusedError
from bridge.broker.management import ManagementError
from bridge.console.errors import ForbiddenError, NotFoundError, PageError, UnavailableError
from bridge.console.parts import parts_of
from bridge.console.rendering import is_htmx, render
from bridge.console.sessions import SESSIONS
from bridge.console.sign_in import PUBLIC, to_sign_in
from bridge.console.static_files import STATIC
from bridge.console.visitor import VISITOR
from bridge.settings.api_section import READ
from bridge.suppression.errors import StoreError, StoreUnavailableError
from bridge.telemetry import logs

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

    from bridge.console.visitor import Visitor

log = logs.logger("console")

CSRF_FIELD: Final = "csrf"
CSRF_HEADER: Final = "X-CSRF-Token"
_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
_OWN_SITE: Final = frozenset({"same-origin", "none"})
_PUBLIC_BYTES: Final = 64 * 1024
"""Of a form that anybody may send."""
_STARTED: Final = web.RequestKey("console.started", web.StreamResponse)


@web.middleware
async def boundary(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers every request, whatever happens. The API's own boundary is around this one, and would answer in JSON."""
    try:
        return await _guarded(request, handler)
    except PageError as error:
        return _failed(request, error)
    except web.HTTPException as refusal:
        return _failed(request, _of_aiohttp(request, refusal))
    except (StoreError, BrokerUnavailableError, TopologyRefusedError, ManagementError) as error:
        return _failed(request, _of_dependency(error))
    except Exception:  # nothing is behind us that could tell people, and others are served all the same
        log.exception("a page failed unexpectedly", action="console.failure", path=request.path)
        return _failed(
            request,
            PageError(
                "It has been logged, with the action console.failure. The same can be tried again.",
                title="Something unforeseen happened",
                status=HTTPStatus.INTERNAL_SERVER_ERROR,
            ),
        )


async def remember_start(request: web.Request, response: web.StreamResponse) -> None:
    """For `on_response_prepare`: once its head is sent, an answer cannot become another one."""
    request[_STARTED] = response


async def _guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    route = request.match_info.route.name
    changes = request.method not in _SAFE_METHODS
    if changes:
        _check_site(request)
    if route == STATIC or route in PUBLIC:
        if changes:
            await _read_form(request, most=_PUBLIC_BYTES)
        return await handler(request)
    visitor = request.config_dict[SESSIONS].visitor(request)
    if visitor is None:
        return to_sign_in(request)
    request[VISITOR] = visitor
    visitor.require(READ, "every page")
    if changes:
        await _read_form(request)
        await _check_csrf(request, visitor)
    return await handler(request)


def _check_site(request: web.Request) -> None:
    """A browser says from where a request comes. One that says nothing is none, and has no cookie by accident."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    own = site in _OWN_SITE if site is not None else origin is None or _host_of(origin) == request.host
    if not own:
        raise ForbiddenError(
            "The request comes from the page of another site. Nothing was changed.",
            title="This did not come from the console",
        )


def _host_of(origin: str) -> str:
    try:
        return URL(origin).authority
    except ValueError:
        return ""


async def _read_form(request: web.Request, *, most: int | None = None) -> None:
    """Before anybody asks for a field: whoever sends slowly holds up nobody. Args: its bytes at the most; None: the API's."""
    if most is not None and (request.content_length is None or request.content_length > most):
        raise PageError(
            f"Send a form of {most:,} bytes at the most, with its length.",
            title="Too large",
            status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        )
    try:
        async with asyncio.timeout(parts_of(request).settings.api.body_timeout):
            await request.post()
    except TimeoutError:
        raise PageError(
            "The form did not come in time. Send it again.",
            title="The form did not come",
            status=HTTPStatus.REQUEST_TIMEOUT,
        ) from None
    except (
        HttpProcessingError,
        ValueError,
        LookupError,
    ):  # parts that are no form's, or a character set that nobody knows
        raise PageError("Nothing was changed: what was sent is no form of a browser.") from None


async def _check_csrf(request: web.Request, visitor: Visitor) -> None:
    given = request.headers.get(CSRF_HEADER)
    if given is None:
        given = str((await request.post()).get(CSRF_FIELD, ""))
    if not compare_digest(given.encode("utf-8", "surrogatepass"), visitor.csrf.encode()):
        raise ForbiddenError(
            "The form belongs to another session, perhaps one that has ended. Nothing was changed. Load the page "
            "once more, and send the form again.",
            title="The form is out of date",
        )


def _of_aiohttp(request: web.Request, refusal: web.HTTPException) -> PageError:
    if isinstance(refusal, web.HTTPNotFound):
        return NotFoundError(f"The console has no page {request.path}.")
    if isinstance(refusal, web.HTTPRequestEntityTooLarge):
        return PageError(
            "What was sent is too large. Send less at a time.",
            title="Too large",
            status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        )
    return PageError(f"{request.method} {request.path}: {refusal.reason}", status=HTTPStatus(refusal.status))


def _of_dependency(error: Exception) -> PageError:
    if isinstance(error, StoreUnavailableError):
        log.warning("the list does not answer", action="console.list_failed", reason=str(error))
        return UnavailableError(
            f"{error}. Events are still received and wait in RabbitMQ. This page works again as soon as the database "
            "answers.",
            title="The database of the suppression list does not answer",
        )
    if isinstance(error, StoreError):
        log.error("the list failed", action="console.list_failed", reason=str(error))
        return PageError(
            f"{error}.", title="The suppression list failed", status=HTTPStatus.INTERNAL_SERVER_ERROR
        )
    log.warning("RabbitMQ does not answer", action="console.broker_failed", reason=str(error))
    if isinstance(error, ManagementError):
        return UnavailableError(f"{error}.", title="RabbitMQ's management API does not answer")
    if isinstance(error, TopologyRefusedError):
        return UnavailableError(f"{error}.", title="RabbitMQ refuses what the console needs")
    return UnavailableError(
        f"{error}. Receivers spool events meanwhile; nothing is lost. This page works again as soon as RabbitMQ answers.",
        title="RabbitMQ does not answer",
    )


def _failed(request: web.Request, error: PageError) -> web.StreamResponse:
    started: web.StreamResponse | None = request.get(_STARTED)
    if started is not None:  # a stream: its reader sees that it ends too early
        log.warning(
            "a stream ends early", action="console.stream_failed", path=request.path, reason=str(error)
        )
        if request.transport is not None:
            request.transport.abort()
        return started
    template = "_error.html" if is_htmx(request) else "error.html"
    return render(request, template, status=error.status, title=error.title, detail=error.detail)
