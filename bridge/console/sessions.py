"""Who is signed in: a token of the API becomes a signed cookie, which holds while that token is valid."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest, digest
from typing import TYPE_CHECKING, Final

from aiohttp import web
from itsdangerous import BadData, URLSafeTimedSerializer

from bridge.console.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.api.access import Access
    from bridge.settings.console_section import Console

COOKIE: Final = "bridge_console"
PATH: Final = "/console"
_ID_BYTES: Final = 16
_KEY_BYTES: Final = 32
_SECONDS_PER_HOUR: Final = 3600


@dataclass(frozen=True, slots=True)
class _Session:
    id: str
    token: str
    """A keyed hash of the token's digest: the cookie reveals neither, and finds the token among those that are valid."""


def session_key(settings: Console) -> bytes:
    """What cookies are signed with: the key of the settings, or one that nobody else has, and that ends with the process."""
    key = settings.session_key
    return secrets.token_bytes(_KEY_BYTES) if key is None else key.get_secret_value().encode()


class Sessions:
    """Makes cookies of tokens, and visitors of cookies."""

    def __init__(
        self, key: bytes, access: Access, *, hours: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start without any.

        Args:
            key: what cookies are signed with.
            access: the tokens that are valid.
            hours: how long a session lasts.
            clock: in seconds, by which sessions that were signed out are forgotten.
        """
        self._key = key
        self._seconds = int(hours * _SECONDS_PER_HOUR)
        self._signer = URLSafeTimedSerializer(
            self._key, salt="bridge.console.session", signer_kwargs={"digest_method": sha256}
        )
        self._access = access
        self._clock = clock
        self._ended: dict[str, float] = {}
        """Sessions that were signed out, and when their cookies end by themselves."""

    def sign_in(self, token: str) -> tuple[str, Visitor] | None:
        """The value of a cookie, and whoever it is for; None: the token is not valid."""
        found = self._access.digest_of(token)
        if found is None:
            return None
        session = _Session(secrets.token_urlsafe(_ID_BYTES), self._hash("token", found))
        visitor = self._visitor(session)
        if visitor is None:
            return None
        cookie = self._signer.dumps([session.id, session.token])
        return (cookie if isinstance(cookie, str) else cookie.decode()), visitor

    def visitor(self, request: web.Request) -> Visitor | None:
        """Whoever has signed in; None: nobody, the session has ended, or its token was taken away."""
        session = self._read(request.cookies.get(COOKIE, ""))
        return None if session is None or session.id in self._ended else self._visitor(session)

    def sign_out(self, visitor: Visitor) -> None:
        """The cookie of this session is worth nothing from now on, wherever a copy of it may be."""
        now = self._clock()
        self._ended = {one: until for one, until in self._ended.items() if until > now}
        self._ended[visitor.session] = now + self._seconds

    def give_cookie(self, request: web.Request, response: web.Response, value: str) -> None:
        """Send it with this answer. Args: the request tells whether it came over TLS."""
        response.set_cookie(
            COOKIE,
            value,
            max_age=self._seconds,
            path=PATH,
            secure=is_secure(request),
            httponly=True,
            samesite="Strict",
        )

    def take_cookie(self, request: web.Request, response: web.Response) -> None:
        """Have the browser forget it."""
        response.del_cookie(COOKIE, path=PATH, secure=is_secure(request), httponly=True, samesite="Strict")

    def _read(self, cookie: str) -> _Session | None:
        try:
            content = self._signer.loads(cookie, max_age=self._seconds)
        except BadData:
            return None
        return _Session(*content)

    def _visitor(self, session: _Session) -> Visitor | None:
        caller = self._access.caller_with(
            lambda known: compare_digest(self._hash("token", known), session.token)
        )
        return (
            None if caller is None else Visitor(caller, session.id, self._hash("csrf", session.id.encode()))
        )

    def _hash(self, purpose: str, text: bytes) -> str:
        return digest(self._key, purpose.encode() + b"\0" + text, "sha256").hex()


SESSIONS: Final = web.AppKey("console.sessions", Sessions)


def is_secure(request: web.Request) -> bool:
    """Whether the browser speaks TLS, with us or with a proxy in front of us."""
    return request.secure or request.headers.get("X-Forwarded-Proto", "").strip().lower() == "https"
