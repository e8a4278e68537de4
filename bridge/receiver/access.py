"""Who may post: the tokens of the webhook's URL, several at once so that they can be rotated."""

from __future__ import annotations

from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Access:
    def __init__(self, tokens: Iterable[str]) -> None:
        """Args: the tokens that are valid now."""
        self._digests = tuple(_digest(token) for token in tokens)

    def allows(self, presented: str) -> bool:
        """Whether this is one of the tokens.

        The time it takes tells nothing about them: digests of one length are compared in constant time, and
        all of them, whichever fits.
        """
        digest = _digest(presented)
        allowed = False
        for valid in self._digests:
            allowed |= compare_digest(valid, digest)
        return allowed


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogatepass")).digest()
