"""Who asks: bearer tokens with a name and scopes, several at once, and a limit for the rate of each name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING, Final

from aiolimiter import AsyncLimiter

from bridge.api.problems import INSUFFICIENT_SCOPE, RATE_LIMITED, UNAUTHORIZED, ProblemError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bridge.settings.api_section import ApiToken

_SCHEME: Final = "bearer"
_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="bridge"'}


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever has presented a valid token."""

    name: str
    scopes: frozenset[str]

    @property
    def actor(self) -> str:
        """The name in the change log."""
        return f"api:{self.name}"

    def may(self, scope: str) -> bool:
        """Whether the token has this scope."""
        return scope in self.scopes

    def require(self, scope: str, purpose: str = "this") -> None:
        """Nothing if the token has this scope.

        Args:
            scope: one of `api_section.SCOPES`.
            purpose: what needs it, for the message.

        Raises:
            ProblemError: it does not have it.
        """
        if scope not in self.scopes:
            raise ProblemError(
                INSUFFICIENT_SCOPE,
                f"the token '{self.name}' has the scopes {', '.join(sorted(self.scopes))}, and {purpose} needs '{scope}'",
            )


class Access:
    """The tokens that are valid now."""

    def __init__(self, tokens: Iterable[ApiToken], *, rate: float) -> None:
        """Start with these tokens.

        Args:
            tokens: those that are valid now.
            rate: requests a second for each name. Two tokens of one name, as during a rotation, share it.
        """
        self._rate = rate
        self._valid: tuple[tuple[bytes, Caller], ...] = ()
        self._limiters: dict[str, AsyncLimiter] = {}
        self.replace_tokens(tokens)

    @property
    def token_count(self) -> int:
        """How many tokens are valid."""
        return len(self._valid)

    def replace_tokens(self, tokens: Iterable[ApiToken]) -> None:
        """From now on these are valid, and no others."""
        self._valid = tuple((_digest(one.token), Caller(one.name, one.scopes)) for one in tokens)
        names = {caller.name for _, caller in self._valid}
        self._limiters = {name: self._limiters.get(name) or self._limiter() for name in names}

    def identify(self, authorization: str | None) -> Caller:
        """The caller with this `Authorization` header.

        The duration reveals nothing about the tokens: digests of one length are compared in constant time, and always all.

        Raises:
            ProblemError: there is no token in it, or it is not valid.
        """
        scheme, _, presented = (authorization or "").partition(" ")
        presented = presented.strip()
        if scheme.lower() != _SCHEME or not presented:
            raise ProblemError(
                UNAUTHORIZED,
                "send one of api.tokens, as in `Authorization: Bearer TOKEN`",
                headers=_CHALLENGE,
            )
        digest = _digest(presented)
        caller = self.caller_with(lambda valid: compare_digest(valid, digest))
        if caller is None:
            raise ProblemError(
                UNAUTHORIZED,
                "the token is not valid: it is misspelt, or it was taken away",
                headers={"WWW-Authenticate": f'{_CHALLENGE["WWW-Authenticate"]}, error="invalid_token"'},
            )
        return caller

    def digest_of(self, token: str) -> bytes | None:
        """What stands for this token, if it is valid; it does not reveal the token, and is to be kept secret all the same."""
        digest = _digest(token)
        return None if self.caller_with(lambda valid: compare_digest(valid, digest)) is None else digest

    def caller_with(self, fits: Callable[[bytes], bool]) -> Caller | None:
        """Whoever has the valid token whose digest fits. All are looked at, so that the duration reveals nothing."""
        fitting = [caller for valid, caller in self._valid if fits(valid)]
        return fitting[0] if fitting else None

    async def take_turn(self, caller: Caller) -> None:
        """Count one request of this caller.

        Raises:
            ProblemError: it has used up its rate; the answer says when to come again.
        """
        limiter = self._limiters[caller.name]
        if not limiter.has_capacity():
            seconds = math.ceil(1 / self._rate)
            raise ProblemError(
                RATE_LIMITED,
                f"the token '{caller.name}' may send {self._rate:g} requests a second; ask for many addresses in one",
                headers={"Retry-After": str(seconds)},
            )
        await limiter.acquire()

    def _limiter(self) -> AsyncLimiter:
        # The bucket must hold one whole request, however low the rate is.
        bucket = max(self._rate, 1.0)
        return AsyncLimiter(bucket, bucket / self._rate)


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogatepass")).digest()
