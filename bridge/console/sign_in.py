"""Sign-in with a token of the API, and sign-out."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web
from aiolimiter import AsyncLimiter
from yarl import URL

from bridge.console.notices import redirect
from bridge.console.rendering import render
from bridge.console.sessions import PATH, SESSIONS
from bridge.console.visitor import visitor_of
from bridge.settings.api_section import READ
from bridge.telemetry import logs

if TYPE_CHECKING:
    from bridge.console.visitor import Visitor

log = logs.logger("console")

SIGN_IN: Final = "signing"
SIGNED_IN: Final = "signed"
"""The names of the routes that are for everybody."""
FAILURES: Final = 10
WINDOW_SECONDS: Final = 60.0
"""So many wrong tokens from one address in this time; then it waits."""
_MOST_ADDRESSES: Final = 1000
NEXT: Final = "next"


class FailedSignIns:
    """Counts wrong tokens for each address, so that nobody tries them by the thousand."""

    def __init__(self) -> None:
        self._limiters: dict[str, AsyncLimiter] = {}

    def may_try(self, address: str) -> bool:
        """Whether a token may be tried from there now."""
        return address not in self._limiters or self._limiters[address].has_capacity()

    async def count(self, address: str) -> None:
        """One more wrong token from there."""
        limiter = self._limiters.pop(address, None) or AsyncLimiter(FAILURES, WINDOW_SECONDS)
        if len(self._limiters) >= _MOST_ADDRESSES:
            self._limiters.pop(next(iter(self._limiters)))
        self._limiters[address] = limiter  # the one that was used last stands last
        if limiter.has_capacity():
            await limiter.acquire()


_FAILED: Final = web.AppKey("console.failed_sign_ins", FailedSignIns)


def set_up(app: web.Application) -> None:
    """Add the pages."""
    app[_FAILED] = FailedSignIns()
    app.add_routes(
        [
            web.get("/sign-in", page, name=SIGN_IN),
            web.post("/sign-in", sign_in, name=SIGN_IN),
            web.get("/signed-in", signed_in, name=SIGNED_IN),
            web.post("/sign-out", sign_out),
        ]
    )


PUBLIC: Final = frozenset({SIGN_IN, SIGNED_IN})


async def page(request: web.Request) -> web.Response:
    """The form; whoever has signed in already goes on."""
    after = place_after(request.query.get(NEXT, ""))
    if request.config_dict[SESSIONS].visitor(request) is not None:
        return redirect(request, after)
    return render(request, "sign_in.html", next=after, error="")


async def signed_in(request: web.Request) -> web.Response:
    """`yes` or `no`. A browser keeps the cookie back from a link on another site's page, but not from our own script."""
    visitor = request.config_dict[SESSIONS].visitor(request)
    return web.Response(text="no" if visitor is None else "yes")


async def sign_in(request: web.Request) -> web.Response:
    """A valid token that may read becomes a session."""
    form = await request.post()
    after, token = place_after(str(form.get(NEXT, ""))), str(form.get("token", "")).strip()
    failed, remote = request.app[_FAILED], request.remote or ""
    if not failed.may_try(remote):
        log.warning("too many wrong tokens from one address", action="console.sign_in_limited", remote=remote)
        return _again(
            request,
            after,
            HTTPStatus.TOO_MANY_REQUESTS,
            "Too many wrong tokens came from your network. Wait a minute, and try again.",
        )
    sessions = request.config_dict[SESSIONS]
    if (signed := sessions.sign_in(token)) is None:
        await failed.count(remote)
        log.warning("a sign-in with a wrong token", action="console.sign_in_failed", remote=remote)
        return _again(
            request,
            after,
            HTTPStatus.UNAUTHORIZED,
            "This token is not valid: it is misspelt, or it was taken away.",
        )
    cookie, visitor = signed
    if not visitor.may(READ):
        return _again(
            request,
            after,
            HTTPStatus.FORBIDDEN,
            f"The token “{visitor.name}” has not the scope “{READ}”, without which there is nothing to see.",
        )
    log.info("signed in", action="console.signed_in", actor=visitor.actor)
    response = redirect(request, after)
    sessions.give_cookie(request, response, cookie)
    return response


async def sign_out(request: web.Request) -> web.Response:
    """The session ends, also where a copy of the cookie is."""
    visitor: Visitor = visitor_of(request)
    sessions = request.config_dict[SESSIONS]
    sessions.sign_out(visitor)
    log.info("signed out", action="console.signed_out", actor=visitor.actor)
    response = redirect(request, "/sign-in")
    sessions.take_cookie(request, response)
    return response


def place_after(wanted: str) -> str:
    """Where to go after sign-in: a path below /console, percent-encoded. What is none of ours becomes the overview."""
    try:
        url = URL(wanted)
    except ValueError:
        return "/"
    if url.absolute or not url.path.startswith("/") or url.path.startswith("//") or "\\" in wanted:
        return "/"
    path = url.raw_path_qs.removeprefix(PATH)
    return path if path.startswith("/") and not path.startswith(("//", "/sign-")) else "/"


def to_sign_in(request: web.Request) -> web.Response:
    """The answer to a request without a session."""
    if request.headers.get("HX-Request") == "true":
        after = place_after(_path_of(request.headers.get("HX-Current-URL", "")))
        location = str(URL(f"{PATH}/sign-in").with_query({NEXT: after}))
        return web.Response(status=HTTPStatus.UNAUTHORIZED, headers={"HX-Redirect": location})
    if "text/event-stream" in request.headers.get("Accept", ""):
        return web.Response(status=HTTPStatus.UNAUTHORIZED)
    after = request.path_qs if request.method == "GET" else ""
    location = str(URL(f"{PATH}/sign-in").with_query({NEXT: place_after(after)}))
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": location})


def _path_of(url: str) -> str:
    try:
        return URL(url).raw_path_qs
    except ValueError:
        return ""


def _again(request: web.Request, after: str, status: HTTPStatus, error: str) -> web.Response:
    return render(request, "sign_in.html", status=status, next=after, error=error)
