"""Posts events as the provider does: the exact format of the body, the order of a batch, the request."""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import aiohttp


_HEADERS: Final = {"Content-Type": "application/json"}


class NoWebhookError(LookupError):
    """No webhook URL is set."""


@dataclass(frozen=True, slots=True)
class Emission:
    """An event to post. The timestamp is in Unix seconds; None is now."""

    name: str
    message_id: int
    timestamp: int | None = None
    data: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class WebhookReply:
    """The answer of a webhook."""

    status: int
    document: Mapping[str, Any]
    """The body; empty if it is not a JSON object."""


def event_body(name: str, message_id: int, timestamp: int, data: Mapping[str, Any]) -> bytes:
    """The body of an event, byte for byte as on the provider's webhook page. The timestamp is in Unix seconds."""
    event = {"name": name, "timestamp": timestamp, "data": data}
    return json.dumps({"message": {"id": message_id}, "event": event}, ensure_ascii=False).encode()


def arrange_batch(events: Iterable[Emission], *, shuffle: int | None, repeat: int) -> list[Emission]:
    """Each event `repeat` times, in their order, or shuffled with the seed `shuffle`."""
    batch = [event for event in events for _ in range(repeat)]
    if shuffle is not None:
        Random(shuffle).shuffle(batch)  # noqa: S311 -- a reproducible order, not a secret
    return batch


async def post(session: aiohttp.ClientSession, url: str | None, body: bytes) -> int:
    """POST an event; returns the status of the answer.

    Raises:
        NoWebhookError: there is no URL.
        aiohttp.ClientError, TimeoutError: there was no answer.
    """
    if url is None:
        raise NoWebhookError("no webhook URL is set; POST one to /v1/email/webhook first")
    async with session.post(url, data=body, headers=_HEADERS, allow_redirects=False) as response:
        return response.status


async def post_and_read(session: aiohttp.ClientSession, url: str, body: bytes) -> WebhookReply:
    """POST any body; returns the answer.

    Raises:
        aiohttp.ClientError, TimeoutError: there was no answer.
    """
    async with session.post(url, data=body, headers=_HEADERS, allow_redirects=False) as response:
        text = await response.read()
        try:
            document = json.loads(text)
        except ValueError:
            document = None
        return WebhookReply(response.status, document if isinstance(document, dict) else {})
