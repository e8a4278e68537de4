"""The ways of the network between the parts of the stack: each goes through a proxy of its own, and can be broken alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from tests.support.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AsyncExitStack

_SILENT: Final = {
    "silent": ("to_server", "to_client"),
    "silent out": ("to_server",),
    "silent in": ("to_client",),
}


class Way:
    """From one part to another; to a cluster, to each of its nodes."""

    def __init__(self, name: str, proxies: Sequence[Proxy]) -> None:
        self.name = name
        self.lock = asyncio.Lock()
        self._proxies = proxies

    @classmethod
    async def to(cls, name: str, urls: Sequence[str], stack: AsyncExitStack) -> Way:
        """A way to these servers, for as long as the stack is open."""
        return cls(name, [await stack.enter_async_context(Proxy.serve(url)) for url in urls])

    def urls(self, urls: Sequence[str]) -> list[str]:
        """The same URLs, along this way."""
        return [proxy.url(url) for proxy, url in zip(self._proxies, urls, strict=True)]

    def cut(self, how: str) -> None:
        """Until `mend`. Args: how: `reset` (once, all connections), `refused`, `silent`, `silent out`, `silent in`."""
        for proxy in self._proxies:
            if how == "reset":
                proxy.cut()
            elif how == "refused":
                proxy.refuse()
            else:
                for direction in _SILENT[how]:
                    getattr(proxy, direction).pause()

    def slow(self, seconds: float) -> None:
        """Each piece is under way for so long, in both directions, until `mend`."""
        for proxy in self._proxies:
            proxy.delay(seconds)

    def mend(self) -> None:
        """Nothing is wrong with it any more. What was silent is cut: no firewall remembers it."""
        for proxy in self._proxies:
            proxy.accept()
            proxy.delay(0.0)
            if proxy.silent:
                proxy.cut()
            proxy.resume()
