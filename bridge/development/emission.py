"""The provider's events as it posts them: the body's exact shape, the order of a batch, the POST itself."""

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
    """No webhook URL is set, so there is nowhere to post an event to."""


@dataclass(frozen=True, slots=True)
class Emission:
    """An event to post. The timestamp is in Unix seconds, now if there is none."""

    name: str
    message_id: int
    timestamp: int | None = None
    data: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """Of whoever is posted to."""

    status: int
    document: Mapping[str, Any]
    """What the body says; empty where that is no JSON object."""


def event_body(name: str, message_id: int, timestamp: int, data: Mapping[str, Any]) -> bytes:
    """The body as the provider's webhook page writes it, to the byte."""
    event = {"name": name, "timestamp": timestamp, "data": data}
    return json.dumps({"message": {"id": message_id}, "event": event}, ensure_ascii=False).encode()


def arranged(events: Iterable[Emission], *, shuffle: int | None, repeat: int) -> list[Emission]:
    """The batch with each event `repeat` times, in an order that the seed `shuffle` decides, if there is one."""
    batch = [event for event in events for _ in range(repeat)]
    if shuffle is not None:
        Random(shuffle).shuffle(batch)  # noqa: S311 -- an order to be had again, not a secret
    return batch


async def post(session: aiohttp.ClientSession, url: str | None, body: bytes) -> int:
    """POST an event; returns the status that was answered.

    Raises:
        NoWebhookError: there is no URL.
        aiohttp.ClientError, TimeoutError: there was no answer.
    """
    if url is None:
        raise NoWebhookError("no webhook URL is set; POST one to /v1/email/webhook first")
    async with session.post(url, data=body, headers=_HEADERS, allow_redirects=False) as response:
        return response.status


async def ask(session: aiohttp.ClientSession, url: str, body: bytes) -> Reply:
    """POST any body, and read what is answered.

    Raises:
        aiohttp.ClientError, TimeoutError: there was no answer.
    """
    async with session.post(url, data=body, headers=_HEADERS, allow_redirects=False) as response:
        text = await response.read()
        try:
            document = json.loads(text)
        except ValueError:
            document = None
        return Reply(response.status, document if isinstance(document, dict) else {})
