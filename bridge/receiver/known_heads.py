"""Remembers heads of requests: one that comes again, byte for byte, need not be parsed again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from aiohttp import StreamReader
    from aiohttp.http import RawRequestMessage
    from multidict import CIMultiDictProxy

_END: Final = b"\r\n\r\n"
_MAX_HEADS: Final = 512
"""A sender has one head for each length of a body, and the proxies in front of the receiver may multiply that."""
_LONGEST_HEAD: Final = 2048
"""Bytes. With the limit above the heads take a few megabytes at most."""


class KnownHead(NamedTuple):
    """What the parser has read from a head."""

    path: str
    headers: CIMultiDictProxy[str]
    body_at: int
    """Length of the head."""
    end: int
    """Length of the request."""


class KnownHeads:
    """The heads of requests that took the fast path at least twice. All connections of a server share them.

    A proxy may give each request an id of its own. So of a head that has come once only its hash is kept.
    """

    def __init__(self) -> None:
        self._heads: dict[bytes, KnownHead] = {}
        self._came_once: set[int] = set()

    def of(self, data: bytes) -> KnownHead | None:
        """The head of this request; None if it is not known, or these bytes are not one whole request.

        Args:
            data: that begins with a request.
        """
        known = self._heads.get(data[: data.find(_END) + len(_END)])
        return known if known is not None and known.end == len(data) else None

    def learn(self, data: bytes, request: RawRequestMessage, content: StreamReader) -> bool:
        """Learn the head of a request that has been parsed, if it comes for the second time.

        Args:
            data: that the parser was given last. It may begin, or end, within another request.
            request: the only request whose head ended in it.
            content: its whole body.

        Returns:
            Whether the next bytes are known to begin a new request.
        """
        head = data[: data.find(_END) + len(_END)]
        if head not in self._heads and (len(head) > _LONGEST_HEAD or self._comes_first(head)):
            return False
        if not _is_one_request(data, head, request, content):
            return False
        if len(self._heads) >= _MAX_HEADS:
            self._heads.clear()
        self._heads[head] = KnownHead(request.path, request.headers, len(head), len(data))
        return True

    def _comes_first(self, head: bytes) -> bool:
        key = hash(head)
        if key in self._came_once:
            return False
        if len(self._came_once) >= _MAX_HEADS:
            self._came_once.clear()
        self._came_once.add(key)
        return True


def _is_one_request(data: bytes, head: bytes, request: RawRequestMessage, content: StreamReader) -> bool:
    """Whether the data is this request, and nothing else.

    If the parser had the beginning of the head before, the method or lines are missing here. If the head ended elsewhere,
    there is another number of lines, or the lengths do not add up.
    """
    lines = 1 + len(request.raw_headers) + 1
    return (
        not request.chunked
        and request.compression is None
        and len(head) + content.total_bytes == len(data)
        and head.startswith(b"POST ")
        and head.count(b"\n") == head.count(b"\r\n") == lines
    )
