"""One sentence that is shown once, on the page to which an action redirects: what was done."""

from __future__ import annotations

from hashlib import sha256
from http import HTTPStatus
from typing import Final

from aiohttp import web
from itsdangerous import BadData, URLSafeTimedSerializer

from bridge.console.sessions import PATH, is_secure

COOKIE: Final = "bridge_console_notice"
_SECONDS: Final = 60
_MOST_CHARACTERS: Final = 1000
"""Of a sentence: a cookie has 4 kB at the most."""


class Notices:
    """Signs sentences, so that nobody else can put words on our pages."""

    def __init__(self, key: bytes) -> None:
        """Args: the key of the sessions."""
        self._signer = URLSafeTimedSerializer(
            key, salt="bridge.console.notice", signer_kwargs={"digest_method": sha256}
        )

    def give(self, request: web.Request, response: web.Response, text: str) -> None:
        """Keep this sentence for the next page."""
        signed = self._signer.dumps(text[:_MOST_CHARACTERS])
        response.set_cookie(
            COOKIE,
            signed if isinstance(signed, str) else signed.decode(),
            max_age=_SECONDS,
            path=PATH,
            secure=is_secure(request),
            httponly=True,
            samesite="Strict",
        )

    def read(self, request: web.Request) -> str:
        """The sentence that was kept; empty if there is none."""
        try:
            return str(self._signer.loads(request.cookies.get(COOKIE, ""), max_age=_SECONDS))
        except BadData:
            return ""


NOTICES: Final = web.AppKey("console.notices", Notices)


def redirect(request: web.Request, to: str, *, notice: str = "") -> web.Response:
    """Go on to another page, which shows the notice once.

    Args:
        request: the one that is answered.
        to: a path below /console, percent-encoded, such as /address/jane%40example.org.
        notice: a sentence that says what was done; empty: none.
    """
    location = f"{PATH}{to}"
    if request.headers.get("HX-Request") == "true":
        response = web.Response(status=HTTPStatus.NO_CONTENT, headers={"HX-Redirect": location})
    else:
        response = web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": location})
    if notice:
        request.config_dict[NOTICES].give(request, response, notice)
    return response
