"""Checks the token in the webhook's URL. Several can be valid at once, so that they can be rotated."""

from __future__ import annotations

from hashlib import blake2s
from hmac import compare_digest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bridge.telemetry.metrics import Metrics


class Access:
    """The tokens that are valid now."""

    def __init__(self, tokens: Iterable[str], metrics: Metrics | None = None) -> None:
        """Start with these tokens.

        Args:
            tokens: those that are valid now, the newest first.
            metrics: count the tokens, and how many requests had the first, or another.
        """
        self._digests: tuple[bytes, ...] = ()
        self._metrics = metrics
        self._first, self._other = (
            None if metrics is None else metrics.buffered_counter(metrics.admitted.labels(token))
            for token in ("first", "other")
        )
        self.replace_tokens(tokens)

    @property
    def token_count(self) -> int:
        """How many tokens are valid."""
        return len(self._digests)

    def replace_tokens(self, tokens: Iterable[str]) -> None:
        """From now on these are valid, and no others. Args: the newest first."""
        self._digests = tuple(_digest(token) for token in tokens)
        if self._metrics is not None:
            self._metrics.tokens.set(len(self._digests))

    def allows(self, presented: str) -> bool:
        """Whether this is one of the tokens; counted if it is.

        The duration reveals nothing about them: digests of one length are compared in constant time, and always all
        of them.
        """
        digest = _digest(presented)
        fits = [compare_digest(valid, digest) for valid in self._digests]
        if True not in fits:
            return False
        if (counter := self._first if fits[0] else self._other) is not None:
            counter.count += 1
        return True


def _digest(token: str) -> bytes:
    return blake2s(token.encode("utf-8", "surrogatepass")).digest()
